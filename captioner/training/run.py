"""Train a run: read its configuration, write config.yaml, metrics.csv and checkpoints/."""

import sys
from contextlib import nullcontext
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import lightning as L
import yaml
from lightning.pytorch.loggers import Logger

from captioner.build import search_options
from captioner.config.schema import Config
from captioner.console import say
from captioner.datasets.division import splits_table
from captioner.errors import CaptionerError, UsageError
from captioner.features.prepare import Prepared, load_prepared
from captioner.files.atomic import write_whole
from captioner.files.folder_lock import held_folder
from captioner.inference.strategy import check_beam
from captioner.model.kernels.linear import use_library
from captioner.training.callbacks import Beginning
from captioner.training.checkpoints import RunCheckpoints
from captioner.training.datamodule import CaptionDataModule
from captioner.training.failures import InterruptedRunError, TerminatedError, explained
from captioner.training.finetune import described, inherit, keep_start
from captioner.training.hardware import check_hardware
from captioner.training.lightning_module import TrainingModule
from captioner.training.lightning_setup import is_rank_zero, quiet_lightning
from captioner.training.parts import (
    build_callbacks,
    build_checkpoints,
    build_data,
    build_loggers,
    build_module,
    build_trainer,
)
from captioner.training.resume import Start, start_of
from captioner.training.resume_checks import read_resumed
from captioner.training.run_files import (
    best_checkpoint,
    last_checkpoint,
    resume_command,
    to_resume,
)
from captioner.training.stages import begin_score


def train(config: Config, resume: Path | None = None, initial: Path | None = None) -> Path:
    """Train a captioner on prepared features and a prepared vocabulary.

    A run has one stage, cross-entropy, and optionally a second one that trains on the score from
    the best checkpoint of the first; see `captioner.training.stages`.

    Args:
        config: Configuration of the run.
        resume: Checkpoint of the same run to resume from.
        initial: Checkpoint whose weights initialise a new run; ignored when resuming.

    Returns:
        The checkpoint with the best validation score.

    Raises:
        UsageError: The output folder holds another run, or a checkpoint does not fit.
        CaptionerError: A split is empty, a feature is missing or stale, or the run failed; the
            message names the last good checkpoint.
        TerminatedError: The process received SIGTERM or Ctrl-C; a checkpoint was written.
    """
    only_score = config.objective.name == "self_critical"
    started = resume or initial or config.finetune.checkpoint
    if only_score and started is None:
        raise UsageError(
            "objective.name self_critical: needs a trained network; name its checkpoint with "
            "--initial, or start with objective.name cross_entropy"
        )
    quiet_lightning()
    check_hardware(config.trainer)
    output = Path(config.output)
    with held_folder(output, "training run") if is_rank_zero() else nullcontext():
        if resume is None and is_rank_zero():
            to_resume(output, None)  # refuses a folder that holds a run
        train_stages(config, resume, initial, only_score=only_score)
    last, best = last_checkpoint(output), best_checkpoint(output)
    return best if best.is_file() else last


def train_stages(
    config: Config, resume: Path | None, initial: Path | None, *, only_score: bool
) -> None:
    """Train the remaining part of both stages.

    Raises:
        UsageError: See `train`.
        CaptionerError: See `train`.
        TerminatedError: See `train`.
    """
    L.seed_everything(config.seed, workers=True, verbose=False)
    use_library(None)  # a run before this one may have been resumed with another
    inherited = None
    if config.finetune.checkpoint is not None:
        if resume is not None:
            read_resumed(resume, config)  # a damaged one is reported as such
        inherited = inherit(config, resume or Path(config.finetune.checkpoint))
        say(described(config))
    prepared = load_prepared(config, inherited, compute=inherited is not None and is_rank_zero())
    check_prepared(prepared, config)
    start = start_of(resume, config, prepared)
    train_both(config, prepared, start, initial, only_score=only_score)
    if config.finetune.keep and is_rank_zero():
        keep_start(best_checkpoint(Path(config.output)), config.finetune.keep)


def train_both(
    config: Config, prepared: Prepared, start: Start, initial: Path | None, *, only_score: bool
) -> None:
    """Train the remaining part of both stages, from prepared data; see `train_stages`."""
    last, best = last_checkpoint(Path(config.output)), best_checkpoint(Path(config.output))
    loggers = None
    if start.stage.name == "cross_entropy":
        trainer = train_stage(config, prepared, start, initial=initial, skip=only_score)
        if config.score.epochs == 0:
            return
        if trainer.is_global_zero:
            begin_score(last, best, config.score.sharpen)
        trainer.strategy.barrier()
        start, loggers = start_of(last, config, prepared), trainer.loggers
    train_stage(config, prepared, start, loggers)


def train_stage(
    config: Config,
    prepared: Prepared,
    start: Start,
    loggers: list[Logger] | None = None,
    initial: Path | None = None,
    *,
    skip: bool = False,
) -> L.Trainer:
    """Train to the end of a stage.

    Args:
        config: Configuration of the run.
        prepared: Its data.
        start: Where the run starts, including the stage.
        loggers: Loggers of the previous stage, which this one continues; None opens new ones.
        initial: Checkpoint whose weights initialise a new run.
        skip: Only validate these weights, and save them as the first and best checkpoint.

    Raises:
        UsageError: `initial` does not fit.
        CaptionerError: See `train`.
        TerminatedError: See `train`.
    """
    checkpoints = build_checkpoints(config)
    module = build_module(config, prepared, start, checkpoints, initial)
    data = build_data(config, prepared)
    callbacks = build_callbacks(config, prepared, start, checkpoints, data)
    # Called when training begins, so that a refused run changes nothing on disk.
    callbacks.append(Beginning(lambda: begin(config, prepared, start)))
    loggers = loggers or build_loggers(config, start)
    trainer = build_trainer(config, start.stage, callbacks, loggers)
    if skip and start.checkpoint is None:
        if trainer.is_global_zero:
            begin(config, prepared, start)
        trainer.validate(module, data, verbose=False)
        checkpoints.save(trainer)
    elif not skip:
        fit(trainer, module, data, start, checkpoints)
    return trainer


def check_prepared(prepared: Prepared, config: Config) -> None:
    """Refuse data that cannot be used for training.

    Raises:
        UsageError: The beam of the validation search is too wide for the vocabulary.
        CaptionerError: A split is empty.
    """
    for split in ("train", "val"):
        if not prepared.records[split]:
            raise CaptionerError(f"{config.data.root}: the {split} split has no usable photo")
    check_beam(search_options(config.search), len(prepared.vocabulary))


def begin(config: Config, prepared: Prepared, start: Start) -> None:
    """Write the files that describe the run: config.yaml, vocabulary.txt and splits.csv."""
    output = Path(config.output)
    write_config(config, output / "config.yaml")
    prepared.vocabulary.save(output / "vocabulary.txt")
    if config.data.split is not None:
        write_whole(output / "splits.csv", splits_table(chain(*prepared.records.values())))
    if start.checkpoint is None:
        best_checkpoint(output).unlink(missing_ok=True)  # of a run killed before its last.ckpt


def fit(
    trainer: L.Trainer,
    module: TrainingModule,
    data: CaptionDataModule,
    start: Start,
    checkpoints: RunCheckpoints,
) -> None:
    """Train until the run ends or fails.

    Raises:
        CaptionerError: The run failed; the message names the last good checkpoint.
        TerminatedError: The process received SIGTERM or Ctrl-C; a checkpoint was written.
    """
    try:
        trainer.fit(module, data, ckpt_path=start.checkpoint, weights_only=True)
        # A finished run that resumes in another folder needs its checkpoint there too.
        if not trainer.strategy.broadcast(checkpoints.last.is_file()):
            checkpoints.save(trainer)
        checkpoints.end_if_asked(trainer)
    except TerminatedError:
        if not trainer.is_global_zero:
            sys.exit(0)  # rank 0 reports; another exit code here would make the launcher kill it
        raise
    except SystemExit as error:  # Lightning's form of a Ctrl-C outside the training loop
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        last = checkpoints.last
        hint = f"; resume with: {resume_command(last)}" if last.is_file() else ""
        raise InterruptedRunError(f"interrupted{hint}") from error
    except Exception as error:
        reason = explained(error, checkpoints.last, checkpoints.saved_step)
        if reason is None and start.checkpoint is not None and not checkpoints.begun:
            short = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            reason = UsageError(f"--resume: {start.checkpoint} does not fit this run: {short}")
        if reason is None:
            raise
        raise reason from error


def write_config(config: Config, path: Path) -> None:
    """Write the resolved configuration as YAML, which `--config` can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)
    write_whole(path, text)

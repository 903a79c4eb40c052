"""One training run: from a configuration to config.yaml, metrics.csv and checkpoints/."""

import sys
from dataclasses import asdict
from pathlib import Path

import lightning as L
import yaml

from captioner.build import search_options
from captioner.config.schema import Config
from captioner.errors import CaptionerError
from captioner.features.prepare import Prepared, load_prepared
from captioner.files.atomic import write_whole
from captioner.inference.generator import check_beam
from captioner.training.checkpoints import RunCheckpoints
from captioner.training.datamodule import CaptionDataModule
from captioner.training.failures import TerminatedError, explained
from captioner.training.lightning_module import CaptioningModule
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
from captioner.training.run_files import best_checkpoint, last_checkpoint, to_resume


def train(config: Config, resume: Path | None = None) -> Path:
    """Train a captioner; features and vocabulary must have been prepared.

    Args:
        config: the run.
        resume: a checkpoint of the same run to resume from.

    Returns:
        The checkpoint with the best validation score.

    Raises:
        UsageError: the output folder holds another run, or the checkpoint does not fit.
        CaptionerError: a split is empty, a feature is missing or stale, or the run had to end; the
            message names the last good checkpoint.
        TerminatedError: the process was asked to end, and a checkpoint was written.
    """
    if resume is None and is_rank_zero():
        to_resume(Path(config.output), None)  # (refuses a folder that holds a run)
    quiet_lightning()
    L.seed_everything(config.seed, workers=True, verbose=False)
    prepared = load_prepared(config)
    check_prepared(prepared, config)
    start = start_of(resume, prepared)
    checkpoints = build_checkpoints(config)
    module = build_module(config, prepared, start, checkpoints)
    data = build_data(config, prepared)
    callbacks = build_callbacks(config, prepared, start, checkpoints, data)
    loggers = build_loggers(config, start)
    begin(config, prepared, start)
    trainer = build_trainer(config, callbacks, loggers)
    fit(trainer, module, data, start, checkpoints)
    last, best = last_checkpoint(Path(config.output)), best_checkpoint(Path(config.output))
    return best if best.is_file() else last


def check_prepared(prepared: Prepared, config: Config) -> None:
    """Refuse data that cannot be trained on.

    Raises:
        UsageError: validation would search with a beam that is too wide for the vocabulary.
        CaptionerError: a split is empty.
    """
    for split in ("train", "val"):
        if not prepared.records[split]:
            raise CaptionerError(f"{config.data.root}: the {split} split has no usable photo")
    check_beam(search_options(config.search), len(prepared.vocabulary))


def begin(config: Config, prepared: Prepared, start: Start) -> None:
    """Write what describes the run: config.yaml and vocabulary.txt."""
    if not is_rank_zero():
        return
    output = Path(config.output)
    write_config(config, output / "config.yaml")
    prepared.vocabulary.save(output / "vocabulary.txt")
    if start.checkpoint is None:
        best_checkpoint(output).unlink(missing_ok=True)  # of a run that ended before its last.ckpt


def fit(
    trainer: L.Trainer,
    module: CaptioningModule,
    data: CaptionDataModule,
    start: Start,
    checkpoints: RunCheckpoints,
) -> None:
    """Train to the end, or to the error that ends the run.

    Raises:
        CaptionerError: the run had to end; the message names the last good checkpoint.
        TerminatedError: the process was asked to end, and a checkpoint was written.
    """
    try:
        trainer.fit(module, data, ckpt_path=start.checkpoint, weights_only=True)
        checkpoints.end_if_asked(trainer)
    except TerminatedError:
        if not trainer.is_global_zero:
            sys.exit(0)  # the first process speaks for all; another's code would have it killed
        raise
    except Exception as error:
        reason = explained(error, checkpoints.last, checkpoints.saved_step)
        if reason is None:
            raise
        raise reason from error


def write_config(config: Config, path: Path) -> None:
    """The resolved configuration as YAML; `--config` reads it back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)
    write_whole(path, text)

"""One training run: from a configuration to config.yaml, metrics.csv and checkpoints/."""

import logging
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from captioner import checkpoint
from captioner.build import build_captioner, search_options
from captioner.config.schema import Config, OptimizationConfig
from captioner.errors import CaptionerError, UsageError
from captioner.features.prepare import Prepared, load_prepared, say
from captioner.files.atomic import write_whole
from captioner.inference.generator import check_beam
from captioner.model.captioner import Captioner
from captioner.text.vocabulary import Vocabulary
from captioner.text.word_vectors import read_vectors
from captioner.training.callbacks import SampleCaptions, Throughput
from captioner.training.checkpoints import DurableCheckpointIO, RunCheckpoints
from captioner.training.csv_log import CSVLog
from captioner.training.datamodule import CaptionDataModule
from captioner.training.failures import TerminatedError, explained
from captioner.training.gradient_watch import GradientWatch, probe_captions
from captioner.training.lightning_module import CaptioningModule
from captioner.training.optimizers import build_optimizer, build_schedules
from captioner.training.run_files import best_checkpoint, last_checkpoint, to_resume
from captioner.training.wandb_log import new_run_id, open_wandb_log

SAMPLES = 8
"""Validation pictures shown with their captions."""


def train(config: Config, resume: Path | None = None) -> Path:
    """Train a captioner; features and vocabulary must have been prepared.

    Args:
        config: the run.
        resume: a checkpoint of the same run to go on from.

    Returns:
        The checkpoint with the best validation score.

    Raises:
        UsageError: the output folder holds another run, or the checkpoint does not fit.
        CaptionerError: a split is empty, a feature is missing or stale, or the run had to end; the
            message names the last good checkpoint.
        TerminatedError: the process was asked to end, and a checkpoint was written.
    """
    output = Path(config.output)
    last, best = last_checkpoint(output), best_checkpoint(output)
    if resume is None and is_rank_zero():
        to_resume(output, None)  # (refuses a folder that holds a run)
    quiet_lightning()
    L.seed_everything(config.seed, workers=True, verbose=False)
    prepared = load_prepared(config)
    for split in ("train", "val"):
        if not prepared.records[split]:
            raise CaptionerError(f"{config.data.root}: the {split} split has no usable photo")
    check_beam(search_options(config.search), len(prepared.vocabulary))
    resume_step, run_id = None, new_run_id()
    if resume is not None:
        resume_step, known_id = check_resume(resume, prepared)
        run_id = known_id or run_id

    captioner = build_captioner(config, prepared.encoder, vocab_size=len(prepared.vocabulary))
    if config.decoder.vectors is not None and resume is None:
        load_vectors(captioner, prepared.vocabulary, Path(config.decoder.vectors))
    monitor, mode = monitored(config.optimization)
    checkpoints = RunCheckpoints(
        last,
        best,
        monitor=monitor,
        mode=mode,
        every_steps=config.checkpoint.every_steps,
        seed=config.seed,
    )
    contents = checkpoint.contents(captioner, prepared.vocabulary, prepared.transform, config)
    module = CaptioningModule(
        captioner,
        vocabulary=prepared.vocabulary,
        references={record.image_id: record.captions for record in prepared.records["val"]},
        search=search_options(config.search),
        optimizers=lambda module: configure_optimizers(module, config),
        contents={**contents, "wandb_run": run_id},
        label_smoothing=config.optimization.label_smoothing,
        skip_not_finite=config.optimization.on_nonfinite == "skip",
        between_steps=checkpoints.between_steps,
    )
    data = CaptionDataModule(
        prepared.records["train"],
        prepared.records["val"],
        prepared.source,
        prepared.vocabulary,
        max_length=config.vocabulary.max_length,
        batch_size=config.data.batch_size,
        workers=config.data.workers,
        seed=config.seed,
        backward=captioner.backward,
    )
    callbacks: list[Callback] = [
        checkpoints,
        LearningRateMonitor(logging_interval="step"),
        Throughput(),
        SampleCaptions(prepared.records["val"][:SAMPLES]),
    ]
    if config.watch.gradient_every is not None:
        callbacks.append(
            GradientWatch(
                probe_captions(
                    data.val_images, config.watch.gradient_captions, config.watch.gradient_steps
                ),
                every=config.watch.gradient_every,
                folder=output,
                resume_step=resume_step,
            )
        )
    if config.optimization.patience is not None:
        patience = config.optimization.patience
        callbacks.append(EarlyStopping(monitor, mode=mode, patience=patience))
    loggers: list[Logger] = [CSVLog(output / "metrics.csv", resume_step)]
    about = {name: getattr(config.wandb, name) for name in ("project", "group", "tags")}
    wandb_log = open_wandb_log(
        output,
        mode=config.wandb.mode,
        run_id=run_id,
        resumed=resume is not None,
        name=config.wandb.name or output.name,
        **about,
    )
    if wandb_log is not None:
        wandb_log.log_hyperparams(asdict(config))
        loggers.append(wandb_log)
    if is_rank_zero():
        write_config(config, output / "config.yaml")
        prepared.vocabulary.save(output / "vocabulary.txt")
        if resume is None:
            best.unlink(missing_ok=True)  # of a run that ended before it had a last.ckpt
    trainer = L.Trainer(
        **asdict(config.trainer),
        callbacks=callbacks,
        logger=loggers,
        plugins=plugins(),
        default_root_dir=output,
        use_distributed_sampler=False,  # the data module's batches know better
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    try:
        trainer.fit(module, data, ckpt_path=resume, weights_only=True)
        checkpoints.end_if_asked(trainer)
    except TerminatedError:
        if not trainer.is_global_zero:
            sys.exit(0)  # the first process speaks for all; another's code would have it killed
        raise
    except Exception as error:
        reason = explained(error, last, checkpoints.saved_step)
        if reason is None:
            raise
        raise reason from error
    return best if best.is_file() else last


def plugins() -> list[Any]:
    """How checkpoints reach the disk; and under SLURM, that `scripts/train_slurm.sh` queues again.

    Lightning would save in the middle of a step, under a name of its own.
    """
    slurm = [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
    return [DurableCheckpointIO(), *slurm]


def load_vectors(captioner: Captioner, vocabulary: Vocabulary, path: Path) -> None:
    """Start the embeddings from a file; says how many words it knew.

    Raises:
        UsageError: the file is missing, or does not fit.
        CaptionerError: it knows no word of the vocabulary.
    """
    weight = captioner.decoder.embedding.weight.detach()
    found = read_vectors(path, vocabulary.words, weight.shape[1])
    weight[found.rows] = found.vectors
    known = len(found.rows) + len(found.missing)
    without = f"; without one: {', '.join(found.missing[:8])} …" if found.missing else ""
    say(f"word vectors: {len(found.rows):,} of {known:,} words are in {path}{without}")


def configure_optimizers(module: CaptioningModule, config: Config) -> OptimizerLRScheduler:
    """Optimiser and schedules; fine-tuned blocks of the encoder have their own learning rate."""
    settings = config.optimization
    groups = [{"params": list(module.captioner.decoder.parameters()), "name": "decoder"}]
    tuned = [w for w in module.captioner.encoder.parameters() if w.requires_grad]
    if tuned:
        rate = config.encoder.learning_rate
        groups.append({"params": tuned, "name": "encoder", "lr": rate})  # type: ignore[dict-item]
    optimizer = build_optimizer(
        settings.optimizer,
        groups,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        fused=config.trainer.precision != "16-mixed",
    )
    monitor, mode = monitored(settings)
    schedules = build_schedules(
        settings.schedule,
        optimizer,
        steps=int(module.trainer.estimated_stepping_batches),
        warmup_steps=settings.warmup_steps,
        monitor=monitor,
        higher_is_better=mode == "max",
        plateau_factor=settings.plateau_factor,
        plateau_patience=settings.plateau_patience,
        validate_every=config.trainer.check_val_every_n_epoch,
    )
    return [optimizer], schedules  # type: ignore[return-value]  # a dictionary does as well


def monitored(settings: OptimizationConfig) -> tuple[str, str]:
    """Logged name of the score that chooses the best checkpoint, and "max" or "min"."""
    return f"val/{settings.monitor}", "min" if settings.monitor == "loss" else "max"


def check_resume(path: Path, prepared: Prepared) -> tuple[int, str | None]:
    """Optimiser step of a checkpoint to be resumed, and W&B's name for its run.

    Raises:
        UsageError: no checkpoint, or one whose vocabulary is another.
    """
    raw = checkpoint.read(path)
    if raw["captioner"]["vocabulary"] != list(prepared.vocabulary.words):
        raise UsageError(
            f"{path}: its vocabulary of {len(raw['captioner']['vocabulary'])} words is not that "
            f"of these captions ({len(prepared.vocabulary)} words); resume with the data and the "
            "vocabulary settings that it was trained with"
        )
    return int(raw["global_step"]), raw["captioner"].get("wandb_run")


def write_config(config: Config, path: Path) -> None:
    """The resolved configuration as YAML; `--config` reads it back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)
    write_whole(path, text)


def is_rank_zero() -> bool:
    """Whether this is the first, or the only, process of the run."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def quiet_lightning() -> None:
    """Leave out hints that do not apply: the settings they speak of were chosen."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*exists and is not empty.*",
        ".*Checkpoint directory.*",
        ".*in eval mode at the start of training.*",  # the frozen encoder
        ".*isinstance.treespec, LeafSpec.*",
        ".*your dataloader is not resumable.*",  # its batches are
        ".*You have overridden `on_before_batch_transfer`.*",
        ".*It is recommended to use `self.log.*sync_dist=True.*",  # the numbers are joined already
        ".*provided in this Trainer run: .*",  # callbacks of checkpoints of older versions
    ):
        warnings.filterwarnings("ignore", message)
    torch.set_float32_matmul_precision("high")

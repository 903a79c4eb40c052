"""One training run: from a configuration to config.yaml, metrics.csv and checkpoints/."""

import logging
import netrc
import os
import warnings
from dataclasses import asdict
from pathlib import Path

import lightning as L
import torch
import yaml
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from captioner import checkpoint
from captioner.assembly import build_captioner, search_options
from captioner.config import Config, OptimizationConfig, WandbConfig
from captioner.data.vocabulary import Vocabulary
from captioner.data.word_vectors import read_vectors
from captioner.errors import CaptionerError, UsageError
from captioner.model.captioner import Captioner
from captioner.preparation import Prepared, load_prepared, say
from captioner.training.callbacks import SampleCaptions, Throughput
from captioner.training.csv_log import CSVLog
from captioner.training.datamodule import CaptionDataModule
from captioner.training.gradient_watch import GradientWatch, probe_captions
from captioner.training.module import CaptioningModule
from captioner.training.optimization import build_optimizer, build_schedules
from captioner.whole_file import write_whole

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
        CaptionerError: a split is empty, or a feature is missing or stale.
    """
    output = Path(config.output)
    checkpoints = output / "checkpoints"
    if resume is None and (checkpoints / "last.ckpt").exists() and is_rank_zero():
        raise UsageError(
            f"output: {output} already holds a run; continue it with "
            f"--resume {checkpoints / 'last.ckpt'}, or choose another --output"
        )
    quiet_lightning()
    L.seed_everything(config.seed, workers=True, verbose=False)
    prepared = load_prepared(config)
    for split in ("train", "val"):
        if not prepared.records[split]:
            raise CaptionerError(f"{config.data.root}: the {split} split has no usable photo")
    resume_step = None if resume is None else check_resume(resume, prepared)

    captioner = build_captioner(config, prepared.encoder, vocab_size=len(prepared.vocabulary))
    if config.decoder.vectors is not None and resume is None:
        load_vectors(captioner, prepared.vocabulary, Path(config.decoder.vectors))
    module = CaptioningModule(
        captioner,
        vocabulary=prepared.vocabulary,
        references={record.image_id: record.captions for record in prepared.records["val"]},
        search=search_options(config.search),
        optimizers=lambda module: configure_optimizers(module, config),
        contents=checkpoint.contents(captioner, prepared.vocabulary, prepared.transform, config),
        label_smoothing=config.optimization.label_smoothing,
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
    monitor, mode = monitored(config.optimization)
    best = ModelCheckpoint(
        dirpath=checkpoints,
        filename="best",
        monitor=monitor,
        mode=mode,
        enable_version_counter=False,
    )
    # Not `save_last=True`: that writes last.ckpt only when the best score has risen.
    last = ModelCheckpoint(dirpath=checkpoints, filename="last", enable_version_counter=False)
    callbacks = [
        best,
        last,  # after the best, whose score it holds
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
    wandb_logger = build_wandb_logger(config.wandb, output)
    if wandb_logger is not None:
        wandb_logger.log_hyperparams(asdict(config))
        loggers.append(wandb_logger)
    if is_rank_zero():
        write_config(config, output / "config.yaml")
        prepared.vocabulary.save(output / "vocabulary.txt")
    trainer = L.Trainer(
        **asdict(config.trainer),
        callbacks=callbacks,
        logger=loggers,
        default_root_dir=output,
        use_distributed_sampler=False,  # the data module's samplers know better
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return Path(best.best_model_path or last.best_model_path)


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
    )
    return [optimizer], schedules  # type: ignore[return-value]  # a dictionary does as well


def monitored(settings: OptimizationConfig) -> tuple[str, str]:
    """Logged name of the score that chooses the best checkpoint, and "max" or "min"."""
    return f"val/{settings.monitor}", "min" if settings.monitor == "loss" else "max"


def check_resume(path: Path, prepared: Prepared) -> int:
    """Optimiser step of a checkpoint to be resumed.

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
    return int(raw["global_step"])


def build_wandb_logger(config: WandbConfig, output: Path) -> WandbLogger | None:
    """The W&B logger; offline where `auto` finds no API key. None where it is disabled."""
    mode = config.mode
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE", "online" if has_wandb_key() else "offline")  # type: ignore[assignment]
    if mode == "disabled":
        return None
    output.mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        save_dir=output,
        offline=mode == "offline",
        project=config.project,
        name=config.name or output.name,
        group=config.group,
        tags=config.tags,
    )


def has_wandb_key() -> bool:
    """Whether an API key is in the environment or where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


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
    ):
        warnings.filterwarnings("ignore", message)
    torch.set_float32_matmul_precision("high")

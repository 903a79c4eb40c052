"""Build the parts of a run from its configuration: network, data, callbacks, loggers, trainer."""

from dataclasses import asdict, replace
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from captioner import checkpoint
from captioner.build import build_captioner, search_options
from captioner.config.schema import Config, OptimizationConfig
from captioner.console import say
from captioner.features.prepare import Prepared
from captioner.model.captioner import Captioner
from captioner.model.new_words import with_new_words
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary
from captioner.text.word_vectors import read_vectors
from captioner.training.callbacks import Throughput
from captioner.training.checkpoints import RunCheckpoints
from captioner.training.csv_log import CSVLog
from captioner.training.datamodule import CaptionDataModule
from captioner.training.gradient_watch import GradientWatch, probe_captions
from captioner.training.lightning_module import TrainingModule
from captioner.training.lightning_setup import plugins
from captioner.training.objectives import CrossEntropy, Objective
from captioner.training.optimizers import build_optimizer, build_schedules
from captioner.training.progress import EpochProgress
from captioner.training.resume import Start, load_initial
from captioner.training.resume_checks import described
from captioner.training.reward import Reward, document_frequencies, with_end
from captioner.training.run_files import best_checkpoint, last_checkpoint
from captioner.training.sample_captions import SampleCaptions
from captioner.training.self_critical import Sampling, SelfCritical, ValidationSamples
from captioner.training.stages import Stage
from captioner.training.wandb_log import open_wandb_log

SAMPLES = 8
"""Number of validation photos logged with their captions."""


def build_module(
    config: Config,
    prepared: Prepared,
    start: Start,
    checkpoints: RunCheckpoints,
    initial: Path | None = None,
) -> TrainingModule:
    """Build the network with its objective, its optimiser and its checkpoint contents.

    Raises:
        UsageError: Word vectors, or the checkpoint `initial` of a new run, do not fit.
    """
    captioner = build_captioner(config, prepared.encoder, vocab_size=len(prepared.vocabulary))
    if config.decoder.vectors is not None and start.checkpoint is None:
        load_vectors(captioner, prepared.vocabulary, Path(config.decoder.vectors))
    if initial is not None and start.checkpoint is None:
        load_initial(captioner, initial, prepared, config)
    inherited = prepared.inherited
    initial_weights = None
    if inherited is not None and start.checkpoint is None:
        first = len(SPECIAL_WORDS)
        weights = with_new_words(inherited.decoder, captioner.decoder, first)
        captioner.decoder.load_state_dict(weights)
        initial_weights = weights if config.finetune.keep else None
    objective, samples = build_objective(config, prepared, start.stage)
    contents = checkpoint.contents(
        captioner,
        prepared.vocabulary,
        prepared.transform,
        config,
        inherited.description if inherited is not None else None,
    )
    return TrainingModule(
        captioner,
        vocabulary=prepared.vocabulary,
        references={record.image_id: record.captions for record in prepared.records["val"]},
        search=search_options(config.search),
        optimizers=lambda module: configure_optimizers(module, config, start.stage),
        contents={
            **contents,
            "wandb_run": start.wandb_run,
            "data": described(prepared.records),
        },
        objective=objective,
        from_photos=prepared.from_photos,
        stage=start.stage,
        samples=samples,
        skip_not_finite=config.optimization.on_nonfinite == "skip",
        between_steps=checkpoints.between_steps,
        start=initial_weights,
    )


def build_objective(
    config: Config, prepared: Prepared, stage: Stage
) -> tuple[Objective, ValidationSamples | None]:
    """Build a stage's objective and, for a run with a score stage, its validation samples."""
    cross_entropy = CrossEntropy(
        config.optimization.label_smoothing,
        config.objective.sampling_probability,
        config.objective.sampling_epochs,
        config.optimization.attention_penalty,
    )
    settings = config.score
    if settings.epochs == 0:
        return cross_entropy, None
    sampling = Sampling(
        settings.samples, settings.temperature, config.search.max_length, config.seed
    )
    references, keys = {}, {}
    for split in ("train", "val"):
        records = prepared.records[split]
        references[split] = with_end(
            {record.image_id: record.captions for record in records},
            prepared.vocabulary.tokenizer,
        )
        keys[split] = {record.image_id: row for row, record in enumerate(records)}
    frequencies = document_frequencies(references["train"])
    rewards = {
        split: Reward(
            given, prepared.vocabulary, frequencies, cider=settings.cider, bleu=settings.bleu
        )
        for split, given in references.items()
    }
    samples = ValidationSamples(rewards["val"], keys["val"], sampling)
    if stage.name == "cross_entropy":
        return cross_entropy, samples
    return SelfCritical(rewards["train"], keys["train"], sampling, settings.baseline), samples


def load_vectors(captioner: Captioner, vocabulary: Vocabulary, path: Path) -> None:
    """Initialise the embeddings from a file of word vectors, and print the number of words found.

    Raises:
        UsageError: The file is missing, or does not fit.
        CaptionerError: The file contains no word of the vocabulary.
    """
    weight = captioner.decoder.embedding.weight.detach()
    found = read_vectors(path, vocabulary.words, weight.shape[1])
    weight[found.rows] = found.vectors
    known = len(found.rows) + len(found.missing)
    without = f"; not found: {', '.join(found.missing[:8])} …" if found.missing else ""
    say(f"word vectors: {len(found.rows):,} of {known:,} words are in {path}{without}")


def configure_optimizers(
    module: TrainingModule, config: Config, stage: Stage
) -> OptimizerLRScheduler:
    """Build the optimiser and its schedules.

    Fine-tuned blocks of the encoder have their own learning rate. The score stage has its own
    learning rate and schedule, without warm-up.
    """
    settings = config.optimization
    steps = int(module.trainer.estimated_stepping_batches)
    if stage.name == "score":
        score = config.score
        settings = replace(
            settings, learning_rate=score.learning_rate, schedule=score.schedule, warmup_steps=0
        )
        steps = steps * score.epochs // (stage.first_epoch + score.epochs)
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
        fused=config.trainer.precision not in ("16-mixed", "16"),
    )
    monitor, mode = monitored(settings)
    schedules = build_schedules(
        settings.schedule,
        optimizer,
        steps=steps,
        warmup_steps=settings.warmup_steps,
        monitor=monitor,
        higher_is_better=mode == "max",
        plateau_factor=settings.plateau_factor,
        plateau_patience=settings.plateau_patience,
        validate_every=config.trainer.check_val_every_n_epoch,
    )
    return [optimizer], schedules  # type: ignore[return-value]  # Lightning accepts dictionaries


def monitored(settings: OptimizationConfig) -> tuple[str, str]:
    """Return the logged name of the score that selects best.ckpt, and "max" or "min"."""
    return f"val/{settings.monitor}", "min" if settings.monitor == "loss" else "max"


def build_data(config: Config, prepared: Prepared) -> CaptionDataModule:
    """Build the data module of the training and validation splits."""
    return CaptionDataModule(
        prepared.records["train"],
        prepared.records["val"],
        prepared.source,
        prepared.vocabulary,
        max_length=config.vocabulary.max_length,
        batch_size=config.data.batch_size,
        workers=config.data.workers,
        seed=config.seed,
        backward=config.decoder.direction == "backward",
        views=prepared.views,
    )


def build_checkpoints(config: Config) -> RunCheckpoints:
    """Build the callback that writes last.ckpt and best.ckpt."""
    output = Path(config.output)
    monitor, mode = monitored(config.optimization)
    return RunCheckpoints(
        last_checkpoint(output),
        best_checkpoint(output),
        monitor=monitor,
        mode=mode,
        every_steps=config.checkpoint.every_steps,
        seed=config.seed,
    )


def build_callbacks(
    config: Config,
    prepared: Prepared,
    start: Start,
    checkpoints: RunCheckpoints,
    data: CaptionDataModule,
) -> list[Callback]:
    """Build the callbacks of a run; a checkpoint holds the states of all of them.

    Raises:
        CaptionerError: No validation caption is long enough to measure the gradient.
    """
    callbacks: list[Callback] = [
        checkpoints,
        LearningRateMonitor(logging_interval="step"),
        Throughput(),
        SampleCaptions(data.val_images, SAMPLES, prepared.transform),
    ]
    watch = config.watch
    if watch.gradient_every is not None:
        captions = probe_captions(data.val_images, watch.gradient_captions, watch.gradient_steps)
        every, folder = watch.gradient_every, Path(config.output)
        callbacks.append(
            GradientWatch(captions, every=every, folder=folder, resume_step=start.step)
        )
    if config.trainer.enable_progress_bar:
        callbacks.append(EpochProgress())
    if config.optimization.patience is not None:
        monitor, mode = monitored(config.optimization)
        patience = config.optimization.patience
        callbacks.append(EarlyStopping(monitor, mode=mode, patience=patience))
    return callbacks


def build_loggers(config: Config, start: Start) -> list[Logger]:
    """Build the loggers: metrics.csv, and W&B unless it is disabled."""
    output = Path(config.output)
    loggers: list[Logger] = [CSVLog(output / "metrics.csv", start.step)]
    wandb_log = open_wandb_log(
        output,
        mode=config.wandb.mode,
        run_id=start.wandb_run,
        resumed=start.checkpoint is not None,
        name=config.wandb.name or output.name,
        project=config.wandb.project,
        group=config.wandb.group,
        tags=config.wandb.tags,
    )
    if wandb_log is not None:
        wandb_log.log_hyperparams(asdict(config))
        loggers.append(wandb_log)
    return loggers


def build_trainer(
    config: Config, stage: Stage, callbacks: list[Callback], loggers: list[Logger]
) -> L.Trainer:
    """Build Lightning's trainer, which trains to the end of the stage."""
    flags = asdict(config.trainer)
    if stage.name == "score":
        flags["max_epochs"] = stage.first_epoch + config.score.epochs
    return L.Trainer(
        **flags,
        callbacks=callbacks,
        logger=loggers,
        plugins=plugins(),
        default_root_dir=config.output,
        use_distributed_sampler=False,  # the data module divides the batches itself
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )

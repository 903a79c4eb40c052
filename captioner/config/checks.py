"""Ranges of settings, and the settings that do not go together.

`check` runs on every configuration: of a command line, of a checkpoint, of a run of a study. What
only training needs to know about its machine is checked in `captioner.config.hardware`.
"""

import math
from dataclasses import is_dataclass
from types import NoneType
from typing import get_args, get_type_hints

from captioner.config.schema import Config, DecoderConfig
from captioner.errors import UsageError

MAX_SEED = 2**32 - 1
"""Largest seed that numpy, and so Lightning, takes."""

MAX_REWARD = 1000
"""Nats of a word's reward, and exponent of a length penalty: far beyond what means anything, and
within what a tensor can hold."""


def check(config: Config) -> None:
    """Refuse values that are out of range or do not go together.

    Raises:
        UsageError: for the first such value, with its name and what would be right.
    """
    check_given(config)
    check_counts(config)
    check_numbers(config)
    check_texts(config)
    check_decoder(config.decoder)
    check_score(config)
    check_attention(config)
    if config.finetune.keep and config.finetune.checkpoint is None:
        raise UsageError("finetune.keep: there is no checkpoint to start from; add --from P")


def check_counts(config: Config) -> None:
    """Refuse whole numbers below their least value.

    Raises:
        UsageError: for the first.
    """
    at_least_one = {
        "data.batch_size": config.data.batch_size,
        "vocabulary.min_count": config.vocabulary.min_count,
        "vocabulary.max_length": config.vocabulary.max_length,
        "encoder.batch_size": config.encoder.batch_size,
        "encoder.views": config.encoder.views,
        "decoder.embedding_size": config.decoder.embedding_size,
        "decoder.hidden_size": config.decoder.hidden_size,
        "decoder.layers": config.decoder.layers,
        "decoder.transition_depth": config.decoder.transition_depth,
        "decoder.attention_size": config.decoder.attention_size,
        "search.beam_size": config.search.beam_size,
        "search.max_length": config.search.max_length,
        "trainer.max_epochs": config.trainer.max_epochs,
        "trainer.num_nodes": config.trainer.num_nodes,
        "trainer.accumulate_grad_batches": config.trainer.accumulate_grad_batches,
        "trainer.check_val_every_n_epoch": config.trainer.check_val_every_n_epoch,
        "trainer.log_every_n_steps": config.trainer.log_every_n_steps,
        "watch.gradient_captions": config.watch.gradient_captions,
        "watch.gradient_steps": config.watch.gradient_steps,
    }
    for name, value in at_least_one.items():
        _require(name, value, value >= 1, "at least 1")
    at_least_one_or_null = {
        "checkpoint.every_steps": config.checkpoint.every_steps,
        "watch.gradient_every": config.watch.gradient_every,
        "encoder.size": config.encoder.size,
        "encoder.resize": config.encoder.resize,
    }
    for name, count in at_least_one_or_null.items():
        _require(name, count, count is None or count >= 1, "at least 1, or null")
    at_least_zero = {
        "data.workers": config.data.workers,
        "decoder.output_depth": config.decoder.output_depth,
        "encoder.workers": config.encoder.workers,
        "objective.sampling_epochs": config.objective.sampling_epochs,
        "score.epochs": config.score.epochs,
        "optimization.warmup_steps": config.optimization.warmup_steps,
        "optimization.plateau_patience": config.optimization.plateau_patience,
        "optimization.patience": config.optimization.patience or 0,
    }
    for name, value in at_least_zero.items():
        _require(name, value, value >= 0, "0 or more")
    size = config.vocabulary.max_size
    _require("vocabulary.max_size", size, size is None or size > 4, "more than 4, or null")
    in_range = 0 <= config.seed <= MAX_SEED
    _require("seed", config.seed, in_range, f"from 0 to {MAX_SEED}")


def check_numbers(config: Config) -> None:
    """Refuse shares, rates and weights out of range.

    Raises:
        UsageError: for the first.
    """
    weights = {
        "score.cider": config.score.cider,
        "score.bleu": config.score.bleu,
        "optimization.weight_decay": config.optimization.weight_decay,
        "optimization.momentum": config.optimization.momentum,
    }
    for name, weight in weights.items():
        _require(name, weight, weight >= 0, "0 or more")
    shares = {
        "decoder.dropout": config.decoder.dropout,
        "decoder.image_dropout": config.decoder.image_dropout,
        "finetune.keep": config.finetune.keep,
        "optimization.label_smoothing": config.optimization.label_smoothing,
        "objective.sampling_probability": config.objective.sampling_probability,
    }
    for name, share in shares.items():
        _require(name, share, 0 <= share < 1, "from 0 up to, but not including, 1")
    rates = {
        "optimization.learning_rate": config.optimization.learning_rate,
        "encoder.learning_rate": config.encoder.learning_rate,
        "score.learning_rate": config.score.learning_rate,
        "score.temperature": config.score.temperature,
        "score.sharpen": config.score.sharpen,
    }
    for name, rate in rates.items():
        _require(name, rate, 0 < rate < math.inf, "more than 0")
    factor = config.optimization.plateau_factor
    _require("optimization.plateau_factor", factor, 0 < factor < 1, "between 0 and 1")
    clip = config.trainer.gradient_clip_val
    _require("trainer.gradient_clip_val", clip, clip is None or clip > 0, "more than 0, or null")
    reward = config.search.word_reward
    right = f"from -{MAX_REWARD} to {MAX_REWARD}"
    _require("search.word_reward", reward, abs(reward) <= MAX_REWARD, right)
    least, most = config.search.min_length, config.search.max_length
    _require("search.min_length", least, 0 <= least <= most, f"from 0 to search.max_length, {most}")
    alpha = config.search.length_alpha
    _require("search.length_alpha", alpha, 0 <= alpha <= MAX_REWARD, f"from 0 to {MAX_REWARD}")


def check_texts(config: Config) -> None:
    """Refuse empty paths and device names that are no number.

    Raises:
        UsageError: for the first.
    """
    for name, text in (("output", config.output), ("data.root", config.data.root)):
        _require(name, text, bool(text.strip()), "the path of a folder")
    if config.data.regions is not None and config.encoder.train_from is not None:
        raise UsageError(
            "encoder.train_from: data.regions names region features, so there is no encoder to "
            "fine-tune; set one of them null"
        )
    if config.data.regions is not None and config.encoder.views > 1:
        raise UsageError(
            f"encoder.views {config.encoder.views}: data.regions names region features, so photos "
            "have no other views; set encoder.views 1"
        )
    devices = config.trainer.devices
    known = devices == "auto" if isinstance(devices, str) else devices >= 1
    _require("trainer.devices", devices, known, "a number of devices, at least 1, or auto")


def check_given(settings: object, prefix: str = "") -> None:
    """Refuse null where a setting must have a value, which jsonargparse lets through.

    Raises:
        UsageError: for the first such setting.
    """
    hints = get_type_hints(type(settings))
    for name in hints:
        value = getattr(settings, name)
        if is_dataclass(value):
            check_given(value, f"{prefix}{name}.")
        elif value is None and NoneType not in get_args(hints[name]):
            raise UsageError(f"{prefix}{name}: must have a value, not null")


def check_decoder(decoder: DecoderConfig) -> None:
    """Refuse settings of the decoder that do not go together.

    Raises:
        UsageError: for the first such pair.
    """
    own_settings = (
        ("activation", decoder.activation == "tanh", ("elman", "jordan")),
        ("peepholes", not decoder.peepholes, ("lstm",)),
        ("reset_after", decoder.reset_after, ("gru",)),
        ("teacher", decoder.teacher == "softmax", ("jordan",)),
    )
    for name, untouched, cells in own_settings:
        if not untouched and decoder.cell not in cells:
            value = getattr(decoder, name)
            raise UsageError(
                f"decoder.{name}: {value!r} does not apply to the cell {decoder.cell}, only "
                f"to {' and '.join(cells)}"
            )
    if decoder.residual and decoder.layers == 1:
        raise UsageError("decoder.residual: needs decoder.layers of 2 or more")
    if decoder.tie_embeddings and not decoder.output_depth:
        output = decoder.hidden_size + decoder.embedding_size * (decoder.place == "merge")
        if output != decoder.embedding_size:
            right = "decoder.output_depth 1, whose layer has the embedding's size"
            if decoder.place != "merge":
                right = f"decoder.embedding_size {decoder.hidden_size}, or {right}"
            raise UsageError(
                f"decoder.tie_embeddings: embeddings of {decoder.embedding_size} numbers cannot be "
                f"tied to outputs of {output}; set {right}"
            )


def check_score(config: Config) -> None:
    """Refuse settings of the stage that trains on the score which do not go together.

    Raises:
        UsageError: for the first such pair.
    """
    score = config.score
    least = 2 if score.baseline == "others" else 1
    right = f"at least {least}"
    if least == 2:
        right += ": the baseline of a sample is the mean of the others"
    _require("score.samples", score.samples, least <= score.samples <= 1000, right)
    if config.objective.name == "self_critical" and score.epochs == 0:
        raise UsageError("objective.name: self_critical trains for score.epochs, which is 0")
    if score.epochs == 0:
        return
    if score.cider == score.bleu == 0:
        raise UsageError("score.cider, score.bleu: one of them must be more than 0")
    if score.sharpen != 1 and config.decoder.tie_embeddings:
        raise UsageError(
            f"score.sharpen: {score.sharpen:g} would multiply the embeddings too, which "
            "decoder.tie_embeddings ties to the output weights; set score.sharpen 1"
        )
    if config.optimization.monitor == "loss":
        raise UsageError(
            "optimization.monitor: the loss rises while training on the score; choose CIDEr-D or "
            "BLEU-4, or score.epochs 0"
        )


def check_attention(config: Config) -> None:
    """Refuse settings of attention that do not go together.

    Raises:
        UsageError: for the first such pair.
    """
    decoder, kind = config.decoder, config.decoder.attention
    penalty = config.optimization.attention_penalty
    right = "0 or more"
    _require("optimization.attention_penalty", penalty, 0 <= penalty < math.inf, right)
    if kind == "none":
        if penalty:
            raise UsageError(
                "optimization.attention_penalty: there is no attention; set decoder.attention"
            )
    elif config.encoder.features != "grid" and config.data.regions is None:
        raise UsageError(
            f"decoder.attention: {kind} looks at regions of the image; set encoder.features grid"
        )
    if decoder.attention_gate and kind != "soft":
        raise UsageError(
            f"decoder.attention_gate: belongs to decoder.attention soft, not to {kind}"
        )
    if kind == "top_down" and decoder.layers < 2:
        raise UsageError(
            "decoder.attention: top_down attends between two layers; set decoder.layers 2"
        )
    if kind in ("soft", "top_down") and decoder.place == "merge":
        raise UsageError(
            f"decoder.attention: {kind} shows the image to the recurrence, which decoder.place "
            "merge keeps it from; use spatial or adaptive, or another place"
        )


def _require(name: str, value: object, holds: bool, right: str) -> None:
    if not holds:
        raise UsageError(f"{name}: {value!r} is out of range; it must be {right}")

"""Fine-tune a trained captioner: what a run takes over from a checkpoint, and what must agree.

The vocabulary, encoder, transform and decoder come from the checkpoint. The settings that describe
them become defaults of the run, so that its configuration says what it trains.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from captioner import checkpoint
from captioner.build import detected_format
from captioner.checkpoint.file import WEIGHTS_PREFIX
from captioner.config.schema import Config, DataConfig
from captioner.config.settings import flat
from captioner.console import say
from captioner.datasets.load import DIVISIBLE
from captioner.errors import UsageError, shown
from captioner.features.keyed_encoder import Inherited
from captioner.files.tensors import read_tensors
from captioner.training.checkpoints import move, write_checkpoint

TAKEN_OVER = (
    "encoder.",
    "decoder.",
    "search.",
    "vocabulary.tokenizer",
    "vocabulary.max_length",
)
"""Settings whose defaults are the checkpoint's."""

OWN = (
    "encoder.train_from",
    "encoder.learning_rate",
    "encoder.batch_size",
    "encoder.workers",
    "encoder.views",
    "decoder.vectors",
)
"""Exceptions, which keep their defaults."""

MAY_DIFFER = (*OWN[:-1], "encoder.dtype", "decoder.dropout", "decoder.image_dropout")
"""Settings of encoder and decoder that a run may choose."""

SHARES = "80/10/10"
"""Division of photos without a split, unless `data.split` says otherwise."""


def defaults_from(path: Path) -> dict[str, Any]:
    """Return the settings of a checkpoint that are defaults of a run that starts from it.

    Raises:
        UsageError: There is no such checkpoint.
        CaptionerError: It is damaged, or the package of its encoder is missing.
    """
    theirs = dict(flat(asdict(checkpoint.load(path).config)))
    return {
        name: value
        for name, value in theirs.items()
        if name.startswith(TAKEN_OVER) and name not in OWN
    }


def with_found_data(config: Config) -> Config:
    """Return the configuration with a detected format, and with shares where it has no splits.

    Raises:
        UsageError: There is no folder, or the format cannot be detected.
    """
    root = config.data.root
    if root == DataConfig().root and not Path(root).is_dir():
        raise UsageError("--from: name the folder of your photos and captions: --data.root FOLDER")
    data = replace(config.data, format=detected_format(config.data))
    if data.split is None and data.format in DIVISIBLE:
        data = replace(data, split=SHARES)
    return replace(config, data=data)


def inherit(config: Config, path: Path) -> Inherited:
    """Load what a run takes over.

    Args:
        config: Configuration of the run.
        path: The checkpoint to start from, or the run's own one to resume from.

    Raises:
        UsageError: A setting contradicts the checkpoint.
        CaptionerError: The checkpoint is damaged, or the package of its encoder is missing.
    """
    found = checkpoint.load(path, fold=False)
    check_agreement(config, found.config, path)
    return Inherited(
        found.vocabulary,
        found.captioner.encoder,
        found.transform,
        found.encoder,
        found.captioner.decoder.state_dict(),
    )


def check_agreement(ours: Config, theirs: Config, path: Path) -> None:
    """Refuse settings of the network that contradict the checkpoint.

    Raises:
        UsageError: The message names the first one, with both values.
    """
    fixed = ("encoder.", "decoder.", "vocabulary.tokenizer")
    theirs = replace(theirs, decoder=replace(theirs.decoder, vectors=None))
    values = dict(flat(asdict(ours)))
    for name, value in flat(asdict(theirs)):
        if name.startswith(fixed) and name not in MAY_DIFFER and values[name] != value:
            raise UsageError(
                f"--from: {name}: {shown(values[name])} contradicts {path}, which has "
                f"{shown(value)}; leave it out: the network comes from the checkpoint"
            )


def described(config: Config) -> str:
    """Return a sentence about what a run takes over."""
    encoder, decoder = config.encoder, config.decoder
    attention = "" if decoder.attention == "none" else f" with {decoder.attention} attention"
    return (
        f"fine-tuning {config.finetune.checkpoint}: its vocabulary, encoder ({encoder.name}, "
        f"{encoder.features} features), photo transform, decoder ({decoder.cell} of "
        f"{decoder.hidden_size}{attention}) and search settings (beam {config.search.beam_size})"
    )


def keep_start(best: Path, share: float) -> None:
    """Mix the best checkpoint's decoder with the one that it started from, once.

    Weights between two networks of one training run often solve the tasks of both (WiSE-FT:
    Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").

    Args:
        best: File to replace, atomically. One without starting weights is already mixed.
        share: Share of the starting weights.

    Raises:
        CaptionerError: The checkpoint cannot be written.
    """
    raw = read_tensors(best) if best.is_file() else {}
    start = raw.pop("start", None)
    if start is None:
        return
    for name, weights in start.items():
        name = f"{WEIGHTS_PREFIX}decoder.{name}"
        raw["state_dict"][name] = torch.lerp(raw["state_dict"][name], weights, share)
    draft = best.with_name(best.name + ".part")
    write_checkpoint(raw, draft)
    move(draft, best)
    say(f"best.ckpt: {1 - share:.0%} fine-tuned weights, {share:.0%} of those at the start")

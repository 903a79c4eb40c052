"""Read and write a trained captioner in one file.

The file is the one that Lightning writes during training, plus one entry of our own, `captioner`:
vocabulary, transform, encoder description and configuration. It can caption photos in a fresh
process without the training data and without torchvision. The file contains only tensors, numbers,
strings, lists and dictionaries. It is read with `weights_only=True`, so that loading never executes
code from it.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captioner import __version__
from captioner.build import build_decoder, build_encoder, search_options
from captioner.checkpoint.checks import (
    check_named,
    check_sizes,
    check_structure,
    check_sums,
)
from captioner.checkpoint.encoder_description import (
    NotDescribableError,
    describe,
    rebuild,
)
from captioner.checkpoint.graph_folder import DESCRIPTION
from captioner.checkpoint.hub import local
from captioner.checkpoint.model_card import shareable
from captioner.checkpoint.plain import check_own_search
from captioner.checkpoint.pretrained import PRETRAINED, find
from captioner.checkpoint.safetensors import CONTENTS, WEIGHTS, read_export, write_export
from captioner.config.checks import check
from captioner.config.schema import Config
from captioner.config.settings import from_dict
from captioner.decoding.options import SearchOptions
from captioner.errors import CaptionerError, UsageError
from captioner.files.archive import ArchiveError, checksums_of, damaged_records
from captioner.files.regular import NotRegularError, digest_of
from captioner.files.tensors import read_tensors
from captioner.model.captioner import Captioner
from captioner.model.encoder import Encoder
from captioner.model.given_features import GivenFeatures
from captioner.model.uninitialised import uninitialised
from captioner.photos.transform import Transform
from captioner.text.vocabulary import Vocabulary

FORMAT_VERSION = 1
"""Format version; increased when older programs can no longer read what newer ones write."""

WEIGHTS_PREFIX = "captioner."
"""Name of the captioner within the Lightning module whose state Lightning saves."""


_NO_COLOURS = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
"""What stands for the normalisation of photos where none are encoded."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        captioner: The network, in evaluation mode, on the CPU.
        vocabulary: Its words.
        transform: Turns a photo into the encoder's input.
        config: Configuration of the training run.
        path: The file.
        encoder: Description of the encoder as plain values, with batch norm not folded.
    """

    captioner: Captioner
    vocabulary: Vocabulary
    transform: Transform
    config: Config
    path: Path
    encoder: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reads_regions(self) -> bool:
        """Whether it reads a detector's region features instead of photos."""
        return isinstance(self.captioner.encoder, GivenFeatures)

    def search(self, given: Collection[str] = ()) -> SearchOptions:
        """Return the checkpoint's own search options, which must not exceed the limits.

        Args:
            given: Names of options that the user gives; these are not checked.

        Raises:
            CaptionerError: An option exceeds its limit.
        """
        own = self.config.search
        weights = sum(weight.numel() for weight in self.captioner.decoder.parameters())
        check_own_search(own, weights, given, self.path)
        return search_options(own)


def contents(
    captioner: Captioner,
    vocabulary: Vocabulary,
    transform: Transform,
    config: Config,
    encoder: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the `captioner` entry of a checkpoint: everything but the weights, as plain values.

    Args:
        captioner: The network.
        vocabulary: Its words.
        transform: Turns a photo into the encoder's input.
        config: Configuration of the training run.
        encoder: Description of the encoder if it comes from a checkpoint, which has no graph.
    """
    return {
        "format_version": FORMAT_VERSION,
        "program_version": __version__,
        "config": asdict(config),
        "vocabulary": list(vocabulary.words),
        "transform": transform.asdict(),
        "encoder": dict(encoder or _described(captioner.encoder)),
    }


def _described(encoder: Encoder | GivenFeatures) -> dict[str, Any]:
    """Return an encoder as plain values."""
    if isinstance(encoder, GivenFeatures):
        size = encoder.feature_size
        return {"given": True, "network": [], "feature_size": size, "grid": True, **_NO_COLOURS}
    try:
        network = describe(encoder.trunk)
    except NotDescribableError:
        network = None  # torchvision must build it from its name
    return {
        "network": network,
        "feature_size": encoder.feature_size,
        "mean": (encoder.mean.flatten() / 255).tolist(),
        "std": (encoder.std.flatten() / 255).tolist(),
        "grid": encoder.grid,
    }


def read(path: Path) -> dict[str, Any]:
    """Read the raw contents of a checkpoint, and check that it is one of ours.

    Args:
        path: A file, the folder of an export, the name of a pretrained captioner, or `hf://` with
            the name of one on the Hugging Face hub.

    Raises:
        UsageError: The file does not exist, or is not a captioner checkpoint.
        CaptionerError: A pretrained captioner lacks the package of its encoder, or the hub cannot
            be reached.
    """
    path = local(path)
    model = find(path)
    if (path / DESCRIPTION).is_file():
        raise UsageError(
            f"{path}: holds exported graphs; caption with `captioner caption --runtime onnx`, or "
            "name the checkpoint that it was exported from"
        )
    if model is not None or path.is_dir():
        ours, weights = read_export(path) if model is None else model.read()
        raw = {
            "captioner": ours,
            "state_dict": {WEIGHTS_PREFIX + name: tensor for name, tensor in weights.items()},
        }
    else:
        raw = _read_file(path)
        ours = raw["captioner"]
    if type(ours.get("format_version")) is not int:
        raise UsageError(f"{path}: not a checkpoint, or damaged (no format_version)")
    if ours["format_version"] > FORMAT_VERSION:
        raise UsageError(
            f"{path}: written by captioner {ours.get('program_version')}, which is newer than this "
            f"version ({__version__}); update captioner"
        )
    return raw


def _read_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        names = ", ".join(PRETRAINED)
        raise UsageError(f"{path}: no such checkpoint, and no pretrained captioner ({names})")
    try:
        raw = read_tensors(path)  # memory-mapped, because captioning never reads optimiser states
    except ArchiveError as error:
        raise UsageError(f"{path}: not a checkpoint, or damaged ({error})") from error
    except NotRegularError as error:
        raise UsageError(f"{path}: {error.strerror}; name a checkpoint") from error
    except Exception as error:  # torch raises many types for foreign files
        raise UsageError(
            f"{path}: not a checkpoint, or damaged ({type(error).__name__})"
        ) from error
    ours = raw.get("captioner") if isinstance(raw, dict) else None
    if not isinstance(ours, dict) or not isinstance(raw.get("state_dict"), dict):
        raise UsageError(
            f"{path}: a checkpoint of another program; name one of `captioner train`, such as "
            "checkpoints/best.ckpt"
        )
    contents: dict[str, Any] = raw
    return contents


def check_whole(path: Path) -> None:
    """Verify the checksum of every record of a checkpoint before a run resumes from it.

    Raises:
        UsageError: A record is damaged; the message names it.
    """
    try:
        damaged = damaged_records(path)
    except (ArchiveError, OSError) as error:
        raise UsageError(f"{path}: not a checkpoint, or damaged ({error})") from error
    if damaged:
        raise UsageError(f"{path}: damaged: the checksum of {damaged[0]} does not match")


def export(path: Path, folder: Path, *, shared: bool = False) -> dict[str, Any]:
    """Write a checkpoint as safetensors and JSON; `load` accepts the folder like the file.

    Args:
        path: See `load`.
        folder: New or empty folder.
        shared: Whether to leave out what describes this machine, such as paths of data.

    Returns:
        The contents of `captioner.json`.

    Raises:
        UsageError: See `load`; or the folder contains other files.
        CaptionerError: See `load`.
    """
    load(path)  # refuses unusable checkpoints
    raw = read(path)
    contents = dict(raw["captioner"])
    if shared:
        contents["config"] = asdict(shareable(contents["config"]))
        contents.pop("wandb_run", None)
    write_export(folder, contents, _weights(raw))
    return contents


def _weights(raw: dict[str, Any]) -> dict[str, Tensor]:
    """Return the captioner's weights under their names in the captioner."""
    return {
        name.removeprefix(WEIGHTS_PREFIX): tensor
        for name, tensor in raw["state_dict"].items()
        if name.startswith(WEIGHTS_PREFIX)
    }


def load(path: Path, *, fold: bool = True) -> Checkpoint:
    """Load a trained captioner.

    Args:
        path: See `read`.
        fold: Whether to fold the encoder's batch norm, which is faster, but not its description.

    Raises:
        UsageError: The file does not exist, or is not a captioner checkpoint.
        CaptionerError: Its parts do not fit together, or its encoder's package is not installed.
    """
    raw = read(path)
    ours = raw["captioner"]
    try:
        check_structure(ours, raw["state_dict"])
        config = from_dict(Config, ours["config"])
        check(config)
        check_sizes(config)
        vocabulary = Vocabulary(ours["vocabulary"], config.vocabulary.tokenizer)
        transform = Transform.from_dict(ours["transform"])
        if ours["encoder"]["network"] is None:
            check_named(config.encoder.name, transform.size, raw["state_dict"])
        encoder = _encoder(ours["encoder"], config, transform.size)
        if config.decoder.attention != "none" and not encoder.grid:
            raise ValueError("encoder.grid must be true for a decoder with attention")
        weights = _weights(raw)
        check_sums(weights, checksums_of(path) if path.is_file() else ())
        # Build without memory: the loaded weights bring their own, and false sizes cost nothing.
        with uninitialised():
            decoder = build_decoder(
                config.decoder, vocab_size=len(vocabulary), feature_size=encoder.feature_size
            )
        captioner = Captioner(encoder, decoder, backward=config.decoder.direction == "backward")
        captioner.load_state_dict(weights, assign=True)
        # The copies that folding makes replace these tensors one by one: keep no other reference.
        weights.clear()
        raw.clear()
        for name, tensor in captioner.named_parameters():
            if tensor.dtype != torch.float32:
                raise ValueError(f"{name} must be float32, not {tensor.dtype}")
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError, CaptionerError) as error:
        if isinstance(error, CaptionerError) and str(path) in str(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise CaptionerError(f"{path}: damaged checkpoint: {reason}") from error
    captioner.requires_grad_(False).eval()
    if fold:
        captioner.encoder.fold_batch_norm()
    if isinstance(captioner.encoder, Encoder):
        captioner.encoder.trunk.to(memory_format=torch.channels_last)
    return Checkpoint(captioner, vocabulary, transform, config, path, ours["encoder"])


def files_of(path: Path) -> list[Path]:
    """Return the files of a checkpoint: itself, or a folder's description and weights."""
    path = local(path)
    model = find(path)
    if model is not None:
        return model.files
    return [path / CONTENTS, path / WEIGHTS] if path.is_dir() else [path]


def file_digest(path: Path) -> str:
    """Return the blake2b-128 of a checkpoint's file, or of an export's files, in hexadecimal.

    Raises:
        UsageError: The file does not exist.
    """
    try:
        return digest_of(files_of(path))
    except OSError as error:
        raise UsageError(f"{path}: no such checkpoint") from error


def _encoder(saved: dict[str, Any], config: Config, side: int) -> Encoder | GivenFeatures:
    if saved.get("given") is True:
        return GivenFeatures(saved["feature_size"])
    if saved["network"] is None:
        return build_encoder(replace(config.encoder, weights="none", train_from=None))[0]
    return Encoder(
        rebuild(saved["network"], side=side, channels=saved["feature_size"]),
        saved["feature_size"],
        saved["mean"],
        saved["std"],
        grid=saved["grid"],
    )

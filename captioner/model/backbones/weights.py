"""Read encoder weights: under a checkpoint's key, with wrapper prefixes, or from torch's cache."""

import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from captioner.errors import CaptionerError, UsageError
from captioner.files.tensors import read_tensors

KEYS = ("state_dict", "model_state_dict", "model", "network", "net", "model_ema", "state_dict_ema")
"""Keys under which training programs store a network's weights; the first one present counts.
Averaged weights come last, because a program that saves both keeps them beside those it trains."""

WRAPPERS = re.compile(r"(?:^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Name parts that `torch.compile` and other wrappers insert into layer names."""

DEPTH = 3
"""Maximum depth of nested keys."""


def read_state_dict(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """Read tensors by name from a file written by `torch.save`.

    Raises:
        UsageError: The file does not exist, or has no state_dict; the message lists `names`, the
            valid weight names.
    """
    if not path.is_file():
        raise UsageError(
            f"encoder.weights: {path} is neither a file nor a weight name of this network; "
            f"choose one of {', '.join(names)}, none, or the path of a state_dict"
        )
    try:
        state = read_tensors(path)
    except Exception as error:  # torch raises many types for foreign files
        raise UsageError(
            f"encoder.weights: {path} is not a file of tensors that torch.save wrote: "
            f"{fault_of(path)} ({type(error).__name__})"
        ) from error
    tensors = tensors_of(state)
    if tensors is None:
        raise UsageError(f"encoder.weights: {path} has no state_dict (tensors by name)")
    return tensors


def load_weights(trunk: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Load the trunk's part of a whole network's state_dict.

    Raises:
        UsageError: A tensor is missing or has another shape.
    """
    wanted = trunk.state_dict()
    state = without_prefix(state, list(wanted))
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    if missing:
        raise UsageError(
            f"encoder.weights: {what} do not fit: {len(missing)} of {len(wanted)} tensors are "
            f"missing, the first {missing[0]}"
        )
    for key, tensor in wanted.items():
        if key in state and state[key].shape != tensor.shape:
            raise UsageError(
                f"encoder.weights: {what} do not fit: {key} is {tuple(state[key].shape)}, "
                f"the network has {tuple(tensor.shape)}"
            )
    trunk.load_state_dict({k: v for k, v in state.items() if k in wanted}, strict=False)


def tensors_of(contents: object) -> dict[str, Tensor] | None:
    """Return the tensors by name in a file's contents, or under one of `KEYS`; None if absent."""
    for _ in range(DEPTH):
        if not isinstance(contents, Mapping):
            return None
        inner = next(
            (contents[key] for key in KEYS if isinstance(contents.get(key), Mapping)), None
        )
        if inner is None:
            break
        contents = inner
    if not isinstance(contents, Mapping):
        return None
    tensors = {
        WRAPPERS.sub("", str(name)): tensor
        for name, tensor in contents.items()
        if isinstance(tensor, Tensor)
    }
    return tensors or None


def without_prefix(state: Mapping[str, Tensor], wanted: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors of one network under the names it has when it stands alone.

    A network inside another module has a prefix before all its names: `module.` (data parallel),
    `model.` or `backbone.` (Lightning), or any other. The prefix is the one under which all wanted
    names exist.

    Args:
        state: Tensors by name.
        wanted: Names of the network's tensors.

    Returns:
        The tensors without the prefix, or `state` unchanged if no prefix fits.

    Raises:
        UsageError: Several networks in the file fit.
    """
    needed = [name for name in wanted if not name.endswith("num_batches_tracked")]
    if not needed or all(name in state for name in needed):
        return dict(state)
    last = needed[-1]
    prefixes = [
        name.removesuffix(last)
        for name in state
        if name.endswith("." + last) and all(name.removesuffix(last) + n in state for n in needed)
    ]
    if len(prefixes) > 1:
        raise UsageError(
            f"encoder.weights: the file holds several such networks, under {', '.join(prefixes)}; "
            "save the tensors of one of them"
        )
    if not prefixes:
        return dict(state)
    prefix = prefixes[0]
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def downloaded(weights: Any, what: str) -> dict[str, Tensor]:
    """Return torchvision weights from torch's cache or from the network.

    Args:
        weights: A member of torchvision's enumeration of weights for the network.
        what: Its name, for messages.

    Raises:
        CaptionerError: The download failed, or the file in the cache is damaged.
    """
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    file = cache / Path(urlparse(str(weights.url)).path).name
    try:
        with redirect_stdout(sys.stderr):  # torch announces downloads on standard output
            return dict(weights.get_state_dict(progress=True, check_hash=True))
    except Exception as error:  # torch raises many types for foreign files
        if file.is_file() and not isinstance(error, URLError):
            raise CaptionerError(
                f"encoder.weights: {file}: {fault_of(file)}; this is torch's download cache: "
                "delete the file to download it again"
            ) from error
        if not isinstance(error, (URLError, OSError, RuntimeError)):
            raise
        raise CaptionerError(
            f"encoder.weights: {what} could not be downloaded ({' '.join(str(error).split())}); "
            f"give the path of its state_dict instead: --encoder.weights PATH"
        ) from error


def fault_of(file: Path) -> str:
    """Return what is wrong with a file that contains no weights."""
    try:
        with file.open("rb") as stream:
            start = stream.read(512).lstrip().lower()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not start:
        return "an empty file, not weights"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not weights"
    return "damaged or incomplete weights"

"""Weights as people keep them: under a key, behind the prefixes of wrappers, in torch's cache."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from captioner.errors import CaptionerError, UsageError
from captioner.files.tensors import read_tensors

KEYS = ("state_dict", "model_state_dict", "model", "network", "net", "model_ema", "state_dict_ema")
"""Where training programs put a network's weights in a checkpoint; the first that is there counts.
Averaged weights come last: a program that writes both keeps them beside those it trains."""

WRAPPERS = re.compile(r"(?:^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What `torch.compile` and others put into the names of the layers that they wrap."""

DEPTH = 3
"""Keys inside one another that are followed."""


def read_state_dict(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """Tensors by name from a file that `torch.save` wrote.

    Raises:
        UsageError: no such file, or no state_dict in it; the message lists `names`, the weight
            names that would have been understood.
    """
    if not path.is_file():
        raise UsageError(
            f"encoder.weights: {path} is neither a file nor a weight name of this network; "
            f"choose one of {', '.join(names)}, none, or the path of a state_dict"
        )
    try:
        state = read_tensors(path)
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise UsageError(
            f"encoder.weights: {path} is not a file of tensors that torch.save wrote: "
            f"{fault_of(path)} ({type(error).__name__})"
        ) from error
    tensors = tensors_of(state)
    if tensors is None:
        raise UsageError(f"encoder.weights: {path} holds no state_dict (names and tensors)")
    return tensors


def load_weights(trunk: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Load the trunk's part of a whole network's state_dict.

    Raises:
        UsageError: a tensor is missing or of another shape.
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
    """The tensors by name that a file holds, at its top or under one of `KEYS`; None for none."""
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
    """The tensors of one network, by the names that it has when it stands alone.

    A network inside another module has a prefix in front of all its names: `module.` (data
    parallel), `model.` or `backbone.` (Lightning), and any other. The prefix is found by the
    wanted names: it is the one under which all of them are there.

    Args:
        state: tensors by name.
        wanted: names of the network's tensors.

    Returns:
        The tensors without the prefix; `state` as it is where no prefix fits.

    Raises:
        UsageError: several networks in the file fit.
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
    """The tensors of one of torchvision's sets of weights, from torch's cache or the network.

    Args:
        weights: a member of torchvision's enumeration of the network's weights.
        what: its name, for messages.

    Raises:
        CaptionerError: they could not be downloaded, or the file in the cache is damaged.
    """
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    file = cache / Path(urlparse(str(weights.url)).path).name
    try:
        return dict(weights.get_state_dict(progress=True, check_hash=True))
    except Exception as error:  # torch raises many kinds for a file that is not its own
        if file.is_file() and not isinstance(error, URLError):
            raise CaptionerError(
                f"encoder.weights: {file}: {fault_of(file)}; torch keeps its downloads there: "
                "delete the file to download it again"
            ) from error
        if not isinstance(error, (URLError, OSError, RuntimeError)):
            raise
        raise CaptionerError(
            f"encoder.weights: {what} could not be downloaded ({' '.join(str(error).split())}); "
            f"give the path of its state_dict instead: --encoder.weights PATH"
        ) from error


def fault_of(file: Path) -> str:
    """What is wrong with a file that holds no weights."""
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

"""What a checkpoint must be like before any of it is used: kinds, sizes, names.

A checkpoint may come from anybody. It is read without unpickling; this file sees to it that what
was read cannot make the program work for hours, fill the memory, or stumble with a traceback:
sizes are bounded, and no tensor claims more numbers than it brings.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from captioner.config.schema import Config
from captioner.decoding.options import MOST

MAX_WORDS = 10**7
"""Words of a vocabulary."""

MAX_STEPS = 10_000
"""Steps of an encoder's description; the longest of torchvision has about a thousand."""

MAX_WIDTH = 2**20
"""Embedding size, hidden size, feature size."""

MAX_DEPTH = 256
"""Layers of a decoder, of a transition, of an output."""


def check_structure(ours: Mapping[str, Any], weights: Mapping[Any, Any]) -> None:
    """Refuse an entry `captioner` and a `state_dict` that are not of the form they should have.

    Raises:
        ValueError: the first fault.
    """
    for name, kind in (
        ("config", dict),
        ("vocabulary", list),
        ("transform", dict),
        ("encoder", dict),
    ):
        if name not in ours:
            raise ValueError(f"{name!r} is missing")
        _must(isinstance(ours[name], kind), name, f"a {kind.__name__}")
    words = ours["vocabulary"]
    _must(len(words) <= MAX_WORDS, "vocabulary", f"at most {MAX_WORDS:,} words")
    _must(all(isinstance(word, str) for word in words), "vocabulary", "texts")
    _check_encoder(ours["encoder"])
    for name, tensor in weights.items():
        _must(isinstance(name, str), "state_dict", "tensors by name")
        _must(isinstance(tensor, Tensor), f"state_dict[{name!r}]", "a tensor")
        _check_tensor(name, tensor)


def check_sizes(config: Config) -> None:
    """Refuse a configuration whose network or search would be beyond all measure.

    Raises:
        ValueError: the first size that is.
    """
    decoder, search = config.decoder, config.search
    for name, size, most in (
        ("decoder.embedding_size", decoder.embedding_size, MAX_WIDTH),
        ("decoder.hidden_size", decoder.hidden_size, MAX_WIDTH),
        ("decoder.attention_size", decoder.attention_size, MAX_WIDTH),
        ("decoder.layers", decoder.layers, MAX_DEPTH),
        ("decoder.transition_depth", decoder.transition_depth, MAX_DEPTH),
        ("decoder.output_depth", decoder.output_depth, MAX_DEPTH),
        ("search.beam_size", search.beam_size, MOST),
        ("search.max_length", search.max_length, MOST),
    ):
        whole = type(size) is int and 0 <= size <= most
        _must(whole, name, f"a whole number up to {most:,}")


def _check_encoder(encoder: Mapping[str, Any]) -> None:
    for name in ("network", "feature_size", "mean", "std", "grid"):
        _must(name in encoder, "encoder", f"an object with {name!r}")
    size = encoder["feature_size"]
    whole = type(size) is int and 1 <= size <= MAX_WIDTH
    _must(whole, "encoder.feature_size", f"a whole number up to {MAX_WIDTH:,}")
    _must(isinstance(encoder["grid"], bool), "encoder.grid", "true or false")
    for name in ("mean", "std"):
        values = encoder[name]
        finite = (
            isinstance(values, list)
            and len(values) == 3
            and all(type(x) in (int, float) and math.isfinite(x) for x in values)
        )
        _must(finite, f"encoder.{name}", "three numbers")
    _must(all(x > 0 for x in encoder["std"]), "encoder.std", "more than 0")
    network = encoder["network"]
    _must(network is None or isinstance(network, list), "encoder.network", "a list of steps")
    _must(len(network or ()) <= MAX_STEPS, "encoder.network", f"at most {MAX_STEPS:,} steps")
    for i, step in enumerate(network or ()):
        _must(isinstance(step, dict), f"encoder.network[{i}]", "an object")


def _check_tensor(name: str, tensor: Tensor) -> None:
    _must(tensor.layout == torch.strided, f"state_dict[{name!r}]", "a dense tensor")
    _must(tensor.device.type != "meta", f"state_dict[{name!r}]", "a tensor with its numbers")
    # A view can claim terabytes of the four bytes that it stands on.
    brought = tensor.untyped_storage().nbytes()
    _must(
        tensor.numel() * tensor.element_size() <= brought,
        f"state_dict[{name!r}]",
        f"no more than the {brought:,} bytes that it brings",
    )


def _must(holds: bool, name: str, right: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {right}")

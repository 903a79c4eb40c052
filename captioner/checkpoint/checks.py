"""Check a checkpoint's types, sizes and names before any of it is used.

Untrusted checkpoints are safe to load. They are read without unpickling code. The checks here
ensure that their content cannot cost hours of work, fill the memory or end in a traceback: sizes
are bounded, and no tensor claims more numbers than it stores.
"""

import math
import zlib
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint.plain import check_plain, check_words, must
from captioner.config.schema import Config
from captioner.decoding.options import MOST
from captioner.model.encoder import parameters_of

MAX_STEPS = 10_000
"""Steps in an encoder's description; the longest of torchvision has about a thousand."""

MAX_NAMED_SIDE = 1024
"""Photo side in pixels for a network without a description, whose work cannot be measured."""

MAX_WIDTH = 2**20
"""Embedding size, hidden size and feature size."""

MAX_DEPTH = 256
"""Layers of a decoder, a transition or an output."""


def check_structure(ours: Mapping[str, Any], weights: Mapping[Any, Any]) -> None:
    """Refuse a malformed `captioner` entry or `state_dict`.

    Raises:
        ValueError: The message names the first fault.
    """
    for name, kind in (
        ("config", dict),
        ("vocabulary", list),
        ("transform", dict),
        ("encoder", dict),
    ):
        if name not in ours:
            raise ValueError(f"{name!r} is missing")
        must(isinstance(ours[name], kind), name, f"a {kind.__name__}")
    check_words(ours["vocabulary"])
    check_plain({name: value for name, value in ours.items() if name != "vocabulary"})
    _check_encoder(ours["encoder"])
    for name, tensor in weights.items():
        must(isinstance(name, str), "state_dict", "tensors by name")
        must(isinstance(tensor, Tensor), f"state_dict[{name!r}]", "a tensor")
        _check_tensor(name, tensor)
    _check_together(weights)


def check_sizes(config: Config) -> None:
    """Refuse a configuration whose network or search exceeds the limits.

    Raises:
        ValueError: The message names the first size that is too large.
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
        must(whole, name, f"a whole number of at most {most:,}")


def check_named(name: str, side: int, weights: Mapping[str, Tensor]) -> None:
    """Refuse a network without a description that is far larger than the weights in the file.

    The network is built before its weights are loaded, so a small file must not request a huge one.

    Raises:
        ValueError: The network is too large, or its photos exceed `MAX_NAMED_SIDE`.
    """
    must(side <= MAX_NAMED_SIDE, "transform.size", f"at most {MAX_NAMED_SIDE} for {name}")
    brought = sum(tensor.numel() for key, tensor in weights.items() if ".encoder.trunk." in key)
    needed = parameters_of(name) // 2  # the classifier is removed
    must(brought >= needed, "state_dict", f"the weights of {name}, at least {needed:,} numbers")


def check_sums(weights: Mapping[str, Tensor], sums: Collection[tuple[int, int]]) -> None:
    """Refuse weights whose bytes have changed since they were written, for example by disk errors.

    This reads all weights, which loading needs anyway, at about one second per gigabyte.

    Args:
        weights: Tensors in storages of their own, as they were loaded.
        sums: Size and CRC-32 of every storage in the file; empty if the file has no checksums.

    Raises:
        ValueError: The message names the first tensor whose checksum is not in the file.
    """
    seen: set[int] = set()
    for name, tensor in weights.items():
        storage = tensor.untyped_storage()
        if not sums or storage.nbytes() == 0 or storage.data_ptr() in seen:
            continue
        seen.add(storage.data_ptr())
        data = torch.empty(0, dtype=torch.uint8).set_(storage).numpy().data
        if (len(data), zlib.crc32(data)) not in sums:
            raise ValueError(f"{name} does not match the checksum it was written with")


def _check_encoder(encoder: Mapping[str, Any]) -> None:
    for name in ("network", "feature_size", "mean", "std", "grid"):
        must(name in encoder, "encoder", f"an object with {name!r}")
    size = encoder["feature_size"]
    whole = type(size) is int and 1 <= size <= MAX_WIDTH
    must(whole, "encoder.feature_size", f"a whole number of at most {MAX_WIDTH:,}")
    must(isinstance(encoder["grid"], bool), "encoder.grid", "true or false")
    for name in ("mean", "std"):
        values = encoder[name]
        finite = (
            isinstance(values, list)
            and len(values) == 3
            and all(type(x) in (int, float) and math.isfinite(x) for x in values)
        )
        must(finite, f"encoder.{name}", "three numbers")
    must(all(x > 0 for x in encoder["std"]), "encoder.std", "more than 0")
    network = encoder["network"]
    must(network is None or isinstance(network, list), "encoder.network", "a list of steps")
    must(len(network or ()) <= MAX_STEPS, "encoder.network", f"at most {MAX_STEPS:,} steps")
    for i, step in enumerate(network or ()):
        must(isinstance(step, dict), f"encoder.network[{i}]", "an object")


def _check_tensor(name: str, tensor: Tensor) -> None:
    must(tensor.layout == torch.strided, f"state_dict[{name!r}]", "a dense tensor")
    must(tensor.device.type != "meta", f"state_dict[{name!r}]", "a tensor with data")
    # A view can claim terabytes on top of a storage of four bytes.
    brought = tensor.untyped_storage().nbytes()
    must(
        tensor.numel() * tensor.element_size() <= brought,
        f"state_dict[{name!r}]",
        f"no larger than the {brought:,} bytes it stores",
    )


def _check_together(weights: Mapping[str, Tensor]) -> None:
    """Refuse tensors that together claim more numbers than they store.

    Each tensor alone may be as large as its storage. If a thousand layers shared one storage, all
    would be copied when moved to a device. A decoder may tie its embeddings to its output: one
    tensor under two names counts once.
    """
    seen: set[tuple[Any, ...]] = set()
    claims: list[tuple[int, int, int, str]] = []
    for name, tensor in weights.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if place in seen and ".encoder." not in name:
            continue
        seen.add(place)
        storage = tensor.untyped_storage()
        size = tensor.numel() * tensor.element_size()
        claims.append((storage.data_ptr(), storage.nbytes(), size, name))
    first = end = claimed = 0
    for begin, brought, size, name in sorted(claims):
        if begin >= end:  # does not overlap any earlier one
            first, claimed = begin, 0
        end = max(end, begin + brought)
        claimed += size
        must(
            claimed <= end - first,
            f"state_dict[{name!r}] and others",
            f"together no larger than the {end - first:,} bytes they store",
        )

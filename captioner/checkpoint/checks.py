"""What a checkpoint must be like before any of it is used: kinds, sizes, names.

A checkpoint may come from anybody. It is read without unpickling; this file sees to it that what
was read cannot make the program work for hours, fill the memory, or stumble with a traceback:
sizes are bounded, and no tensor claims more numbers than it brings.
"""

import math
import zlib
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from captioner.config.schema import Config, SearchConfig
from captioner.decoding.options import MOST
from captioner.display import is_one_line
from captioner.errors import CaptionerError, shown
from captioner.files.tensors import MAX_TEXT
from captioner.model.encoder import parameters_of

MAX_WORDS = 10**6
"""Words of a vocabulary."""

MAX_STEPS = 10_000
"""Steps of an encoder's description; the longest of torchvision has about a thousand."""

MAX_VALUES = 500_000
"""Plain values beside the vocabulary, each counted as often as it is reached."""

MAX_NESTING = 16
"""Lists and objects inside one another."""

MAX_BITS = 256
"""Of a whole number; what a setting may be is checked where it is used."""

MAX_NAMED_SIDE = 1024
"""Pixels of a side of photos for a network without a description, whose work is not measured."""

MAX_OWN_BEAM = 100
"""Beam of a checkpoint's own search settings; who captions may ask for more by a flag."""

MAX_OWN_LENGTH = 1_000
"""Words of a caption by a checkpoint's own settings."""

MAX_OWN_SEARCH = 2 * 10**11
"""Multiply-adds for one photo's caption by them: steps x beam x weights of the decoder."""

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
    for i, word in enumerate(words):
        printable = len(word) <= MAX_TEXT and is_one_line(word)
        _must(printable, f"vocabulary[{i}]", f"a printable text, not {shown(word)}")
    _check_plain({name: value for name, value in ours.items() if name != "vocabulary"})
    _check_encoder(ours["encoder"])
    for name, tensor in weights.items():
        _must(isinstance(name, str), "state_dict", "tensors by name")
        _must(isinstance(tensor, Tensor), f"state_dict[{name!r}]", "a tensor")
        _check_tensor(name, tensor)
    _check_together(weights)


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


def check_named(name: str, side: int, weights: Mapping[str, Tensor]) -> None:
    """Refuse a network without a description that would be far larger than the file's weights.

    It is built before its weights are loaded: a small file must not ask for the largest there is.

    Raises:
        ValueError: it would, or its photos are larger than `MAX_NAMED_SIDE`.
    """
    _must(side <= MAX_NAMED_SIDE, "transform.size", f"at most {MAX_NAMED_SIDE} for {name}")
    brought = sum(tensor.numel() for key, tensor in weights.items() if ".encoder.trunk." in key)
    needed = parameters_of(name) // 2  # the classifier is cut off
    _must(brought >= needed, "state_dict", f"the weights of {name}, {needed:,} numbers at least")


def check_sums(weights: Mapping[str, Tensor], sums: Collection[tuple[int, int]]) -> None:
    """Refuse weights whose bytes have changed since they were written: a flipped bit of a disk.

    Reads the weights, which is needed anyway, at about a second per gigabyte.

    Args:
        weights: tensors that stand in storages of their own, as they were loaded.
        sums: size and CRC-32 of every storage in the file; none where the file has no checksums.

    Raises:
        ValueError: the first tensor whose bytes have no checksum in the file.
    """
    seen: set[int] = set()
    for name, tensor in weights.items():
        storage = tensor.untyped_storage()
        if not sums or storage.nbytes() == 0 or storage.data_ptr() in seen:
            continue
        seen.add(storage.data_ptr())
        data = torch.empty(0, dtype=torch.uint8).set_(storage).numpy().data
        if (len(data), zlib.crc32(data)) not in sums:
            raise ValueError(f"{name} does not have the checksum it was written with")


def check_own_search(
    search: SearchConfig, weights: int, given: Collection[str], where: object
) -> None:
    """Refuse a checkpoint's own search settings that cost more than a default may.

    A stranger's checkpoint may ask for hours of search by its settings alone. The settings of
    whoever captions are not bounded here.

    Args:
        search: the checkpoint's settings.
        weights: numbers in its decoder, each multiplied once per step and hypothesis.
        given: the settings that do not come from the checkpoint.
        where: the checkpoint, for the message.

    Raises:
        CaptionerError: the first setting that asks for too much, with the flag that replaces it.
    """
    for name, flag, value, most in (
        ("beam_size", "--beam-size", search.beam_size, MAX_OWN_BEAM),
        ("max_length", "--max-length", search.max_length, MAX_OWN_LENGTH),
    ):
        if name not in given and value > most:
            raise CaptionerError(
                f"{where}: its own search.{name} is {value:,}, more than the {most:,} that a "
                f"checkpoint may ask for; choose one with {flag}"
            )
    cost = search.beam_size * search.max_length * weights
    if not {"beam_size", "max_length"} & set(given) and cost > MAX_OWN_SEARCH:
        raise CaptionerError(
            f"{where}: its own search settings (beam {search.beam_size:,}, {search.max_length:,} "
            f"words) cost {cost:.1e} multiply-adds for one photo, more than the "
            f"{MAX_OWN_SEARCH:.0e} that a checkpoint may ask for; choose --beam-size and "
            "--max-length"
        )


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


def _check_plain(value: Any) -> None:
    """Refuse what is no tree of plain values, or would be a vast one if it were written out.

    A pickle can hold one list a thousand times in another, ten levels deep: kilobytes that whoever
    goes through them, or words a message with them, never comes to the end of.
    """
    left = MAX_VALUES
    waiting = [(value, 0)]
    while waiting:
        value, depth = waiting.pop()
        _must(depth <= MAX_NESTING, "its contents", f"nested at most {MAX_NESTING} levels deep")
        inside: list[Any] = []
        if type(value) is dict:
            inside = [*value.keys(), *value.values()]
        elif type(value) in (list, tuple):
            inside = list(value)
        elif type(value) is str:
            _must(len(value) <= MAX_TEXT, "a text", f"of at most {MAX_TEXT:,} letters")
        elif type(value) is int:
            _must(value.bit_length() <= MAX_BITS, "a number", f"of at most {MAX_BITS} bits")
        else:
            plain = value is None or type(value) in (bool, float)
            _must(plain, "its contents", f"plain values, not a {type(value).__name__}")
        left -= len(inside)
        _must(left >= 0, "its contents", f"at most {MAX_VALUES:,} values")
        waiting += [(item, depth + 1) for item in inside]


def _check_together(weights: Mapping[str, Tensor]) -> None:
    """Refuse tensors that together claim more numbers than they bring.

    Each alone may be as large as what it stands on; a thousand layers of an encoder on one stored
    weight would all be copied, to a device or into another order. A decoder may tie its embeddings
    to its output: the same tensor under two names counts once there.
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
        if begin >= end:  # apart from all before it
            first, claimed = begin, 0
        end = max(end, begin + brought)
        claimed += size
        _must(
            claimed <= end - first,
            f"state_dict[{name!r}] and others",
            f"together no more than the {end - first:,} bytes that they bring",
        )


def _must(holds: bool, name: str, right: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {right}")

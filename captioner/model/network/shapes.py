"""Tensor shapes without tensors, and the limits of a network's cost per photo.

A network from a file is first evaluated on shapes, before any of it runs. The rule of an operation
(`rules`) takes the operation's arguments, with a `Shape` in place of each tensor. It returns the
shape of the result and its work, or refuses. Rules refuse everything they do not foresee.

The first dimension of every tensor is the batch, whose size is unknown. It is not part of a
`Shape`. No operation may mix the photos of a batch, so that work and memory are proportional to
their number.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

MAX_INT = 2**20
"""Maximum size of a dimension, also of channels."""

MAX_WINDOW = 64
"""Maximum size in pixels of windows, strides and borders."""

MAX_DIMENSIONS = 8
"""Maximum number of dimensions of a tensor, without the batch."""

MAX_NUMBERS = 2**27
"""Numbers per photo in memory at once, 512 MiB: ten times the need of networks at 224 pixels."""

MAX_BATCH = 2**29
"""Numbers per batch in memory at once, 2 GiB; larger batches are processed in parts."""

MAX_WORK = 2**39
"""Multiply-adds per photo, or equivalent time: 5 to 60 seconds on one core. torchvision's largest
network, regnet_y_128gf at 384 pixels, needs 75 % of it."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a tensor without its batch dimension, and the work of computing it.

    Attributes:
        sizes: Sizes of the dimensions after the first.
        work: Multiply-adds for one photo, or equivalent time.

    Raises:
        ValueError: A dimension is empty, or a size exceeds the limits.
    """

    sizes: tuple[int, ...]
    work: int = 0

    def __post_init__(self) -> None:
        if len(self.sizes) > MAX_DIMENSIONS:
            raise ValueError(f"has more than {MAX_DIMENSIONS} dimensions")
        if any(size < 1 for size in self.sizes):
            raise ValueError(f"leaves nothing of a photo: {self.sizes}")
        if self.numbers > MAX_NUMBERS:
            raise ValueError(f"makes {self.numbers:,} numbers of a photo")

    @property
    def numbers(self) -> int:
        """Numbers of one photo."""
        return prod(self.sizes)


class Batch:
    """The unknown size of the batch dimension, which may only be passed on."""


BATCH = Batch()


def tensor(value: Any, rank: int | None = None) -> Shape:
    """Refuse anything but a tensor with the expected number of dimensions, including the batch."""
    if not isinstance(value, Shape):
        raise TypeError(f"takes a tensor, not a {type(value).__name__}")
    if rank is not None and len(value.sizes) != rank - 1:
        raise ValueError(f"takes {rank} dimensions, not {len(value.sizes) + 1}")
    return value


def whole(value: Any, least: int, most: int) -> int:
    """Refuse anything but a whole number within a range."""
    if type(value) is not int:
        raise TypeError(f"takes a whole number, not a {type(value).__name__}")
    if value > most:
        raise ValueError(f"{_short(value)} is more than {most}")
    if value < least:
        raise ValueError(f"{_short(value)} is less than {least}")
    return value


def number(value: Any) -> float:
    """Refuse anything but a number of moderate size."""
    if type(value) is float:
        return value
    return whole(value, -MAX_INT, MAX_INT)


def flag(value: Any) -> bool:
    """Refuse anything but true or false."""
    if type(value) is not bool:
        raise TypeError(f"takes true or false, not a {type(value).__name__}")
    return value


def pair(value: Any, least: int, most: int = MAX_WINDOW) -> tuple[int, int]:
    """Return one number for both sides, or one each, within a range."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"takes two numbers, not {len(value)}")
        return whole(value[0], least, most), whole(value[1], least, most)
    return whole(value, least, most), whole(value, least, most)


def axis(x: Shape, value: Any) -> int:
    """Return the index in `x.sizes` of a dimension in torch's count, where the batch is 0."""
    rank = len(x.sizes) + 1
    place = whole(value, -rank, rank - 1) % rank
    if place == 0:
        raise ValueError("works across the photos of a batch")
    return place - 1


def _short(value: int) -> str:
    return str(value) if abs(value) < 10**15 else f"a number of {value.bit_length()} bits"

"""Shapes without tensors, and the bounds on what a network may make of one photo.

A network from a file is checked with shapes before anything runs. Each operation has a rule (in
`elementwise`, `places` or `windows`) with the same arguments, a `Shape` for each tensor. The rule
returns the resulting shape and its work, or refuses; it refuses whatever it does not foresee.

The first dimension of every tensor is the batch, whose size is not known yet. It is in no `Shape`:
no operation may mix the photos of a batch, so work and memory grow with their number alone.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

MAX_INT = 2**20
"""Sizes and channels in a description."""

MAX_WINDOW = 64
"""Pixels of windows, strides and borders in a description."""

MAX_DIMENSIONS = 8
"""Of a tensor, without the batch's."""

MAX_NUMBERS = 2**27
"""Numbers of one photo that may be alive at once, 512 MiB: ten times what networks of 224 have."""

MAX_BATCH = 2**29
"""Numbers of a batch that may be alive at once, 2 GiB; a larger batch goes through in parts."""

MAX_WORK = 2**39
"""Multiply-adds that one photo may take, or what takes as long: 5 to 60 seconds on one core.
torchvision's largest, regnet_y_128gf at 384, takes 75 % of it."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a tensor without its batch dimension, and the work of making it.

    Attributes:
        sizes: of the dimensions after the first.
        work: multiply-adds, or what takes as long, for one photo.

    Raises:
        ValueError: a dimension is empty, or there are more than the bounds allow.
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
    """The unknown size of the batch dimension: it may be handed on and nothing else."""


BATCH = Batch()


def tensor(value: Any, rank: int | None = None) -> Shape:
    """Refuse what is not a tensor, or has another number of dimensions (with the batch's)."""
    if not isinstance(value, Shape):
        raise TypeError(f"takes a tensor, not a {type(value).__name__}")
    if rank is not None and len(value.sizes) != rank - 1:
        raise ValueError(f"takes {rank} dimensions, not {len(value.sizes) + 1}")
    return value


def whole(value: Any, least: int, most: int) -> int:
    """Refuse what is not a whole number in a range."""
    if type(value) is not int:
        raise TypeError(f"takes a whole number, not a {type(value).__name__}")
    if value > most:
        raise ValueError(f"{_short(value)} is more than {most}")
    if value < least:
        raise ValueError(f"{_short(value)} is less than {least}")
    return value


def number(value: Any) -> float:
    """Refuse what is not a number of moderate size."""
    if type(value) is float:
        return value
    return whole(value, -MAX_INT, MAX_INT)


def flag(value: Any) -> bool:
    """Refuse what is neither true nor false."""
    if type(value) is not bool:
        raise TypeError(f"takes true or false, not a {type(value).__name__}")
    return value


def pair(value: Any, least: int, most: int = MAX_WINDOW) -> tuple[int, int]:
    """A number for both sides, or one for each, in a range."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"takes two numbers, not {len(value)}")
        return whole(value[0], least, most), whole(value[1], least, most)
    return whole(value, least, most), whole(value, least, most)


def axis(x: Shape, value: Any) -> int:
    """The place in `x.sizes` of a dimension as torch counts them, with the batch's as 0."""
    rank = len(x.sizes) + 1
    place = whole(value, -rank, rank - 1) % rank
    if place == 0:
        raise ValueError("works across the photos of a batch")
    return place - 1


def _short(value: int) -> str:
    return str(value) if abs(value) < 10**15 else f"a number of {value.bit_length()} bits"

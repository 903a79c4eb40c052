"""Shape rules of operations that move numbers: reshape, cut, join, permute, pad, average.

The batch stays the first dimension: what would mix photos of a batch is refused.
"""

from math import prod
from typing import Any

from captioner.model.network.elementwise import ELEMENTWISE
from captioner.model.network.shapes import (
    BATCH,
    MAX_INT,
    MAX_WINDOW,
    Batch,
    Shape,
    axis,
    flag,
    number,
    tensor,
    whole,
)

COPY = 256
"""Work per number that is moved into another order."""

MAX_PIECES = 1024
"""Most tensors that are joined, or that one is cut into."""


def copied(x: Any, /) -> Shape:
    """Shape rule of a contiguous copy."""
    x = tensor(x)
    return Shape(x.sizes, COPY * x.numbers)


def get_item(value: Any, index: Any, /) -> Any:
    """Shape rule of indexing: one of several values, or a part of a tensor in each dimension.

    The batch dimension must stay whole.
    """
    if isinstance(value, (tuple, list)):
        return value[whole(index, -len(value), len(value) - 1)]
    x = tensor(value)
    parts = index if isinstance(index, tuple) else (index,)
    if not parts or parts[0] != slice(None) or len(parts) > 2 * len(x.sizes) + 1:
        raise ValueError("works across the photos of a batch")
    sizes: list[int] = []
    left = list(x.sizes)
    for part in parts[1:]:
        if part is None:
            sizes.append(1)
            continue
        if not left:
            raise ValueError("takes more dimensions than there are")
        size = left.pop(0)
        if isinstance(part, slice):
            sizes.append(len(range(*_cut(part, size))))
        else:
            whole(part, -size, size - 1)
    return Shape((*sizes, *left))


def _cut(part: slice, size: int) -> tuple[int, int, int]:
    for end in (part.start, part.stop):
        if end is not None:
            whole(end, -MAX_INT, MAX_INT)
    if part.step is not None:
        whole(part.step, 1, MAX_INT)
    return part.indices(size)


def size(x: Any, /, dim: Any = None) -> Any:
    """Return all sizes, or the size of one dimension."""
    sizes = (BATCH, *tensor(x).sizes)
    return sizes if dim is None else sizes[whole(dim, -len(sizes), len(sizes) - 1)]


def reshape(x: Any, /, *shape: Any) -> Shape:
    """Shape rule of reshaping; the batch dimension stays first."""
    x = tensor(x)
    wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    if not wanted or len(wanted) > 9:
        raise ValueError("takes up to 9 sizes")
    first, *rest = wanted
    rest = [whole(n, -1, MAX_INT * MAX_WINDOW) for n in rest]
    if isinstance(first, Batch) and rest.count(-1) == 1:
        known = -prod(rest)
        if known < 1 or x.numbers % known:
            raise ValueError(f"{x.numbers:,} numbers do not fit")
        rest[rest.index(-1)] = x.numbers // known
    elif not isinstance(first, Batch) and not (type(first) is int and first == -1):
        raise ValueError("works across the photos of a batch")
    if prod(rest) != x.numbers or min(rest, default=1) < 1:
        raise ValueError(f"{x.numbers:,} numbers do not fit")
    return Shape(tuple(rest), COPY * x.numbers)


def flatten(x: Any, /, start_dim: Any = 0, end_dim: Any = -1) -> Shape:
    """Shape rule of merging several dimensions into one."""
    x = tensor(x)
    start, end = axis(x, start_dim), axis(x, end_dim)
    if start > end:
        raise ValueError("ends before it starts")
    one = prod(x.sizes[start : end + 1])
    return Shape((*x.sizes[:start], one, *x.sizes[end + 1 :]), COPY * x.numbers)


def permute_method(x: Any, /, *dims: Any) -> Shape:
    """Shape rule of `Tensor.permute`, which takes the order as one or several arguments."""
    return permute(x, dims[0] if len(dims) == 1 else dims)


def permute(x: Any, order: Any, /) -> Shape:
    """Shape rule of a permutation of dimensions."""
    x = tensor(x)
    if not isinstance(order, (tuple, list)):
        raise TypeError("takes a list of dimensions")
    rank = len(x.sizes) + 1
    if len(order) != rank:
        raise ValueError(f"takes {rank} dimensions")
    if whole(order[0], -rank, rank - 1) % rank:
        raise ValueError("works across the photos of a batch")
    places = [axis(x, place) for place in order[1:]]
    if len(set(places)) != len(places):
        raise ValueError("names a dimension twice")
    return Shape(tuple(x.sizes[place] for place in places))


def transpose(x: Any, /, dim0: Any, dim1: Any) -> Shape:
    """Shape rule of exchanging two dimensions."""
    x = tensor(x)
    one, two = axis(x, dim0), axis(x, dim1)
    sizes = list(x.sizes)
    sizes[one], sizes[two] = sizes[two], sizes[one]
    return Shape(tuple(sizes))


def unsqueeze(x: Any, /, dim: Any) -> Shape:
    """Shape rule of inserting a dimension of size 1."""
    x = tensor(x)
    rank = len(x.sizes) + 2
    place = whole(dim, -rank, rank - 1) % rank
    if place == 0:
        raise ValueError("works across the photos of a batch")
    return Shape((*x.sizes[: place - 1], 1, *x.sizes[place - 1 :]))


def chunk(x: Any, /, chunks: Any, dim: Any = 0) -> tuple[Shape, ...]:
    """Shape rule of splitting a tensor into pieces."""
    x = tensor(x)
    place = axis(x, dim)
    along = x.sizes[place]
    long = -(-along // whole(chunks, 1, MAX_PIECES))
    return tuple(
        Shape((*x.sizes[:place], min(long, along - begin), *x.sizes[place + 1 :]))
        for begin in range(0, along, long)
    )


def concatenate(tensors: Any, dim: Any = 0) -> Shape:
    """Shape rule of joining tensors along a dimension."""
    if not isinstance(tensors, (tuple, list)) or not 1 <= len(tensors) <= MAX_PIECES:
        raise TypeError(f"takes a list of up to {MAX_PIECES:,} tensors")
    first = tensor(tensors[0])
    place = axis(first, dim)
    for x in tensors:
        others = tensor(x).sizes[:place] + x.sizes[place + 1 :]
        if others != first.sizes[:place] + first.sizes[place + 1 :]:
            raise ValueError(f"joins {first.sizes} and {x.sizes}")
    sizes = list(first.sizes)
    sizes[place] = sum(x.sizes[place] for x in tensors)
    return Shape(tuple(sizes), ELEMENTWISE * prod(sizes))


def mean(x: Any, /, dim: Any, keepdim: Any = False) -> Shape:
    """Shape rule of averaging over dimensions."""
    x = tensor(x)
    dims = dim if isinstance(dim, (tuple, list)) else [dim]
    places = [axis(x, one) for one in dims]
    if not places or len(set(places)) != len(places):
        raise ValueError("takes each dimension once")
    kept = flag(keepdim)
    sizes = [1 if i in places else n for i, n in enumerate(x.sizes) if kept or i not in places]
    return Shape(tuple(sizes), ELEMENTWISE * x.numbers)


def pad(x: Any, /, pad: Any, mode: Any = "constant", value: Any = None) -> Shape:
    """Shape rule of constant padding, given from the last dimension to the first."""
    x = tensor(x)
    if mode != "constant" or not isinstance(pad, (tuple, list)) or not pad or len(pad) % 2:
        raise ValueError("takes borders of one value, two a dimension")
    if len(pad) > 2 * len(x.sizes):
        raise ValueError("works across the photos of a batch")
    if value is not None:
        number(value)
    sizes = list(x.sizes)
    for i in range(len(pad) // 2):
        sizes[-1 - i] += sum(whole(n, 0, MAX_WINDOW) for n in pad[2 * i : 2 * i + 2])
    return Shape(tuple(sizes), ELEMENTWISE * prod(sizes))


def zero_pad(x: Any, /, padding: Any) -> Shape:
    """Shape rule of zero padding of a picture: left, right, top, bottom."""
    tensor(x, 4)
    return pad(x, (padding,) * 4 if type(padding) is int else padding)

"""What each operation makes of shapes: sizes, multiply-adds, and what is refused.

A rule has the signature of its operation, so that an argument which it does not name is refused.
Work is in multiply-adds of a large convolution; other operations count as what takes as long.
"""

from collections.abc import Callable
from math import prod
from typing import Any

from captioner.model.network.shapes import (
    BATCH,
    MAX_INT,
    MAX_WINDOW,
    Batch,
    Shape,
    axis,
    flag,
    number,
    pair,
    tensor,
    whole,
)

ELEMENTWISE = 64
"""Work of one number of an elementwise operation: memory is slower than multiplication."""

COPY = 256
"""Of one number that is moved into another order."""

NORM = 512
"""Of one number of a layer norm, whose vectors may be short."""

PLACE = 256
"""Of one number that a pool makes."""

WINDOW = 64
"""Of one number that a pool looks at."""

NARROW = 16
"""Channels of a group below which a convolution takes longer than its multiply-adds say."""

NARROW_WORK = 16
"""How much longer."""

SPREAD_WORK = 16
"""How much longer a convolution by groups takes if its window has holes."""

MAX_PIECES = 1024
"""Tensors that are joined, or that one is cut into."""


# Elementwise


def elementwise(x: Any, /) -> Shape:
    """Each number for itself."""
    x = tensor(x)
    return Shape(x.sizes, ELEMENTWISE * x.numbers)


def activation(x: Any, /, inplace: Any = False) -> Shape:
    """Each number for itself, in memory of its own or in place."""
    flag(inplace)
    return elementwise(x)


def gelu(x: Any, /, *, approximate: Any = "none") -> Shape:
    """Exact, or by the hyperbolic tangent."""
    if approximate not in ("none", "tanh"):
        raise ValueError("approximate must be none or tanh")
    return elementwise(x)


def slope(x: Any, /, negative_slope: Any = 0.01, inplace: Any = False) -> Shape:
    """Leaky rectifier."""
    number(negative_slope)
    return activation(x, inplace)


def dropout(x: Any, /, p: Any = 0.5, training: Any = True, inplace: Any = False) -> Shape:
    """`F.dropout`, which drops nothing outside of training."""
    if flag(training) or not 0 <= number(p) <= 1:
        raise ValueError("drops at random")
    flag(inplace)
    return same(x)


def dropout_layer(x: Any, /, p: Any) -> Shape:
    """`nn.Dropout` in evaluation mode."""
    return dropout(x, p, training=False)


def same(x: Any, /) -> Shape:
    """Handed on."""
    return Shape(tensor(x).sizes)


def copied(x: Any, /) -> Shape:
    """The same numbers in order of their dimensions."""
    x = tensor(x)
    return Shape(x.sizes, COPY * x.numbers)


def arithmetic(whole_numbers: Callable[[int, int], int]) -> Callable[[Any, Any], Any]:
    """Two tensors, a tensor and a number, or two whole numbers."""

    def rule(a: Any, b: Any, /) -> Any:
        if isinstance(a, Shape) and isinstance(b, Shape):
            if len(a.sizes) != len(b.sizes):
                raise ValueError("takes two tensors of as many dimensions")
            sizes = tuple(
                max(m, n) if m == n or 1 in (m, n) else 0
                for m, n in zip(a.sizes, b.sizes, strict=True)
            )
            if 0 in sizes:
                raise ValueError(f"takes tensors of one size, not {a.sizes} and {b.sizes}")
            return Shape(sizes, ELEMENTWISE * prod(sizes))
        if isinstance(a, Shape):
            number(b)
            return elementwise(a)
        if isinstance(b, Shape):
            number(a)
            return elementwise(b)
        a, b = whole(a, -MAX_INT, MAX_INT), whole(b, -MAX_INT, MAX_INT)
        return whole(whole_numbers(a, b), -MAX_INT, MAX_INT)

    return rule


def floor_divide(a: Any, b: Any, /) -> int:
    """Of two whole numbers, as of channels by groups."""
    return whole(a, 0, MAX_INT) // whole(b, 1, MAX_INT)


# Sizes and places


def get_item(value: Any, index: Any, /) -> Any:
    """One of several values, or a part of a tensor in each of its dimensions after the first."""
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
    """All sizes, or one."""
    sizes = (BATCH, *tensor(x).sizes)
    return sizes if dim is None else sizes[whole(dim, -len(sizes), len(sizes) - 1)]


def reshape(x: Any, /, *shape: Any) -> Shape:
    """The same numbers in other dimensions; the batch's stays first."""
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
    """Some dimensions as one."""
    x = tensor(x)
    start, end = axis(x, start_dim), axis(x, end_dim)
    if start > end:
        raise ValueError("ends before it starts")
    one = prod(x.sizes[start : end + 1])
    return Shape((*x.sizes[:start], one, *x.sizes[end + 1 :]), COPY * x.numbers)


def permute_method(x: Any, /, *dims: Any) -> Shape:
    """`Tensor.permute`, which takes the order as one argument or as several."""
    return permute(x, dims[0] if len(dims) == 1 else dims)


def permute(x: Any, order: Any, /) -> Shape:
    """Dimensions in another order."""
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
    """Two dimensions change places."""
    x = tensor(x)
    one, two = axis(x, dim0), axis(x, dim1)
    sizes = list(x.sizes)
    sizes[one], sizes[two] = sizes[two], sizes[one]
    return Shape(tuple(sizes))


def unsqueeze(x: Any, /, dim: Any) -> Shape:
    """A dimension of size 1 more."""
    x = tensor(x)
    rank = len(x.sizes) + 2
    place = whole(dim, -rank, rank - 1) % rank
    if place == 0:
        raise ValueError("works across the photos of a batch")
    return Shape((*x.sizes[: place - 1], 1, *x.sizes[place - 1 :]))


def chunk(x: Any, /, chunks: Any, dim: Any = 0) -> tuple[Shape, ...]:
    """A tensor in pieces."""
    x = tensor(x)
    place = axis(x, dim)
    along = x.sizes[place]
    long = -(-along // whole(chunks, 1, MAX_PIECES))
    return tuple(
        Shape((*x.sizes[:place], min(long, along - begin), *x.sizes[place + 1 :]))
        for begin in range(0, along, long)
    )


def concatenate(tensors: Any, dim: Any = 0) -> Shape:
    """Tensors joined along a dimension."""
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
    """Averages over dimensions."""
    x = tensor(x)
    dims = dim if isinstance(dim, (tuple, list)) else [dim]
    places = [axis(x, one) for one in dims]
    if not places or len(set(places)) != len(places):
        raise ValueError("takes each dimension once")
    kept = flag(keepdim)
    sizes = [1 if i in places else n for i, n in enumerate(x.sizes) if kept or i not in places]
    return Shape(tuple(sizes), ELEMENTWISE * x.numbers)


def pad(x: Any, /, pad: Any, mode: Any = "constant", value: Any = None) -> Shape:
    """Borders of one value, the last dimension's first."""
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
    """A border of zeros around a picture: left, right, top, bottom."""
    tensor(x, 4)
    return pad(x, (padding,) * 4 if type(padding) is int else padding)


# Windows


def convolution(
    x: Any,
    /,
    in_channels: Any,
    out_channels: Any,
    kernel_size: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    bias: Any = True,
) -> Shape:
    """`nn.Conv2d`."""
    x = tensor(x, 4)
    channels, *sides = x.sizes
    if whole(in_channels, 1, MAX_INT) != channels:
        raise ValueError(f"takes {in_channels} channels, not {channels}")
    made, parts = whole(out_channels, 1, MAX_INT), whole(groups, 1, MAX_INT)
    if channels % parts or made % parts:
        raise ValueError(f"{channels} and {made} channels are not {parts} groups")
    flag(bias)
    window, step = pair(kernel_size, 1), pair(stride, 1)
    spread = pair(dilation, 1)
    if padding == "same":
        if step != (1, 1):
            raise ValueError("keeps the size only with stride 1")
        out = sides
    else:
        border = (0, 0) if padding == "valid" else pair(padding, 0)
        out = [_steps(*s) for s in zip(sides, window, step, border, spread, strict=True)]
    group = channels // parts
    work = prod((made, *out, group, *window))
    if min(group, made // parts) < NARROW:
        work *= NARROW_WORK
    if parts > 1 and spread != (1, 1):
        work *= SPREAD_WORK
    return Shape((made, *out), work)


def pool(
    x: Any,
    /,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: Any = False,
    count_include_pad: Any = True,
    divisor_override: Any = None,
) -> Shape:
    """`F.avg_pool2d`."""
    flag(count_include_pad)
    if divisor_override is not None:
        whole(divisor_override, 1, MAX_INT)
    return _pool(x, kernel_size, stride, padding, 1, ceil_mode)


def max_pool(
    x: Any,
    /,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: Any = False,
    return_indices: Any = False,
) -> Shape:
    """`F.max_pool2d`."""
    if flag(return_indices):
        raise ValueError("gives places, not numbers")
    return _pool(x, kernel_size, stride, padding, dilation, ceil_mode)


def adaptive_pool(x: Any, /, output_size: Any) -> Shape:
    """A picture of a size that is given, whatever goes in."""
    x = tensor(x, 4)
    channels, *sides = x.sizes
    wanted = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * 2
    if output_size is None or len(wanted) != 2:
        raise ValueError("takes two sizes")
    given = zip(wanted, sides, strict=True)
    out = [side if n is None else whole(n, 1, MAX_WINDOW) for n, side in given]
    windows = [side // n + 2 for side, n in zip(sides, out, strict=True)]
    return Shape((channels, *out), prod((channels, *out)) * (PLACE + WINDOW * prod(windows)))


def _pool(
    x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> Shape:
    x = tensor(x, 4)
    channels, *sides = x.sizes
    window = pair(kernel_size, 1)
    step = window if stride is None or stride in ([], ()) else pair(stride, 1)
    border, spread = pair(padding, 0), pair(dilation, 1)
    if any(2 * b > w for b, w in zip(border, window, strict=True)):
        raise ValueError("has a border of more than half its window")
    up = flag(ceil_mode)
    out = [_steps(*s, up=up) for s in zip(sides, window, step, border, spread, strict=True)]
    return Shape((channels, *out), prod((channels, *out)) * (PLACE + WINDOW * prod(window)))


def _steps(side: int, window: int, stride: int, border: int, spread: int, up: bool = False) -> int:
    """Places of a window along a side."""
    room = side + 2 * border - spread * (window - 1) - 1
    if room < 0:
        raise ValueError(f"has a window of {window} over {side} pixels")
    steps = (-(-room // stride) if up else room // stride) + 1
    if up and (steps - 1) * stride >= side + border:  # a window must begin inside the picture
        steps -= 1
    return steps


# Normalisation and products


def batch_norm(x: Any, /, num_features: Any, eps: Any = 1e-5, momentum: Any = 0.1) -> Shape:
    """`nn.BatchNorm2d`, by stored statistics."""
    x = tensor(x, 4)
    if whole(num_features, 1, MAX_INT) != x.sizes[0]:
        raise ValueError(f"takes {num_features} channels, not {x.sizes[0]}")
    number(eps)
    if momentum is not None:
        number(momentum)
    return elementwise(x)


def layer_norm(
    x: Any,
    /,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: Any = 1e-5,
) -> Shape:
    """`F.layer_norm` without weights of its own."""
    x = tensor(x)
    if weight is not None or bias is not None:
        raise TypeError("takes no tensors as weights")
    if not isinstance(normalized_shape, (tuple, list)):
        raise TypeError("takes a list of sizes")
    sizes = tuple(whole(n, 1, MAX_INT) for n in normalized_shape)
    if not sizes or x.sizes[-len(sizes) :] != sizes:
        raise ValueError(f"takes the last sizes {sizes}, not {x.sizes}")
    number(eps)
    return Shape(x.sizes, NORM * x.numbers)


def linear(x: Any, /, in_features: Any, out_features: Any, bias: Any = True) -> Shape:
    """`nn.Linear`."""
    x = tensor(x)
    if not x.sizes or whole(in_features, 1, MAX_INT) != x.sizes[-1]:
        raise ValueError(f"takes vectors of {in_features}, not of {x.sizes[-1:]}")
    flag(bias)
    made = whole(out_features, 1, MAX_INT)
    sizes = (*x.sizes[:-1], made)
    return Shape(sizes, prod(sizes) * in_features)

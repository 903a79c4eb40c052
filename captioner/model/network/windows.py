"""Shape rules of operations that slide a window over a picture: convolutions and pools."""

from math import prod
from typing import Any

from captioner.model.network.shapes import (
    MAX_INT,
    MAX_WINDOW,
    Shape,
    flag,
    pair,
    tensor,
    whole,
)

PLACE = 256
"""Work per number that a pool produces."""

WINDOW = 64
"""Work per number that a pool reads."""

NARROW = 16
"""Channels per group below which a convolution takes longer than its multiply-adds say."""

NARROW_WORK = 16
"""Factor by which it takes longer."""

SPREAD_WORK = 16
"""Factor by which a grouped convolution takes longer if its window is dilated."""


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
    """Shape rule of pooling to a given size."""
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
    """Return the number of positions of a window along a side."""
    room = side + 2 * border - spread * (window - 1) - 1
    if room < 0:
        raise ValueError(f"has a window of {window} over {side} pixels")
    steps = (-(-room // stride) if up else room // stride) + 1
    if up and (steps - 1) * stride >= side + border:  # a window must begin inside the picture
        steps -= 1
    return steps

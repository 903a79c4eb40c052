"""Shape rules of operations on each number for itself, of normalisation and of linear layers.

A rule has the signature of its operation, so an argument that it does not name is refused. It
returns the resulting shape with its work in multiply-adds of a large convolution; operations that
are bound by memory count as the multiply-adds that take as long.
"""

from collections.abc import Callable
from math import prod
from typing import Any

from captioner.model.network.shapes import MAX_INT, Shape, flag, number, tensor, whole

ELEMENTWISE = 64
"""Work per number of an elementwise operation: memory is slower than multiplication."""

NORM = 512
"""Work per number of a layer norm, whose vectors may be short."""


def elementwise(x: Any, /) -> Shape:
    """Shape rule of an elementwise operation."""
    x = tensor(x)
    return Shape(x.sizes, ELEMENTWISE * x.numbers)


def activation(x: Any, /, inplace: Any = False) -> Shape:
    """Shape rule of an activation, in place or not."""
    flag(inplace)
    return elementwise(x)


def gelu(x: Any, /, *, approximate: Any = "none") -> Shape:
    """Shape rule of GELU, exact or with the hyperbolic tangent."""
    if approximate not in ("none", "tanh"):
        raise ValueError("approximate must be none or tanh")
    return elementwise(x)


def slope(x: Any, /, negative_slope: Any = 0.01, inplace: Any = False) -> Shape:
    """Shape rule of the leaky rectifier."""
    number(negative_slope)
    return activation(x, inplace)


def dropout(x: Any, /, p: Any = 0.5, training: Any = True, inplace: Any = False) -> Shape:
    """Shape rule of `F.dropout`, which drops nothing outside of training."""
    if flag(training) or not 0 <= number(p) <= 1:
        raise ValueError("drops at random")
    flag(inplace)
    return same(x)


def dropout_layer(x: Any, /, p: Any) -> Shape:
    """Shape rule of `nn.Dropout` in evaluation mode."""
    return dropout(x, p, training=False)


def same(x: Any, /) -> Shape:
    """Shape rule of the identity."""
    return Shape(tensor(x).sizes)


def arithmetic(whole_numbers: Callable[[int, int], int]) -> Callable[[Any, Any], Any]:
    """Return the shape rule for two tensors, a tensor and a number, or two whole numbers."""

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
    """Divide two whole numbers, for example channels by groups."""
    return whole(a, 0, MAX_INT) // whole(b, 1, MAX_INT)


def batch_norm(x: Any, /, num_features: Any, eps: Any = 1e-5, momentum: Any = 0.1) -> Shape:
    """Shape rule of `nn.BatchNorm2d` with stored statistics."""
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
    """Shape rule of `F.layer_norm` without weights of its own."""
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

"""The linear layer, forward and back, by the faster of two libraries on a CPU.

On a CPU torch takes MKL for products of float32, which does not use the widest registers of every
maker's processors; oneDNN, which torch comes with too, does. Measured with AVX-512 on two AMD EPYC,
one thread: of one generation 1.7 to 2.2 times as fast forward and 1.4 to 1.9 times back, of the one
before, whose registers gain nothing by their width, 1.05 to 1.8 times forward and as fast back. The
two round differently, in the last digit. Everything but float32 on a CPU is as ever.

Letters: M rows, I inputs, O outputs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """`torch.nn.Linear`, multiplied by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Rows (M, I) to rows (M, O)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Rows (M, I), weight (O, I) and bias (O,) to rows (M, O)."""
    if not onednn_multiplies(x):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        y: Tensor = Product.apply(x, weight, bias)
        return y
    return product(x, weight, bias)


class Product(torch.autograd.Function):
    """The layer on rows x (M, I): y = x W^T + b, dx = dy W, dW = dy^T x, db = sum of dy's rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Rows (M, O)."""
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, of W and of b, each if it is wanted."""
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = rounded(gradient)  # once for both
        return (
            product(rows, weight.t())[: len(x)] if of_x else None,
            sum_of_products(rows, rounded(x)) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Rows (M, O), x W^T + b, by oneDNN where it can; no gradient is recorded."""
    if not onednn_multiplies(x):
        return F.linear(x, weight, bias)
    return by_onednn(rounded(x), weight, bias)[: len(x)]


def sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """Rows a (M, O) and b (M, I) to a^T b (O, I), by oneDNN where it can."""
    if not onednn_multiplies(a):
        return a.t() @ b
    if a.shape[1] > b.shape[1]:  # it is quicker with the smaller one on the left
        return sum_of_products(b, a).t()
    return by_onednn(rounded(a).t(), rounded(b).t())


def by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Rows (M, O), x W^T + b; no gradient is recorded.

    The operator is torch.compile's. What is public, `F.linear` of a `to_mkldnn()` tensor, copies
    the rows on their way in and the larger ones on their way out: up to 1.4 times the time.
    """
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def rounded(x: Tensor) -> Tensor:
    """Rows (M, I) with rows of zeros below, up to a number that other batches have too.

    oneDNN makes a program for each shape it meets and keeps it: 1.4 ms and 0.7 MB a product for
    each of the hundreds of numbers of words that batches of captions have. Rounded to a sixteenth
    of the power of two below, there are at most 16 shapes between M and 2 M, and 3 % more work on
    average.
    """
    rows = len(x)
    step = 1 if rows <= 16 else max(16, 2 ** (rows.bit_length() - 1) // 16)
    missing = -rows % step
    return F.pad(x, (0, 0, 0, missing)) if missing else x.contiguous()


def onednn_multiplies(x: Tensor) -> bool:
    """Whether oneDNN can take these rows."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.dim() == 2
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )

"""Linear layer, forward and backward, with the faster of two libraries on a CPU.

On a CPU, torch multiplies float32 matrices with MKL, and also includes oneDNN. The faster one
depends on the processor's maker: MKL uses the widest registers only on Intel's. Measured with
AVX-512 on one thread of two AMD EPYC, oneDNN takes 0.45 to 0.6 of MKL's time forward and 0.5 to 0.7
backward (on the older one 0.55 to 0.95, and equally long backward). On an Intel Xeon it takes 1.1
to 1.9 times as long forward and 1.1 to 3.8 backward, except for a few rows (`onednn_wins`). The two
differ in the last digit, so a run records the library that it started with and resumes with the
same one. Everything but float32 on a CPU uses torch's default.

Letters: M rows, I inputs, O outputs.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.errors import CaptionerError
from captioner.model.kernels.all_steps import (
    Collected,
    SharedByAllSteps,
    shared_by_all_steps,
)

Library = Literal["mkl", "onednn"]
"""What multiplies on a CPU; `mkl` stands for what torch takes by itself."""

_chosen: Library | None = None


def library() -> Library:
    """The library in use: that of `use_library`, or else the faster one on this processor."""
    return _chosen or faster_library()


def use_library(name: str | None) -> None:
    """Multiply with a library from now on, in this process; None: with the faster one.

    Raises:
        CaptionerError: there is no library of that name.
    """
    global _chosen
    if name is not None and name not in get_args(Library):
        raise CaptionerError(f"products: {name!r} is not one of {', '.join(get_args(Library))}")
    _chosen = name  # type: ignore[assignment]


@cache
def faster_library() -> Library:
    """The library for this processor, by its maker: the same in every process on a machine."""
    is_intel = "intel" in processor().lower()
    return "mkl" if is_intel and torch.backends.mkl.is_available() else "onednn"


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's maker as the system names it (GenuineIntel, AuthenticAMD, …)."""
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == "vendor_id":
                    return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor()


class Linear(nn.Linear):
    """`torch.nn.Linear` that multiplies with `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (M, I) to rows (M, O)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the rows (M, O) of a linear layer, from x (M, I), weight (O, I) and bias (O,)."""
    if not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)):
        fixed = _fixed_weights.get()
        if fixed is None or not isinstance(weight, nn.Parameter) or not onednn_multiplies(x):
            return product(x, weight, bias)
        own = bias if isinstance(bias, nn.Parameter) else None  # a sum of two would be another
        layouts = fixed.get((id(weight), id(own)))
        if layouts is None:
            kept = None if own is None else own.detach()
            layouts = fixed[id(weight), id(own)] = FewRows(weight.detach(), kept)
        return layouts.forward(x, bias if own is None else None)
    y: Tensor
    step_weight = shared_by_all_steps(StepWeight, weight) if onednn_multiplies(x) else None
    if step_weight is not None:
        collected, layouts = step_weight.collected, step_weight.layouts
        y = StepProduct.apply(x, step_weight.shared, bias, collected, layouts)
    elif is_onednns(x):
        y = Product.apply(x, weight, bias)
    else:
        y = F.linear(x, weight, bias)
    return y


class Product(torch.autograd.Function):
    """The layer on rows x (M, I), by oneDNN.

    y = x W^T + b, dx = dy W, dW = dy^T x, db = sum of dy's rows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the rows (M, O)."""
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, W and b, as far as they are needed."""
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = rounded(gradient)  # used by both products
        return (
            product(rows, weight.t())[: len(x)] if of_x else None,
            sum_of_products(rows, rounded(x)) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )


Rows = list[tuple[Tensor, Tensor]]
"""Of each step, the gradient of its outputs (M, O) and its inputs (M, I)."""


class FewRows:
    """A weight (O, I) in the layouts that are fast for the few rows of a time step.

    MKL reads a weight that is stored as (I, O) faster, if there are fewer than a hundred rows.
    Milliseconds on an Intel Xeon, one thread, 512 inputs and 9,488 outputs, for 5, 15, 50 and 80
    rows: 0.8, 1.3, 3.2, 5.1; stored as (O, I) 1.4, 3.5, 4.6, 6.3, and with oneDNN 1.6, 2.1, 4.8,
    6.8. So both layouts are kept while the weight does not change. With oneDNN, weights stay as
    they are.

    Args:
        weight: W (O, I).
        bias: b (O,), which does not change either. MKL gets it as a last row of (I, O), and inputs
            that end with a 1: the sum then costs a copy of x instead of another pass over y.
        transpose: whether oneDNN gets a transposed copy for `back` too.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None = None, *, transpose: bool = False
    ) -> None:
        self._by_mkl = weight.device.type == "cpu" and library() == "mkl"
        self._weight = transposed(weight.t()) if self._by_mkl else weight
        copies = self._by_mkl or transpose
        self._transposed = transposed(weight) if copies else weight.t()
        self._bias = bias
        if self._by_mkl and bias is not None:
            self._transposed = torch.cat((self._transposed, bias.unsqueeze(0)))

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return x W^T + b, (M, O); records no gradient.

        Args:
            x: rows (M, I).
            bias: b (O,), only without a fixed one.
        """
        if not self._by_mkl:
            return product(x, self._weight, bias if self._bias is None else self._bias)
        if self._bias is not None:
            return torch.mm(F.pad(x, (0, 1), value=1.0), self._transposed)
        y = torch.mm(x, self._transposed)
        return y if bias is None else y.add_(bias)  # addmm first fills y with the bias: slower

    def back(self, gradient: Tensor) -> Tensor:
        """Return dy W, (M, I), of dy (M, O)."""
        if self._by_mkl:
            return torch.mm(gradient, self._weight)
        return product(gradient, self._transposed)


def transposed(weight: Tensor) -> Tensor:
    """Return a weight (O, I) stored as (I, O): a copy, unless it is stored so already.

    By 32 rows at once: 7.6 ms for 9,488 x 512 instead of the 11.8 of `weight.t().contiguous()`.
    """
    if weight.t().is_contiguous():
        return weight.t()
    copy = weight.new_empty(weight.shape[1], weight.shape[0])
    for part, rows in zip(copy.split(32, 1), weight.split(32), strict=True):
        part.copy_(rows.t())
    return copy


class StepWeight(SharedByAllSteps):
    """A weight (O, I) that a network multiplies with at every time step.

    Attributes:
        layouts: the weight for few rows; making it pays if there are at least two steps.
    """

    def __init__(self, weight: Tensor) -> None:
        is_transposed = weight.t().is_contiguous()
        super().__init__(weight, transposed_sum_of_steps if is_transposed else sum_of_steps)
        self.layouts = FewRows(weight.detach())


def sum_of_steps(rows: Rows) -> Tensor:
    """Return the sum of dy^T x over all steps, (O, I), as one product."""
    outputs, inputs = zip(*rows, strict=True)
    return sum_of_products(torch.cat(outputs), torch.cat(inputs))


def transposed_sum_of_steps(rows: Rows) -> Tensor:
    """Return the same for a weight that is stored as (I, O), stored like it."""
    outputs, inputs = zip(*rows, strict=True)
    return sum_of_products(torch.cat(inputs), torch.cat(outputs)).t()


FixedWeights = dict[tuple[int, int], FewRows]
"""Layouts of weights, by the identity of the parameter and that of its bias, if it is one too."""

_fixed_weights: ContextVar[FixedWeights | None] = ContextVar("fixed_weights", default=None)


@contextmanager
def weights_fixed(layouts: FixedWeights) -> Iterator[None]:
    """Within it, `linear` without gradients keeps each parameter in the layouts of `FewRows`.

    Args:
        layouts: those kept so far; the caller owns them, together with parameters that do not
            change meanwhile.
    """
    token = _fixed_weights.set(layouts)
    try:
        yield
    finally:
        _fixed_weights.reset(token)


class StepProduct(torch.autograd.Function):
    """As `Product`, but the weight's gradient is left until after all steps."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        collected: Collected,
        layouts: FewRows,
    ) -> Tensor:
        """Rows (M, O)."""
        ctx.save_for_backward(x, weight)  # weight: must not change
        ctx.collected, ctx.layouts = collected, layouts
        return layouts.forward(x, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and of b."""
        x, _ = ctx.saved_tensors
        of_x, of_weight, of_bias, *_ = ctx.needs_input_grad
        if of_weight:
            ctx.collected.entries().append((gradient, x))
        back = ctx.layouts.back(gradient) if of_x else None
        return back, None, gradient.sum(0) if of_bias else None, None, None


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + b, (M, O); records no gradient."""
    if is_onednns(x) or (onednn_multiplies(x) and onednn_wins(len(x), len(weight))):
        return by_onednn(rounded(x), weight, bias)[: len(x)]
    return F.linear(x, weight, bias)


def sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """Return a^T b, (O, I), of rows a (M, O) and b (M, I)."""
    if not is_onednns(a):
        return a.t() @ b
    if a.shape[1] > b.shape[1]:  # faster with the smaller one on the left
        return sum_of_products(b, a).t()
    return by_onednn(rounded(a).t(), rounded(b).t())


def by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + b, (M, O); records no gradient.

    This operator belongs to torch.compile. The public alternative, `F.linear` of a `to_mkldnn()`
    tensor, copies its input rows and larger outputs, which takes up to 1.4 times as long.
    """
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def rounded(x: Tensor) -> Tensor:
    """Pad rows (M, I) with zero rows, so that few distinct sizes M occur.

    oneDNN compiles and keeps a kernel per shape: 1.4 ms and 0.7 MB per product for each of the
    hundreds of word counts that batches of captions have. M is rounded up to a multiple of a
    sixteenth of the power of two below it. At most 16 shapes then occur between M and 2 M, for 3 %
    more work on average.
    """
    rows = len(x)
    step = 1 if rows <= 16 else max(16, 2 ** (rows.bit_length() - 1) // 16)
    missing = -rows % step
    return F.pad(x, (0, 0, 0, missing)) if missing else x.contiguous()


def onednn_wins(rows: int, outputs: int) -> bool:
    """Whether oneDNN is faster even on a processor that MKL was made for.

    So it is for the words of some hypotheses in a search. Measured on an Intel Xeon, one thread,
    I = 512: 0.43 to 0.97 of MKL's time up to 16 rows, 0.9 to 1.05 up to 320, and more beyond these
    limits.
    """
    return 4 <= rows <= 320 and outputs >= 2500 and rows * outputs >= 20_000


def is_onednns(x: Tensor) -> bool:
    """Whether these rows are for oneDNN: it can take them, and is the library in use."""
    return onednn_multiplies(x) and library() == "onednn"


def onednn_multiplies(x: Tensor) -> bool:
    """Return whether oneDNN supports these rows."""
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

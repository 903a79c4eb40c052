"""The gradient of what every time step of a network reads, computed once after all steps.

Step by step it would be a small product and a sum into a tensor of the full size, for each step.
Within `one_gradient_for_all_steps`, a step leaves what the gradient needs in a list, and the shared
tensor's own backward pass, which autograd runs after those of all steps, combines the list. For
float32 on a CPU; elsewhere nothing changes.

Letters: B images, P rows of an image, I inputs, O outputs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

Combine = Callable[[list[Any]], Tensor]
"""What the steps left, to the gradient of the tensor that they share."""


class SharedByAllSteps:
    """A tensor that the time steps of a network read.

    Args:
        own: the tensor, kept so that no other one takes its address.
        combine: see `Combine`.

    Attributes:
        shared: what the steps read.
        left: what they leave on the way back.
    """

    def __init__(self, own: Tensor, combine: Combine) -> None:
        self.own = own
        self.left: list[Any] = []
        self.shared: Tensor = GradientAfterAllSteps.apply(own, self.left, combine)


class GradientAfterAllSteps(torch.autograd.Function):
    """A tensor as it is; on the way back, which it takes after all steps, its gradient."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, left: list[Any], combine: Combine) -> Tensor:
        """Return the tensor."""
        ctx.set_materialize_grads(False)  # the steps return none
        ctx.left, ctx.combine = left, combine
        return own.view_as(own)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, None, None]:
        """Return the gradient that the steps left, and that of other readers."""
        if not ctx.left:
            return gradient, None, None
        of_steps = ctx.combine(ctx.left)
        ctx.left.clear()
        return of_steps if gradient is None else of_steps + gradient, None, None


Key = tuple[type, int, torch.Size, tuple[int, ...]]
"""Kind, address, shape and strides: each step may make its own view, such as a transpose."""

_shared: ContextVar[dict[Key, SharedByAllSteps] | None] = ContextVar("shared", default=None)


@contextmanager
def one_gradient_for_all_steps() -> Iterator[None]:
    """Within it, what all steps read gets its gradient from a single product over all of them."""
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


Kind = TypeVar("Kind", bound=SharedByAllSteps)


def shared_by_all_steps(kind: type[Kind], own: Tensor) -> Kind | None:
    """Return what the steps share of a tensor; None outside of steps, or if it has no gradient.

    Args:
        kind: how steps read it; its constructor takes the tensor.
        own: the tensor.
    """
    known = _shared.get()
    if known is None or not (torch.is_grad_enabled() and own.requires_grad):
        return None
    if own.device.type != "cpu" or own.dtype != torch.float32:
        return None
    if torch.is_autocast_enabled("cpu"):
        return None
    key = kind, own.data_ptr(), own.shape, own.stride()
    if key not in known:
        known[key] = kind(own)  # type: ignore[call-arg]
    return known[key]  # type: ignore[return-value]


class SharedBatch(SharedByAllSteps):
    """A batch of matrices (B, I, O), which rows (B, P, I) are multiplied with."""

    def __init__(self, own: Tensor) -> None:
        super().__init__(own, _sum_of_batches)


def _sum_of_batches(left: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the sum over steps of x^T dy, (B, I, O), from rows x (B, P, I) and dy (B, P, O)."""
    xs, gradients = zip(*left, strict=True)
    return torch.bmm(torch.cat(xs, 1).transpose(1, 2), torch.cat(gradients, 1))


def batched_product(x: Tensor, matrices: Tensor) -> Tensor:
    """Return `torch.bmm(x, matrices)`, (B, P, O), of rows x (B, P, I) and matrices (B, I, O)."""
    batch = shared_by_all_steps(SharedBatch, matrices)
    if batch is None or x.dtype != matrices.dtype:
        return torch.bmm(x, matrices)
    y: Tensor = BatchedStep.apply(x, batch.shared, batch.left)
    return y


class BatchedStep(torch.autograd.Function):
    """`torch.bmm`; the gradient of the matrices is left to `GradientAfterAllSteps`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrices: Tensor, left: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the product (B, P, O)."""
        ctx.save_for_backward(x, matrices)
        ctx.left = left
        return torch.bmm(x, matrices)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        """Return the gradient of x."""
        x, matrices = ctx.saved_tensors
        ctx.left.append((x, gradient))
        of_x = torch.bmm(gradient, matrices.transpose(1, 2)) if ctx.needs_input_grad[0] else None
        return of_x, None, None

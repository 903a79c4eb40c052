"""The gradient of what every time step of a network reads, computed once after all steps.

Step by step it would be a small product and a sum into a tensor of the full size, for each step.
Within `one_gradient_for_all_steps`, each step collects what the gradient needs. The backward pass
of the shared tensor, which autograd runs after those of all steps, combines what they collected.
For float32 on a CPU; elsewhere nothing changes.

Letters: B images, P rows of an image, I inputs, O outputs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

SumOverSteps = Callable[[list[Any]], Tensor]
"""Turns the collected entries into the gradient of the shared tensor."""


class Collected:
    """What the steps collect during one backward pass."""

    def __init__(self) -> None:
        self._entries: list[Any] = []
        self._backward = -1

    def entries(self) -> list[Any]:
        """Return the entries of the backward pass that runs now.

        Those of an earlier one are dropped: if it stopped at another tensor, nobody combined them.
        """
        now: int = torch._C._current_graph_task_id()
        if now != self._backward:
            self._entries, self._backward = [], now
        return self._entries


class SharedByAllSteps:
    """A tensor that the time steps of a network read.

    Args:
        tensor: the tensor, kept so that no other one takes its address.
        combine: see `SumOverSteps`.

    Attributes:
        shared: what the steps read.
        collected: what they collect in the backward pass.
    """

    def __init__(self, tensor: Tensor, combine: SumOverSteps) -> None:
        self.tensor = tensor
        self.collected = Collected()
        self.shared: Tensor = GradientAfterAllSteps.apply(tensor, self.collected, combine)


class GradientAfterAllSteps(torch.autograd.Function):
    """Identity in the forward pass; combines in the backward pass what the steps collected."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, collected: Collected, combine: SumOverSteps) -> Tensor:
        """Return the tensor."""
        ctx.set_materialize_grads(False)  # the steps return none
        ctx.collected, ctx.combine = collected, combine
        return tensor.view_as(tensor)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, None, None]:
        """Return the gradient by way of the steps, and that of other readers."""
        entries = ctx.collected.entries()
        if not entries:
            return gradient, None, None
        of_steps = ctx.combine(entries)
        entries.clear()
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


def shared_by_all_steps(kind: type[Kind], tensor: Tensor) -> Kind | None:
    """Return what the steps share of a tensor; None outside of steps, or if it has no gradient.

    Args:
        kind: how steps read it; its constructor takes the tensor.
        tensor: the tensor.
    """
    known = _shared.get()
    if known is None or not (torch.is_grad_enabled() and tensor.requires_grad):
        return None
    if tensor.device.type != "cpu" or tensor.dtype != torch.float32:
        return None
    if torch.is_autocast_enabled("cpu"):
        return None
    key = kind, tensor.data_ptr(), tensor.shape, tensor.stride()
    if key not in known:
        known[key] = kind(tensor)  # type: ignore[call-arg]
    return known[key]  # type: ignore[return-value]


class SharedBatch(SharedByAllSteps):
    """A batch of matrices (B, I, O), which rows (B, P, I) are multiplied with."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor, _sum_of_batches)


def _sum_of_batches(entries: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the sum over steps of x^T dy, (B, I, O), from rows x (B, P, I) and dy (B, P, O)."""
    xs, gradients = zip(*entries, strict=True)
    return torch.bmm(torch.cat(xs, 1).transpose(1, 2), torch.cat(gradients, 1))


def batched_product(x: Tensor, matrices: Tensor) -> Tensor:
    """Return `torch.bmm(x, matrices)`, (B, P, O), of rows x (B, P, I) and matrices (B, I, O)."""
    batch = shared_by_all_steps(SharedBatch, matrices)
    if batch is None or x.dtype != matrices.dtype:
        return torch.bmm(x, matrices)
    y: Tensor = BatchedStep.apply(x, batch.shared, batch.collected)
    return y


class BatchedStep(torch.autograd.Function):
    """`torch.bmm`; the gradient of the matrices is left to `GradientAfterAllSteps`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrices: Tensor, collected: Collected) -> Tensor:
        """Return the product (B, P, O)."""
        ctx.save_for_backward(x, matrices)
        ctx.collected = collected
        return torch.bmm(x, matrices)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        """Return the gradient of x."""
        x, matrices = ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            ctx.collected.entries().append((x, gradient))
        of_x = torch.bmm(gradient, matrices.transpose(1, 2)) if ctx.needs_input_grad[0] else None
        return of_x, None, None

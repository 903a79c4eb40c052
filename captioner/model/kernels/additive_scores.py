r"""Compute additive attention scores without storing the tensor of all sums.

Letters: B images, P queries of an image, R regions, A attention size.

    e_pr = w . tanh(q_p + k_r),      dL/dq_p = \sum_r d_pr w * (1 - tanh^2(q_p + k_r)), ...

For the words of 50 captions and 196 regions, the sums are 61 million numbers. Autograd would store
them and their tanh until the backward pass. Here the backward pass recomputes them, one image at a
time, in blocks that fit the cache. Where attention is part of the recurrence, the gradients of the
keys are summed over all steps first (`captioner.model.kernels.all_steps`).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from captioner.model.kernels.all_steps import (
    Collected,
    SharedByAllSteps,
    shared_by_all_steps,
)

MOST = 2**18
"""Sums computed at once: 1 MiB, which stays in the cache of one core."""


def additive_scores(
    queries: Tensor, keys: Tensor, weight: Tensor, counts: list[int] | None = None
) -> Tensor:
    """Return the scores (B, P, R) of queries (B, P, A), keys (B, R, A) and weight (A,).

    Args:
        queries: of each image, at most P.
        keys: of each image's regions.
        weight: of the sums.
        counts: queries of each image. Those after them are padding: on a CPU their scores are 0,
            and must get no gradient.
    """
    graph = torch.compiler.is_exporting()  # in which the number of images varies
    one_type = queries.dtype == keys.dtype == weight.dtype  # not so in mixed precision
    if not torch.is_grad_enabled() or queries.device.type != "cpu" or graph or not one_type:
        if queries.device.type == "cpu" and one_type and not graph:
            return _forward(queries, keys, weight, counts)
        return torch.tanh(queries.unsqueeze(2) + keys.unsqueeze(1)) @ weight.to(queries.dtype)
    steps = shared_by_all_steps(SharedKeys, keys)
    scores: Tensor
    if steps is None:
        scores = AdditiveScores.apply(queries, keys, weight, counts, None)
    else:
        scores = AdditiveScores.apply(queries, steps.shared, weight, counts, steps.collected)
    return scores


class SlopesOfKeys:
    """The sums over queries from which the gradient of keys (B, R, A) is computed.

    Attributes:
        of_scores: sum of d (B, R).
        squares: sum of d tanh^2 (B, R, A).
        weight: w (A,).
    """

    def __init__(self, keys: Tensor, weight: Tensor) -> None:
        self.of_scores = keys.new_zeros(keys.shape[:2])
        self.squares = torch.zeros_like(keys)
        self.weight = weight

    def gradient(self) -> Tensor:
        """Return w * sum of d (1 - tanh^2), (B, R, A)."""
        return (self.of_scores.unsqueeze(2) - self.squares).mul_(self.weight)


class SharedKeys(SharedByAllSteps):
    """Keys (B, R, A) that the queries of all steps are compared with."""

    def __init__(self, keys: Tensor) -> None:
        super().__init__(keys, _gradient_of_keys)


def _gradient_of_keys(slopes: list[SlopesOfKeys]) -> Tensor:
    """Sum over the weights that keys are compared with: one, unless two attentions share them."""
    first, *others = [one.gradient() for one in slopes]
    return sum(others, first)


def _slopes(entries: list[SlopesOfKeys], keys: Tensor, weight: Tensor) -> SlopesOfKeys:
    """Return the entry of a weight, which is made at its first step."""
    for one in entries:
        if one.weight.data_ptr() == weight.data_ptr():
            return one
    entries.append(SlopesOfKeys(keys, weight))
    return entries[-1]


class AdditiveScores(torch.autograd.Function):
    """Autograd function of `additive_scores`, differentiable once."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        weight: Tensor,
        counts: list[int] | None,
        collected: Collected | None,
    ) -> Tensor:
        """Return the scores (B, P, R).

        Args:
            ctx: stores what `backward` needs.
            queries: as for `additive_scores`.
            keys: as for `additive_scores`.
            weight: as for `additive_scores`.
            counts: as for `additive_scores`.
            collected: what the gradient of the keys needs of all steps; None outside of steps.
        """
        ctx.save_for_backward(queries, keys, weight)
        ctx.counts, ctx.collected = counts, collected
        return _forward(queries, keys, weight, counts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of queries, keys and weight."""
        queries, keys, weight = ctx.saved_tensors
        entries = [] if ctx.collected is None else ctx.collected.entries()
        slopes = _slopes(entries, keys, weight)
        slopes.of_scores += gradient.sum(1)
        of_queries = gradient.sum(2, keepdim=True).expand_as(queries).contiguous()
        of_weight = torch.zeros_like(weight)
        squares = slopes.squares.unbind()
        shared = gradient, of_queries.unsqueeze(2)
        for image, tanh, d, of_part in _tanh_of_sums(queries, keys, ctx.counts, *shared):
            of_weight.addmv_(tanh.flatten(0, 1).t(), d.flatten())
            # Sums of d (1 - tanh^2) over regions and over queries, without a tensor of the slopes.
            square = tanh.square_()  # (p, R, A)
            of_part.baddbmm_(d.unsqueeze(1), square, alpha=-1)  # (p, 1, A)
            for one, of_one in zip(square.unbind(), d.unsqueeze(2).unbind(), strict=True):
                squares[image].addcmul_(one, of_one)
        of_keys = slopes.gradient() if ctx.collected is None else None
        return of_queries.mul_(weight), of_keys, of_weight, None, None


def _forward(queries: Tensor, keys: Tensor, weight: Tensor, counts: list[int] | None) -> Tensor:
    scores = queries.new_zeros(len(queries), queries.shape[1], keys.shape[1])
    for _, tanh, part in _tanh_of_sums(queries, keys, counts, scores):
        torch.matmul(tanh, weight, out=part)
    return scores


def _tanh_of_sums(
    queries: Tensor, keys: Tensor, counts: list[int] | None, *others: Tensor
) -> Iterator[tuple[Any, ...]]:
    """Yield the image and tanh(q + k), (p, R, A), of p queries at once, without those of padding.

    The caller must use that tensor before the next one. The same p rows of other tensors
    (B, P, ...) come with it; those that the caller writes to must be contiguous. All views are
    made in advance, which saves 6 % of this function's time.
    """
    images, each = queries.shape[:2]
    step = max(1, MOST // max(1, keys[0].numel()))
    sizes, image_of = [], []
    for image, count in enumerate([each] * images if counts is None else counts):
        of_image = [min(step, count - first) for first in range(0, count, step)]
        sizes += [*of_image, each - count]
        image_of += [image] * len(of_image) + [-1]  # the last part is padding
    sums = queries.new_empty(step, *keys.shape[1:])
    of_size = {size: sums[:size] for size in set(sizes)}
    rows = (queries.unsqueeze(2), *others)
    parts = (tensor.flatten(0, 1).split(sizes) for tensor in rows)
    own_keys = keys.unbind()
    for image, size, q, *rest in zip(image_of, sizes, *parts, strict=True):
        if image >= 0:
            yield image, torch.add(q, own_keys[image], out=of_size[size]).tanh_(), *rest

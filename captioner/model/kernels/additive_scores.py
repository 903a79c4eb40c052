r"""Compute additive attention scores without storing the tensor of all sums.

Letters: B images, P queries of an image, R regions, A attention size.

    e_pr = w . tanh(q_p + k_r),      dL/dq_p = \sum_r d_pr w * (1 - tanh^2(q_p + k_r)), ...

For the words of 50 captions and 196 regions, the sums are 61 million numbers. Autograd would store
them and their tanh until the backward pass. Here the backward pass recomputes them, one image at a
time, in blocks that fit the cache.
"""

from typing import Any

import torch
from torch import Tensor

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
    if not torch.is_grad_enabled() or queries.device.type != "cpu" or graph:
        if queries.device.type == "cpu" and not graph:
            return _forward(queries, keys, weight, counts)
        return torch.tanh(queries.unsqueeze(2) + keys.unsqueeze(1)) @ weight.to(queries.dtype)
    scores: Tensor = AdditiveScores.apply(queries, keys, weight, counts)
    return scores


class AdditiveScores(torch.autograd.Function):
    """Autograd function of `additive_scores`, differentiable once."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, weight: Tensor, counts: list[int] | None
    ) -> Tensor:
        """Return the scores (B, P, R)."""
        ctx.save_for_backward(queries, keys, weight)
        ctx.counts = counts
        return _forward(queries, keys, weight, counts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of queries, keys and weight."""
        queries, keys, weight = ctx.saved_tensors
        of_queries = torch.zeros_like(queries)
        # The sum over queries of d, from which each query's d tanh^2 is subtracted below.
        of_keys = gradient.sum(1).unsqueeze(2).repeat(1, 1, keys.shape[2])
        of_weight = torch.zeros_like(weight)
        for image, rows in _spans(queries, keys, ctx.counts):
            tanh = (queries[image, rows].unsqueeze(1) + keys[image]).tanh_()  # (p, R, A)
            d = gradient[image, rows]  # (p, R)
            of_weight.addmv_(tanh.flatten(0, 1).t(), d.reshape(-1))
            # Sums of d (1 - tanh^2) over regions and over queries, without a tensor of the slopes.
            square = tanh.square_()
            over_regions = torch.bmm(d.unsqueeze(1), square).squeeze(1)  # (p, A)
            of_queries[image, rows] = d.sum(1, keepdim=True) - over_regions
            for one, of_one in zip(square, d.unsqueeze(2), strict=True):
                of_keys[image].addcmul_(one, of_one, value=-1)
        return of_queries.mul_(weight), of_keys.mul_(weight), of_weight, None


def _forward(queries: Tensor, keys: Tensor, weight: Tensor, counts: list[int] | None) -> Tensor:
    scores = queries.new_zeros(len(queries), queries.shape[1], keys.shape[1])
    for image, rows in _spans(queries, keys, counts):
        sums = queries[image, rows].unsqueeze(1) + keys[image]
        scores[image, rows] = sums.tanh_() @ weight
    return scores


def _spans(queries: Tensor, keys: Tensor, counts: list[int] | None) -> list[tuple[int, slice]]:
    """Split the queries of each image into spans that are computed at once."""
    step = max(1, MOST // max(1, keys[0].numel()))
    counts = [queries.shape[1]] * len(queries) if counts is None else counts
    return [
        (image, slice(first, min(first + step, count)))
        for image, count in enumerate(counts)
        for first in range(0, count, step)
    ]

r"""Compute additive attention scores without storing the tensor of all sums.

Letters: B images, P queries of an image, R regions, A attention size.

    e_pr = w . tanh(q_p + k_r) = \sum_a w_a - 2 w . s_pr,    s_pr = 1 / (1 + exp(2 q_p) exp(2 k_r))
    dL/dq_p = 4 w * \sum_r d_pr s_pr (1 - s_pr),             d_pr = dL/de_pr

For the words of 50 captions and 196 regions, the sums are 61 million numbers. Autograd would store
them and their tanh until the backward pass. Here the backward pass recomputes them, one image at a
time, in blocks that fit the cache. With the exponentials of queries and keys, a sum costs a product
and a reciprocal, which take three quarters of the time of a sum and a tanh. Where attention is part
of the recurrence, the gradients of the keys are summed over all steps first
(`captioner.model.kernels.all_steps`).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from captioner.model.kernels.all_steps import SharedByAllSteps, shared_by_all_steps

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
            return _without_gradient(queries, keys, weight, counts)
        return torch.tanh(queries.unsqueeze(2) + keys.unsqueeze(1)) @ weight.to(queries.dtype)
    steps = shared_by_all_steps(SharedKeys, keys)
    shared = keys if steps is None else steps.shared
    scores: Tensor = AdditiveScores.apply(queries, shared, weight, counts, steps)
    return scores


class SlopesOfKeys:
    """The sum over queries from which the gradient of keys (B, R, A) is computed.

    Attributes:
        slopes: sum of d s (1 - s), (B, R, A).
        weight: w (A,).
    """

    def __init__(self, keys: Tensor, weight: Tensor) -> None:
        self.slopes = torch.zeros_like(keys)
        self.weight = weight

    def gradient(self) -> Tensor:
        """Return 4 w * sum of d s (1 - s), (B, R, A)."""
        return self.slopes.mul_(4 * self.weight)


class SharedKeys(SharedByAllSteps):
    """Keys (B, R, A) that the queries of all steps are compared with.

    Attributes:
        exponentials: as `exponentials` returns them.
    """

    def __init__(self, keys: Tensor) -> None:
        super().__init__(keys, _gradient_of_keys)
        self.exponentials = exponentials(keys.detach())


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
        steps: SharedKeys | None,
    ) -> Tensor:
        """Return the scores (B, P, R).

        Args:
            ctx: stores what `backward` needs.
            queries: as for `additive_scores`.
            keys: as for `additive_scores`.
            weight: as for `additive_scores`.
            counts: as for `additive_scores`.
            steps: what all steps share of the keys; None outside of steps.
        """
        ctx.save_for_backward(queries, keys, weight)
        ctx.counts, ctx.collected = counts, None if steps is None else steps.collected
        ctx.of_keys = exponentials(keys) if steps is None else steps.exponentials
        return _with_gradient(queries, keys, weight, counts, ctx.of_keys)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of queries, keys and weight."""
        queries, keys, weight = ctx.saved_tensors
        entries = [] if ctx.collected is None else ctx.collected.entries()
        slopes = _slopes(entries, keys, weight)
        of_images = slopes.slopes.unbind()
        of_queries = torch.zeros_like(queries, memory_format=torch.contiguous_format)
        of_weight = torch.zeros_like(weight)
        parts = _sigmoids(queries, keys, ctx.counts, ctx.of_keys, gradient, of_queries.unsqueeze(2))
        for image, s, d, of_part in parts:
            of_weight.addmv_(s.flatten(0, 1).t(), d.flatten())
            slope = s.addcmul_(s, s, value=-1)  # s (1 - s), (p, R, A)
            torch.bmm(d.unsqueeze(1), slope, out=of_part)  # (p, 1, A)
            for one, of_one in zip(slope.unbind(), d.unsqueeze(2).unbind(), strict=True):
                of_images[image].addcmul_(one, of_one)
        of_keys = slopes.gradient() if ctx.collected is None else None
        of_weight = gradient.sum() - 2 * of_weight
        return of_queries.mul_(4 * weight), of_keys, of_weight, None, None


def exponentials(rows: Tensor) -> Tensor | None:
    """Return exp(2 x) of queries or keys x, or None if one would overflow or lose digits.

    A product of two may overflow: its reciprocal is then 0, as it should be.
    """
    twice = 2 * rows
    largest = -math.log(torch.finfo(rows.dtype).tiny)
    if twice.numel() and max(float(x.abs()) for x in twice.aminmax()) > largest:
        return None
    return twice.exp_()


def _with_gradient(
    queries: Tensor,
    keys: Tensor,
    weight: Tensor,
    counts: list[int] | None,
    of_keys: Tensor | None,
) -> Tensor:
    scores = queries.new_zeros(len(queries), queries.shape[1], keys.shape[1])
    total, twice = weight.sum(), -2 * weight
    for _, s, part in _sigmoids(queries, keys, counts, of_keys, scores):
        torch.matmul(s, twice, out=part).add_(total)
    return scores


def _without_gradient(
    queries: Tensor, keys: Tensor, weight: Tensor, counts: list[int] | None
) -> Tensor:
    """Return the scores of few queries, such as a search has: exponentials would take longer."""
    scores = queries.new_zeros(len(queries), queries.shape[1], keys.shape[1])
    for _, tanh, part in _blocks(_tanh, queries, keys, counts, scores):
        torch.matmul(tanh, weight, out=part)
    return scores


def _sigmoids(
    queries: Tensor,
    keys: Tensor,
    counts: list[int] | None,
    of_keys: Tensor | None,
    *others: Tensor,
) -> Iterator[tuple[Any, ...]]:
    """Yield s as `_blocks` does, from `exponentials` of the keys (B, R, A) where they exist."""
    of_queries = None if of_keys is None else exponentials(queries)
    if of_keys is None or of_queries is None:
        return _blocks(_sigmoid, queries, keys, counts, *others)
    return _blocks(_reciprocal, of_queries, of_keys, counts, *others)


def _tanh(q: Tensor, k: Tensor, out: Tensor) -> None:
    torch.add(q, k, out=out).tanh_()


def _sigmoid(q: Tensor, k: Tensor, out: Tensor) -> None:
    torch.add(q, k, out=out).mul_(-2).sigmoid_()


def _reciprocal(q: Tensor, k: Tensor, out: Tensor) -> None:
    torch.addcmul(q.new_ones(()), q, k, out=out).reciprocal_()


def _blocks(
    compare: Callable[[Tensor, Tensor, Tensor], None],
    queries: Tensor,
    keys: Tensor,
    counts: list[int] | None,
    *others: Tensor,
) -> Iterator[tuple[Any, ...]]:
    """Yield the image and what compares p of its queries with its keys, (p, R, A), at once.

    Queries of padding are left out. The caller must use that tensor before the next one. The same p
    rows of other tensors (B, P, ...) come with it; those that the caller writes to must be
    contiguous. All views are made in advance, which saves 6 % of this function's time.

    Args:
        compare: fills its third argument from queries (p, 1, A) and keys (R, A).
        queries: as for `additive_scores`, or their exponentials.
        keys: as for `additive_scores`, or their exponentials.
        counts: as for `additive_scores`.
        others: see above.
    """
    images, each = queries.shape[:2]
    step = max(1, MOST // max(1, keys[0].numel()))
    sizes, image_of = [], []
    for image, count in enumerate([each] * images if counts is None else counts):
        of_image = [min(step, count - first) for first in range(0, count, step)]
        sizes += [*of_image, each - count]
        image_of += [image] * len(of_image) + [-1]  # the last part is padding
    block = queries.new_empty(step, *keys.shape[1:])
    of_size = {size: block[:size] for size in set(sizes)}
    rows = (queries.unsqueeze(2), *others)
    parts = (tensor.flatten(0, 1).split(sizes) for tensor in rows)
    own_keys = keys.unbind()
    for image, size, q, *rest in zip(image_of, sizes, *parts, strict=True):
        if image >= 0:
            compare(q, own_keys[image], of_size[size])
            yield image, of_size[size], *rest

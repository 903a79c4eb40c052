"""Captions drawn at random from the model; batching does not change them.

The random numbers do not come from a generator, whose next number depends on all numbers drawn
before. A hash computes them from (seed, image key, sample, step). So an image gets the same
captions alone or in a batch of any size and order, on CPU and GPU, up to the rounding of the model.

Sampling and re-ranking::

    found = sample(start, state, step, end, SampleOptions(samples=20), image_keys=keys)
    best = rerank(found, n_best=1)                    # by the model's own score, or
    best = rerank(found, n_best=1, by=scores)         # by any (B, K): CIDEr among the samples, ...

Letters: B images, K samples of each, A images still drawn, M = A * K rows, T steps, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captioner.decoding.constraints import Constraint, with_own
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.length import LengthNormalisation
from captioner.decoding.options import SampleOptions, check_at_least
from captioner.decoding.pytree import State, select_rows
from captioner.decoding.step import Looked, Step, broken_step, normalised
from captioner.errors import CaptionerError, UsageError

NEVER = float("-inf")


@torch.no_grad()
def sample(
    start_ids: Tensor,
    state: State,
    step: Step,
    end_id: int,
    options: SampleOptions | None = None,
    *,
    image_keys: Tensor,
    shared: Any = None,
    constraints: Sequence[Constraint] = (),
    looked: Looked | None = None,
) -> Hypotheses:
    """Draw captions word by word.

    Args:
        start_ids: (B,) int64, the id from which each caption starts.
        state: As for :func:`captioner.decoding.beam_search.beam_search`.
        step: As there.
        end_id: The word that ends a caption.
        options: How to draw; the defaults if not given.
        image_keys: (B,) int64, a number that identifies the image in any batch, such as its id. The
            samples of an image are a function of the seed and this key.
        shared: As for beam search.
        looked: As for beam search.
        constraints: Forbidden words are never drawn, the others in proportion.

    Returns:
        K captions of each image in the order drawn. Probabilities and scores are those of the
        model: temperature, top-k and top-p do not change them.

    Raises:
        UsageError: A shape or id is wrong.
        CaptionerError: ``step`` returned NaN or infinity, or no word is left to draw.
    """
    options = options or SampleOptions()
    _check_shapes(start_ids, image_keys)
    images, k, max_length = len(start_ids), options.samples, options.max_length
    device = start_ids.device
    if images == 0:
        return Hypotheses.empty(k, max_length, device)

    order = torch.arange(images, device=device).repeat_interleave(k)
    ids, state = start_ids[order], select_rows(state, order)
    numbers = torch.arange(k, device=device).repeat(images)
    streams = random_streams(options.seed, image_keys[order], numbers)
    constraints = with_own(constraints, options)
    held = [constraint.start(ids) for constraint in constraints]
    drawn = _Drawn(images * k, max_length, end_id, device)
    rows = torch.arange(images * k, device=device)  # those still drawn, all K of an image together
    for t in range(1, max_length + 1):
        logits, state = step(ids, state) if shared is None else step(ids, state, shared)
        log_probs = normalised(logits, len(ids), end_id)
        allowed = log_probs.clone() if constraints or t <= options.min_length else log_probs
        for constraint, memory in zip(constraints, held, strict=True):
            constraint.forbid(allowed, memory, end_id, t == max_length)
        if t <= options.min_length:
            allowed[:, end_id] = NEVER
        drawing = drawn.unfinished(rows)
        _check(logits, allowed, drawing, t)
        uniform = uniform_numbers(streams[rows], t)
        ids = draw(allowed / options.temperature, uniform, options.top_k, options.top_p)
        ids = torch.where(drawing, ids, end_id)  # ended samples may hold anything
        drawn.add(t, rows, ids, log_probs, drawing, None if looked is None else looked(state))
        held = [
            constraint.advance(memory, ids)
            for constraint, memory in zip(constraints, held, strict=True)
        ]
        unfinished = drawn.unfinished(rows).view(-1, k).any(dim=1)
        if not (remaining := int(unfinished.sum())):
            break
        if 8 * remaining <= 7 * len(unfinished):
            kept = unfinished.repeat_interleave(k).nonzero().squeeze(1)
            rows, ids = rows[kept], ids[kept]
            state, held = select_rows(state, kept), select_rows(held, kept)
            if shared is not None:
                shared = select_rows(shared, unfinished.nonzero().squeeze(1))
    return drawn.hypotheses(images, options)


def _check_shapes(start_ids: Tensor, image_keys: Tensor) -> None:
    """Refuse ids and keys that are not both (images,)."""
    if start_ids.dim() != 1 or image_keys.shape != start_ids.shape:
        raise UsageError(
            f"start_ids, image_keys: shapes {tuple(start_ids.shape)} and "
            f"{tuple(image_keys.shape)}; both should be (images,)"
        )


class _Drawn:
    """The words drawn so far, of N = B * K captions, with their log-probabilities."""

    def __init__(self, captions: int, max_length: int, end_id: int, device: torch.device) -> None:
        self._captions, self._max_length, self._end_id = captions, max_length, end_id
        self._words = torch.full((captions, max_length), end_id, device=device)
        self._lengths = torch.full((captions,), max_length, device=device)
        self._word_log_probs: Tensor | None = None  # their type is that of the first step
        self._attention: Tensor | None = None

    def unfinished(self, rows: Tensor) -> Tensor:
        """Whether the captions of some rows (M,) have no end yet."""
        return self._lengths[rows] == self._max_length

    def add(
        self,
        t: int,
        rows: Tensor,
        ids: Tensor,
        log_probs: Tensor,
        drawing: Tensor,
        attention: Tensor | None,
    ) -> None:
        """Add the t-th word of some rows.

        Args:
            t: Counted from 1.
            rows: (M,), the captions.
            ids: (M,), their words.
            log_probs: (M, V), of all words.
            drawing: (M,) bool, whether the caption had no end before.
            attention: (M, R), attention weights of the step.
        """
        if self._word_log_probs is None:
            self._word_log_probs = log_probs.new_zeros(self._captions, self._max_length + 1)
        chosen = log_probs.gather(1, ids.unsqueeze(1)).squeeze(1)
        self._word_log_probs[rows, t - 1] = torch.where(drawing, chosen, 0.0)
        self._words[rows, t - 1] = ids
        if attention is not None:
            if self._attention is None:
                shape = (self._captions, self._max_length + 1, attention.shape[1])
                self._attention = attention.new_zeros(shape)
            self._attention[rows, t - 1] = attention * drawing.unsqueeze(1)
        ends = drawing & (ids == self._end_id)
        self._lengths[rows] = torch.where(ends, t - 1, self._lengths[rows])

    def hypotheses(self, images: int, options: SampleOptions) -> Hypotheses:
        """Return the captions by image, with their scores."""
        assert self._word_log_probs is not None
        log_prob = self._word_log_probs.sum(dim=1)
        # The end word is predicted too, unless the caption was cut.
        predicted = (self._lengths + 1).clamp(max=self._max_length)
        length = LengthNormalisation(options.lengths(), log_prob.device, log_prob.dtype)
        shape, attention = (images, options.samples), self._attention
        return Hypotheses(
            self._words.unflatten(0, shape),
            self._lengths.view(shape),
            length.score(log_prob, predicted).view(shape),
            log_prob.view(shape),
            self._word_log_probs.unflatten(0, shape),
            None if attention is None else attention.unflatten(0, shape),
        )


def rerank(found: Hypotheses, n_best: int = 1, by: Tensor | None = None) -> Hypotheses:
    """Return the best different captions of each image.

    Args:
        found: K captions of each image, in any order, some perhaps the same.
        n_best: How many to keep, at most K. If fewer differ, the rest do not exist.
        by: (B, K), what to rank by, larger is better; ``found.scores`` if not given.

    Returns:
        (B, n_best) captions, best first; their ``scores`` are what they were ranked by.

    Raises:
        UsageError: ``n_best`` is not between 1 and K, or ``by`` has another shape than the scores.
    """
    check_at_least("n_best", n_best, 1)
    k = found.scores.shape[1]
    if n_best > k:
        raise UsageError(f"n_best: {n_best} is more than the {k} captions of an image")
    by = found.scores if by is None else by
    if by.shape != found.scores.shape:
        raise UsageError(
            f"by: shape {tuple(by.shape)}; it should be {tuple(found.scores.shape)}, as the scores"
        )
    # Words are filled up with the end id, so equal rows are equal captions.
    same = (found.words.unsqueeze(2) == found.words.unsqueeze(1)).all(dim=3)
    repeated = same.tril(diagonal=-1).any(dim=2)
    return found.best(n_best, by.masked_fill(repeated | (found.scores == NEVER), NEVER))


def draw(log_probs: Tensor, uniform: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Draw one word per row, by inverting the distribution function at a uniform number.

    Args:
        log_probs: (M, V), need not be normalised; -inf is never drawn.
        uniform: (M,) float64 in [0, 1).
        top_k: As in :class:`captioner.decoding.options.SampleOptions`.
        top_p: As there; taken after top-k.

    Returns:
        (M,) int64.
    """
    if 0 < top_k < log_probs.shape[1]:
        least = log_probs.topk(top_k, dim=1).values[:, -1:]
        log_probs = log_probs.masked_fill(log_probs < least, NEVER)
    # Double precision: a sum over thousands of words decides on single ones.
    probabilities = log_probs.double().softmax(dim=1)
    if top_p < 1:
        ordered = probabilities.sort(dim=1, descending=True).values
        needed = (ordered.cumsum(dim=1) - ordered < top_p).sum(dim=1, keepdim=True)
        least = ordered.gather(1, needed - 1)
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    # The words stay in the order of the vocabulary: sorted, two that differ by a rounding error
    # only could change places from one batch to the next.
    cumulative = probabilities.cumsum(dim=1)
    target = uniform.unsqueeze(1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(1)


def random_streams(seed: int, keys: Tensor, samples: Tensor) -> Tensor:
    """Return a number (M,) int64 to draw from, for image keys and sample numbers (M,) int64."""
    seeded = torch.full_like(keys, seed % 2**62)
    return _mixed(_mixed(_mixed(seeded) ^ keys) ^ samples)


def uniform_numbers(streams: Tensor, t: int) -> Tensor:
    """Return the t-th random number of each stream (M,), float64 in [0, 1)."""
    return _shifted(_mixed(streams + t), 11).double() / 2**53


def _mixed(x: Tensor) -> Tensor:
    """Return the SplitMix64 hash (Steele, Lea & Flood 2014) of int64 numbers, modulo 2 ** 64."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros; torch fills with the sign."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def _check(logits: Tensor, allowed: Tensor, drawing: Tensor, t: int) -> None:
    best = allowed.amax(dim=1)[drawing]
    if bool(best.isnan().any()):
        raise broken_step(logits, t)
    if bool((best == NEVER).any()):
        raise CaptionerError(f"no word is left to draw at word {t}: all are forbidden")

"""Beam search for many images at once, around any function that takes captions one word further.

Example: a model of three words that never says the same thing twice in a row. ::

    >>> import torch
    >>> from captioner.decoding.beam_search import SearchOptions, beam_search
    >>> start, end, cat, dog = range(4)
    >>> bigrams = torch.tensor([[0.0, 0.0, 0.6, 0.4],    # P(next word | start)
    ...                         [0.0, 1.0, 0.0, 0.0],    # P(next word | end)
    ...                         [0.0, 0.3, 0.0, 0.7],    # P(next word | cat)
    ...                         [0.0, 0.9, 0.1, 0.0]])   # P(next word | dog)
    >>> def step(ids, state):
    ...     return bigrams[ids].log(), state
    >>> found = beam_search(torch.tensor([start]), None, step, end, SearchOptions(n_best=2))
    >>> found.captions()
    [[[2, 3], [3]]]
    >>> [round(p, 3) for p in found.log_probs[0].exp().tolist()]
    [0.378, 0.36]

How it searches. Each step ranks all one-word continuations of the K live hypotheses of an image.
Those among the best K that end are finished and leave the beam; the best K that do not end live on.
An image is done when no live hypothesis can still beat the captions it has finished, whatever the
length normalisation (see :mod:`captioner.decoding.length`); a beam of one is greedy search and done
at its first end. Done images leave the batch. With a beam as wide as the number of captions the
result is that of exhaustive enumeration.

Letters: B images, A images still searched, K beams, M = A * K rows, T maximum length, V vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captioner.decoding.backpointers import BackPointers
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.length import LengthNormalisation
from captioner.decoding.options import SearchOptions
from captioner.decoding.top_words import top_words
from captioner.decoding.tree import State, select_rows
from captioner.errors import CaptionerError, UsageError

__all__ = ["SearchOptions", "Step", "beam_search"]

# (ids (M,) int64, state) -> (logits or log-probabilities (M, V), state);
# where something is shared it comes third: step(ids, state, shared).
Step = Callable[..., tuple[Tensor, State]]

NEVER = float("-inf")


@torch.no_grad()
def beam_search(
    start_ids: Tensor,
    state: State,
    step: Step,
    end_id: int,
    options: SearchOptions | None = None,
    *,
    shared: Any = None,
) -> Hypotheses:
    """Finds the most probable captions of a batch of images.

    Args:
        start_ids: (B,) int64, the id from which each caption starts.
        state: Tensors with B rows in nested tuples, lists, dicts or dataclasses. Rows follow their
            hypotheses: ``step`` sees M of them, ordered by image, then beam.
        step: ``step(ids, state) -> (scores, state)`` with ids (M,) and scores (M, V), logits or
            log-probabilities alike: they are normalised here. M is B at the first step and K times
            the number of unfinished images after it.
        end_id: The word that ends a caption.
        options: Widths, lengths and normalisation; the defaults if not given.
        shared: What all beams of an image share and no step changes, such as the attention keys
            (B, R, F). Given, ``step`` is called as ``step(ids, state, shared)``; each tensor has
            one row for each of the A unfinished images, never one per beam, so that
            ``state.view(A, M // A, ...)`` lines up with it.

    Returns:
        The ``n_best`` captions of each image, best first.

    Raises:
        UsageError: ``start_ids`` is not (B,), or ``end_id`` is not in the vocabulary.
        CaptionerError: ``step`` returned NaN or infinity, or left an image without any caption.
    """
    options = options or SearchOptions()
    if start_ids.dim() != 1:
        raise UsageError(f"start_ids: shape {tuple(start_ids.shape)}; it should be (images,)")
    if len(start_ids) == 0:
        return _no_images(options, start_ids.device)

    search: _Search | None = None
    ids = start_ids
    done: list[tuple[Tensor, Hypotheses]] = []
    for t in range(1, options.max_length + 1):
        logits, state = step(ids, state) if shared is None else step(ids, state, shared)
        if search is None:
            _check_scores(logits, len(start_ids), end_id)
            search = _Search(len(start_ids), end_id, options, logits)
        ids, rows = search.extend(t, logits)
        last = t == options.max_length
        # Asking costs a wait for the device: nothing on CPU, a stalled queue on a GPU.
        if last or t % search.ask_every == 0:
            finished = search.finished(t, logits)
            if last or bool(finished.all()):
                done.append(search.result(torch.ones_like(finished)))
                break
            if 8 * int(finished.sum()) >= len(finished):
                done.append(search.result(finished))
                rows = search.keep(~finished, rows)
                ids = ids.view(len(finished), -1)[~finished].flatten()
                if shared is not None:
                    shared = select_rows(shared, (~finished).nonzero().squeeze(1))
        state = select_rows(state, rows)
    order = torch.cat([images for images, _ in done]).argsort()
    return Hypotheses.concatenate([found for _, found in done]).of_images(order)


class _Search:
    """The live hypotheses of A images and the best finished ones."""

    def __init__(self, images: int, end_id: int, options: SearchOptions, logits: Tensor) -> None:
        device = logits.device
        # Half precision cannot tell apart the sums of twenty log-probabilities.
        self.dtype = torch.promote_types(logits.dtype, torch.float32)
        self.ask_every = 1 if device.type == "cpu" else 4
        self._end_id = end_id
        self._options = options
        self._length = LengthNormalisation(options, device, self.dtype)
        self._images = torch.arange(images, device=device)
        self._past = BackPointers(images, options.beam_size, options.max_length, device, self.dtype)
        # (A, 1) before the first step: all beams start from the same word.
        self._log_probs = torch.zeros(images, 1, dtype=self.dtype, device=device)
        # The finished captions: score, and where to read them (number of words * K + beam).
        self._scores = torch.full((images, options.n_best), NEVER, dtype=self.dtype, device=device)
        self._places = torch.zeros_like(self._scores, dtype=torch.int64)

    def extend(self, t: int, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Step t: ends and extends hypotheses; returns the next ids and their state rows, (M,)."""
        images, beams = self._log_probs.shape
        width = self._options.beam_size
        log_probs = torch.log_softmax(logits, dim=1, dtype=self.dtype)

        end_log_probs = log_probs[:, self._end_id].view(images, beams).clone()
        log_probs[:, self._end_id] = NEVER
        k = min(width, log_probs.shape[1])
        values, words = top_words(log_probs, k)  # (M, k)

        # No image has more than K live continuations of one hypothesis among its best K.
        totals = self._log_probs.unsqueeze(2) + values.view(images, beams, k)
        # A dead beam may hold anything, NaN too: it stays dead.
        dead = self._log_probs == NEVER
        totals = totals.masked_fill(dead.unsqueeze(2), NEVER).flatten(1)
        if totals.shape[1] < width:
            totals = torch.nn.functional.pad(totals, (0, width - totals.shape[1]), value=NEVER)
        live, choice = totals.topk(width, dim=1)  # (A, K)
        choice = choice.clamp(max=beams * k - 1)
        parents = choice.div(k, rounding_mode="floor")

        self._past.end_log_probs[t - 1, :, :beams] = end_log_probs
        if t > self._options.min_length:
            ends = (self._log_probs + end_log_probs).masked_fill(dead, NEVER)
            self._finish(ends, live, t)
        words = words.view(images, -1).gather(1, choice)
        chosen = values.view(images, -1).gather(1, choice)
        self._past.record(t, parents, words, chosen, live)
        self._log_probs = live
        first_rows = torch.arange(0, images * beams, beams, device=live.device)
        if t == self._options.max_length:  # cut: what still lives is a caption as it stands
            self._add(self._length.score(live, t), t * width + torch.arange(width).to(live.device))
        return words.flatten(), (parents + first_rows.unsqueeze(1)).flatten()

    def _finish(self, ends: Tensor, live: Tensor, t: int) -> None:
        """Takes the ends (A, beams) that are among the best K of all continuations."""
        width = self._options.beam_size
        threshold = torch.cat([live, ends], dim=1).topk(width, dim=1).values[:, -1:]
        scores = self._length.score(ends, t).masked_fill(ends < threshold, NEVER)
        self._add(scores, (t - 1) * width + torch.arange(ends.shape[1], device=ends.device))

    def _add(self, scores: Tensor, places: Tensor) -> None:
        """Merges captions with scores (A, N) and places (N,) into the best ``n_best``."""
        scores = torch.cat([self._scores, scores], dim=1)
        places = torch.cat([self._places, places.expand(len(scores), -1)], dim=1)
        self._scores, best = scores.topk(self._options.n_best, dim=1)
        self._places = places.gather(1, best)

    def finished(self, t: int, logits: Tensor) -> Tensor:
        """Which images (A,) are done after step t; their live hypotheses are dropped."""
        best = self._log_probs[:, 0]
        if bool((best.isnan() | self._scores[:, 0].isnan()).any()):
            raise self._broken_step(t, logits)
        if t == self._options.max_length:
            done = torch.ones_like(best, dtype=torch.bool)
        else:
            worst = self._scores[:, -1]
            done = worst >= self._length.bound(best, t)
            if self._options.beam_size == 1:
                done |= worst > NEVER
        lost = done & (self._scores[:, 0] == NEVER)
        if bool(lost.any()):
            raise CaptionerError(
                f"no caption is left for image {self._images[lost][0].item()} of the batch "
                f"at word {t}: every continuation has probability zero or is forbidden"
            )
        self._log_probs = self._log_probs.masked_fill(done.unsqueeze(1), NEVER)
        return done

    def _broken_step(self, t: int, logits: Tensor) -> CaptionerError:
        """Says what the step returned that is not a distribution."""
        where = f"at or shortly before word {t}" if self.ask_every > 1 else f"at word {t}"
        if bool((logits == NEVER).all(dim=1).any()) and not bool(logits.isnan().any()):
            return CaptionerError(f"the step allows no word at all {where}: a row is all -inf")
        return CaptionerError(
            f"the step returned NaN or infinity {where}; it should return logits or "
            f"log-probabilities (were the weights trained to NaN?)"
        )

    def result(self, which: Tensor) -> tuple[Tensor, Hypotheses]:
        """The images, (A',) int64, of the mask (A,) and their captions."""
        rows = which.nonzero().squeeze(1)
        scores = self._scores[rows]
        missing = scores == NEVER
        width = self._options.beam_size
        lengths = self._places[rows].div(width, rounding_mode="floor").masked_fill(missing, 0)
        beams = (self._places[rows] % width).masked_fill(missing, 0)
        words, log_probs, word_log_probs = self._past.read(rows, lengths, beams, self._end_id)
        found = Hypotheses(
            words,
            lengths,
            scores,
            log_probs.masked_fill(missing, NEVER),
            word_log_probs.masked_fill(missing.unsqueeze(2), 0.0),
        )
        return self._images[rows], found

    def keep(self, which: Tensor, rows: Tensor) -> Tensor:
        """Goes on with the images of the mask (A,) only; returns their rows out of (M,)."""
        kept = which.nonzero().squeeze(1)
        rows = rows.view(len(which), -1)[kept].flatten()
        self._images = self._images[kept]
        self._log_probs = self._log_probs[kept]
        self._scores = self._scores[kept]
        self._places = self._places[kept]
        self._past.keep_images(kept)
        return rows


def _check_scores(scores: Tensor, rows: int, end_id: int) -> None:
    if scores.dim() != 2 or scores.shape[0] != rows:
        raise UsageError(
            f"step: it returned scores of shape {tuple(scores.shape)} for {rows} words; "
            f"they should be ({rows}, vocabulary)"
        )
    if not 0 <= end_id < scores.shape[1]:
        raise UsageError(f"end_id: {end_id} is not in the vocabulary of {scores.shape[1]} words")


def _no_images(options: SearchOptions, device: torch.device) -> Hypotheses:
    k, t = options.n_best, options.max_length
    none = torch.zeros(0, k, device=device)
    return Hypotheses(
        words=torch.zeros(0, k, t, dtype=torch.int64, device=device),
        lengths=none.to(torch.int64),
        scores=none,
        log_probs=none.clone(),
        word_log_probs=torch.zeros(0, k, t + 1, device=device),
    )

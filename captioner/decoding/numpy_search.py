"""Beam search in numpy, for runtimes without torch; it equals `captioner.decoding.beam_search`.

The algorithm is described there, and tests compare the two on random models. Diverse groups and
required phrases are not supported.

Letters: A images, J hypotheses of each before a step (1 at first), K after it, T maximum length, t
words so far, V vocabulary, R regions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from captioner.decoding.numpy_constraints import NEVER, NoWordTwiceInARow, NumpyConstraint
from captioner.decoding.options import SearchOptions
from captioner.errors import CaptionerError, UsageError

Arrays = tuple[np.ndarray, ...]

NumpyStep = Callable[[np.ndarray, Arrays, Arrays], tuple[np.ndarray, Arrays, np.ndarray | None]]
"""Takes words (A, J) int64, the state (A, J, …) and what all hypotheses of an image share (A, …).
Returns log-probabilities (A, J, V), the new state, and attention weights (A, J, R) or None."""

_FOLDS = 16


@dataclass(frozen=True)
class FoundCaption:
    """One caption of an image.

    Attributes:
        words: Word ids without the end word; T of them if it was truncated.
        score: What ranked it: its log-probability, length-normalised.
        log_prob: Total log-probability, in nats.
        word_log_probs: Log-probability of each word and of the end word, if there is one.
        attention: (words, R). Weights of the same words; None if the model does not attend.
    """

    words: list[int]
    score: float
    log_prob: float
    word_log_probs: list[float]
    attention: np.ndarray | None


def beam_search(
    start_id: int,
    state: Arrays,
    shared: Arrays,
    step: NumpyStep,
    end_id: int,
    options: SearchOptions,
    constraints: Sequence[NumpyConstraint] = (),
) -> list[list[FoundCaption]]:
    """Return the `n_best` captions of each image, best first.

    Args:
        start_id: The start word of each caption.
        state: Tensors before the first word, (A, …).
        shared: Tensors that all hypotheses of an image share, (A, …).
        step: The model.
        end_id: The word that ends a caption.
        options: Search options.
        constraints: Words that captions must not contain.

    Raises:
        UsageError: The options ask for groups.
        CaptionerError: The step returned NaN, or an image has no possible caption.
    """
    if options.groups > 1:
        raise UsageError("groups: not supported by the search in numpy; use torch")
    if options.no_repeat_word:
        constraints = [*constraints, NoWordTwiceInARow()]
    images = len(state[0])
    live = _Live(images, [tensor[:, None] for tensor in state], list(shared), start_id)
    found: list[list[FoundCaption]] = [[] for _ in range(images)]
    lengths = _Lengths(options)
    for t in range(1, options.max_length + 1):
        log_probs, new_state, seen = step(live.last_words, tuple(live.state), tuple(live.shared))
        _check(log_probs, live.totals, t)
        last = t == options.max_length
        rows = log_probs.reshape(-1, log_probs.shape[2])
        for constraint in constraints:
            constraint.forbid(rows, live.words.reshape(len(rows), -1), end_id, last)
        ends = log_probs[:, :, end_id].copy()
        log_probs[:, :, end_id] = NEVER
        chosen = _select(live.totals, log_probs, options.beam_size)
        if t > options.min_length:
            _finish(live, ends, seen, chosen, lengths, found)
        live.advance(chosen, new_state, seen)
        if last:
            _truncate(live, lengths, found)
        done = _done(live, lengths, found, last)
        for image in live.images[done]:
            if not found[image]:
                raise CaptionerError(
                    f"image {image} of the batch (counted from 0) has no caption left at word "
                    f"{t}: every continuation has probability zero or is forbidden"
                )
        if done.all():
            break
        if 8 * done.sum() >= len(done):  # removing fewer images costs more than it saves
            live.keep(~done)
        else:
            live.totals[done] = NEVER
    return found


@dataclass(frozen=True)
class _Chosen:
    """The K continuations of each image that stay live, best first; each array is (A, K)."""

    totals: np.ndarray
    parents: np.ndarray
    words: np.ndarray
    word_log_probs: np.ndarray


class _Live:
    """The live hypotheses of the images that are still searched."""

    def __init__(
        self, images: int, state: list[np.ndarray], shared: list[np.ndarray], start_id: int
    ) -> None:
        self.images = np.arange(images)
        self.state = state
        self.shared = shared
        self.last_words = np.full((images, 1), start_id)
        self.totals = np.zeros((images, 1), dtype=np.float32)
        self.words = np.zeros((images, 1, 0), dtype=np.int64)  # (A, J, t)
        self.word_log_probs = np.zeros((images, 1, 0), dtype=np.float32)  # (A, J, t)
        self.attention: np.ndarray | None = None  # (A, J, t, R)

    def advance(
        self, chosen: _Chosen, state: Sequence[np.ndarray], seen: np.ndarray | None
    ) -> None:
        """Continue the chosen hypotheses by one word."""
        image = np.arange(len(self.images))[:, None]
        parents = chosen.parents
        if seen is not None:
            seen = seen[:, :, None]
            if self.attention is not None:
                seen = np.concatenate([self.attention, seen], axis=2)
            self.attention = seen[image, parents]
        self.state = [tensor[image, parents] for tensor in state]
        self.words = np.concatenate([self.words[image, parents], chosen.words[:, :, None]], axis=2)
        self.word_log_probs = np.concatenate(
            [self.word_log_probs[image, parents], chosen.word_log_probs[:, :, None]], axis=2
        )
        self.totals, self.last_words = chosen.totals, chosen.words

    def keep(self, which: np.ndarray) -> None:
        """Keep only the images in the mask (A,)."""
        self.images, self.totals = self.images[which], self.totals[which]
        self.words, self.last_words = self.words[which], self.last_words[which]
        self.word_log_probs = self.word_log_probs[which]
        self.attention = None if self.attention is None else self.attention[which]
        self.state = [tensor[which] for tensor in self.state]
        self.shared = [tensor[which] for tensor in self.shared]


class _Lengths:
    """`captioner.decoding.length.LengthNormalisation` in numpy."""

    def __init__(self, options: SearchOptions) -> None:
        self.options = options
        n = np.arange(options.max_length + 1, dtype=np.float32)
        self.penalty = {
            "none": np.ones_like(n),
            "average": np.maximum(n, 1),
            "gnmt": ((5 + n) / 6) ** np.float32(options.length_alpha),
        }[options.length_norm]
        self.reward = np.float32(options.word_reward) * n

    def score(self, log_probs: np.ndarray, n: int) -> np.ndarray:
        """Score hypotheses of any shape with n predicted words."""
        scores: np.ndarray = log_probs / self.penalty[n] + self.reward[n]
        return scores

    def bound(self, log_probs: np.ndarray, n: int) -> np.ndarray:
        """Return an upper bound (A,) on the scores of all continuations of hypotheses (A,)."""
        if self.options.word_reward >= 0:
            return self.score(log_probs, -1)
        scores = log_probs[:, None] / self.penalty[n + 1 :] + self.reward[n + 1 :]
        bounds: np.ndarray = scores.max(axis=1)
        return bounds


def _check(log_probs: np.ndarray, totals: np.ndarray, t: int) -> None:
    """Refuse scores of live hypotheses that are not a distribution."""
    if np.isnan(log_probs.sum(axis=2)[totals > NEVER]).any():
        raise CaptionerError(
            f"step: returned NaN or infinity by word {t} (check the weights and the photo)"
        )


def top_words(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k largest values of each row (M, V) and their columns, largest first.

    As `captioner.decoding.topk.top_words`: the row is folded into V / 16 columns of 16 words, and
    the k best words lie in the k columns with the largest maxima.
    """
    rows, width = scores.shape
    columns = width // _FOLDS
    if columns < 4 * k:
        return _largest(scores, k)
    whole = columns * _FOLDS
    maxima = scores[:, :whole].reshape(rows, _FOLDS, columns).max(axis=1)
    best = np.argpartition(maxima, columns - k, axis=1)[:, columns - k :]
    candidates = (best[:, :, None] + np.arange(0, whole, columns)).reshape(rows, -1)
    rest = np.broadcast_to(np.arange(whole, width), (rows, width - whole))
    candidates = np.concatenate([candidates, rest], axis=1)
    values, places = _largest(np.take_along_axis(scores, candidates, axis=1), k)
    return values, np.take_along_axis(candidates, places, axis=1)


def _largest(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k largest values of each row and their columns, largest first."""
    places = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, places, axis=1), places


def _select(totals: np.ndarray, log_probs: np.ndarray, width: int) -> _Chosen:
    """Select the best K continuations of each image, from totals (A, J) and scores (A, J, V)."""
    images, beams, vocabulary = log_probs.shape
    k = min(width, vocabulary)
    values, words = top_words(log_probs.reshape(-1, vocabulary), k)
    values, words = values.reshape(images, -1), words.reshape(images, -1)
    ranks = np.repeat(totals, k, axis=1) + values
    ranks[np.repeat(totals == NEVER, k, axis=1)] = NEVER  # a dead one may hold any value
    if beams * k < width:
        missing = ((0, 0), (0, width - beams * k))
        ranks = np.pad(ranks, missing, constant_values=NEVER)
        values, words = np.pad(values, missing), np.pad(words, missing)
    best, places = _largest(ranks, width)
    return _Chosen(
        best,
        np.minimum(places // k, beams - 1),
        np.take_along_axis(words, places, axis=1),
        np.take_along_axis(values, places, axis=1),
    )


def _finish(
    live: _Live,
    ends: np.ndarray,
    seen: np.ndarray | None,
    chosen: _Chosen,
    lengths: _Lengths,
    found: list[list[FoundCaption]],
) -> None:
    """Finish the hypotheses whose ends (A, J) are among the best K continuations."""
    width = lengths.options.beam_size
    totals = live.totals + ends
    totals[live.totals == NEVER] = NEVER
    ranked = np.sort(np.concatenate([chosen.totals, totals], axis=1), axis=1)
    ended = (totals >= ranked[:, -width, None]) & (totals > NEVER)
    scores = lengths.score(totals, live.words.shape[2] + 1)
    for row, beam in zip(*np.nonzero(ended), strict=True):
        _add(
            found[live.images[row]],
            _caption(live, row, beam, scores[row, beam], totals[row, beam], ends, seen),
            lengths.options,
        )


def _truncate(live: _Live, lengths: _Lengths, found: list[list[FoundCaption]]) -> None:
    """Make captions of the live hypotheses after the last word."""
    scores = lengths.score(live.totals, lengths.options.max_length)
    for row, beam in zip(*np.nonzero(live.totals > NEVER), strict=True):
        own = found[live.images[row]]
        total = live.totals[row, beam]
        _add(own, _caption(live, row, beam, scores[row, beam], total), lengths.options)


def _caption(
    live: _Live,
    row: int,
    beam: int,
    score: Any,
    log_prob: Any,
    ends: np.ndarray | None = None,
    seen: np.ndarray | None = None,
) -> FoundCaption:
    """Return a hypothesis as a caption; `ends` and `seen` are of the end word, if it has one."""
    parts = live.word_log_probs[row, beam].tolist()
    attention = None if live.attention is None else live.attention[row, beam]
    if ends is not None:
        parts.append(float(ends[row, beam]))
    if seen is not None:
        of_end = seen[row, beam][None]
        attention = of_end if attention is None else np.concatenate([attention, of_end])
    words = live.words[row, beam].tolist()
    return FoundCaption(words, float(score), float(log_prob), parts, attention)


def _add(own: list[FoundCaption], caption: FoundCaption, options: SearchOptions) -> None:
    """Add a caption to the best of an image; greedy search keeps its first."""
    if options.beam_size == 1 and own:
        return
    own.append(caption)
    own.sort(key=lambda one: -one.score)  # stable: the earlier of two equal ones stays first
    del own[options.n_best :]


def _done(
    live: _Live, lengths: _Lengths, found: list[list[FoundCaption]], last: bool
) -> np.ndarray:
    """Return which images (A,) cannot find a better caption."""
    if last:
        return np.ones(len(live.images), dtype=bool)
    n_best = lengths.options.n_best
    listed = [found[image] for image in live.images]
    worst = np.array([own[-1].score if len(own) == n_best else NEVER for own in listed])
    done: np.ndarray = worst >= lengths.bound(live.totals[:, 0], live.words.shape[2])
    return done | (worst > NEVER) if lengths.options.beam_size == 1 else done

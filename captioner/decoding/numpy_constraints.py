"""The constraints of `captioner.decoding.constraints` for the search in numpy.

They keep no state: the search passes all words of each hypothesis.

Letters: M rows, t words so far, V vocabulary.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

NEVER = -np.inf


class NumpyConstraint(Protocol):
    """The interface of a constraint."""

    def forbid(self, log_probs: np.ndarray, said: np.ndarray, end_id: int, last: bool) -> None:
        """Set forbidden words to -inf, in place.

        Args:
            log_probs: (M, V), of the next word.
            said: (M, t) int64, the words before it.
            end_id: The end word.
            last: Whether the caption is truncated after this word.
        """


class BannedWords:
    """Ban words everywhere."""

    def __init__(self, words: Sequence[int]) -> None:
        self.words = list(words)

    def forbid(self, log_probs: np.ndarray, said: np.ndarray, end_id: int, last: bool) -> None:
        """Forbid the words everywhere."""
        log_probs[:, self.words] = NEVER


class NoWordTwiceInARow:
    """Forbid a word directly after itself."""

    def forbid(self, log_probs: np.ndarray, said: np.ndarray, end_id: int, last: bool) -> None:
        """Forbid the previous word."""
        if said.shape[1]:
            log_probs[np.arange(len(said)), said[:, -1]] = NEVER


class NoRepeatedNgram:
    """Forbid repeated n-grams."""

    def __init__(self, n: int) -> None:
        self.n = n

    def forbid(self, log_probs: np.ndarray, said: np.ndarray, end_id: int, last: bool) -> None:
        """Forbid each word that has already followed the last n - 1 words."""
        length = said.shape[1]
        if length < self.n:
            return
        ngrams = np.lib.stride_tricks.sliding_window_view(said, self.n, axis=1)
        prefix = said[:, length - self.n + 1 :]
        rows, places = np.nonzero((ngrams[:, :, :-1] == prefix[:, None]).all(axis=2))
        log_probs[rows, ngrams[rows, places, -1]] = NEVER


class BannedPhrases:
    """Forbid contiguous sequences of words."""

    def __init__(self, phrases: Sequence[Sequence[int]]) -> None:
        self.phrases = phrases

    def forbid(self, log_probs: np.ndarray, said: np.ndarray, end_id: int, last: bool) -> None:
        """Forbid the last word of each phrase after its other words."""
        for phrase in self.phrases:
            log_probs[_end_with(said, phrase[:-1]), phrase[-1]] = NEVER


class BannedEndings:
    """Forbid captions that end with certain words."""

    def __init__(self, endings: Sequence[Sequence[int]]) -> None:
        self.endings = endings

    def forbid(self, log_probs: np.ndarray, said: np.ndarray, end_id: int, last: bool) -> None:
        """Forbid the end word after a banned ending, and completing one at the last word."""
        for ending in self.endings:
            if last:
                log_probs[_end_with(said, ending[:-1]), ending[-1]] = NEVER
            log_probs[_end_with(said, ending), end_id] = NEVER


def _end_with(said: np.ndarray, words: Sequence[int]) -> np.ndarray:
    """Return which rows of `said` (M, t) end with some words, (M,) bool; all if there are none."""
    if len(words) > said.shape[1]:
        return np.zeros(len(said), dtype=bool)
    tail = said[:, said.shape[1] - len(words) :]
    matches: np.ndarray = (tail == np.asarray(words, dtype=said.dtype)).all(axis=1)
    return matches

"""Constraints that forbid words during a search, such as banned words or repeated n-grams.

Each constraint keeps a state per hypothesis: tensors with M rows, which the search reorders
together with the model's state. It sets the log-probabilities of forbidden words to -inf and leaves
the others as they are, so log-probabilities stay those of the model. Constraints can be combined.
Any object with the three methods of `Constraint` works as one.

    beam_search(..., constraints=[NoRepeatedNgram(3), BannedWords([unknown]), BannedEndings([[a]])])

For words that a caption must contain, see `captioner.decoding.required_phrases`.

Dimensions: M rows, V vocabulary.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from captioner.decoding.options import SampleOptions, SearchOptions, check_at_least
from captioner.decoding.pytree import State
from captioner.errors import UsageError

NEVER = float("-inf")


class Constraint(Protocol):
    """The interface of a constraint."""

    def start(self, start_ids: Tensor) -> State:
        """Return the state before the first word, for start ids (M,)."""

    def forbid(self, log_probs: Tensor, state: State, end_id: int, last: bool) -> None:
        """Set forbidden words of `log_probs` (M, V) to -inf, in place.

        Args:
            log_probs: (M, V), of the next word.
            state: The state of these hypotheses.
            end_id: The end word. Forbid it to keep a hypothesis from ending here.
            last: Whether the caption is truncated after this word. If so, allow a word only if the
                caption may end with it.
        """

    def advance(self, state: State, words: Tensor) -> State:
        """Return the state after the words (M,)."""


class BannedWords:
    """Ban words everywhere, for example names, slurs or the unknown word.

    Args:
        words: Word ids.

    Example:
        >>> log_probs = torch.zeros(1, 4)
        >>> BannedWords([2]).forbid(log_probs, None, end_id=1, last=False)
        >>> log_probs
        tensor([[0., 0., -inf, 0.]])
    """

    def __init__(self, words: Sequence[int]) -> None:
        self.words = checked_ids("words", words)
        self._on: dict[torch.device, Tensor] = {}

    def start(self, start_ids: Tensor) -> None:
        """Keep no state."""
        self._ids(start_ids.device)

    def forbid(self, log_probs: Tensor, state: State, end_id: int, last: bool) -> None:
        """Forbid the words everywhere."""
        check_in_vocabulary(self.words, log_probs.shape[1])
        log_probs.index_fill_(1, self._ids(log_probs.device), NEVER)

    def advance(self, state: State, words: Tensor) -> State:
        """Return the state unchanged."""
        return state

    def _ids(self, device: torch.device) -> Tensor:
        """Return the words as a tensor, cached per device: a copy per step would stall a GPU."""
        if device not in self._on:
            self._on[device] = torch.tensor(self.words, dtype=torch.int64, device=device)
        return self._on[device]


class NoWordTwiceInARow:
    """Forbid a word directly after itself ("a a man")."""

    def start(self, start_ids: Tensor) -> Tensor:
        """Return the previous word, (M,): -1 before the first word."""
        return torch.full_like(start_ids, -1)

    def forbid(self, log_probs: Tensor, state: Tensor, end_id: int, last: bool) -> None:
        """Forbid the previous word."""
        word = state.clamp(min=0).unsqueeze(1)  # (M, 1)
        loss = torch.zeros_like(word, dtype=log_probs.dtype)
        loss.masked_fill_((state >= 0).unsqueeze(1), NEVER)
        log_probs.scatter_add_(1, word, loss)

    def advance(self, state: Tensor, words: Tensor) -> Tensor:
        """Return the new previous word."""
        return words


def with_own(
    constraints: Sequence[Constraint], options: SearchOptions | SampleOptions
) -> list[Constraint]:
    """Return constraints and, where the options of a search ask for it, `NoWordTwiceInARow`."""
    return [*constraints, NoWordTwiceInARow()] if options.no_repeat_word else list(constraints)


class NoRepeatedNgram:
    """Forbid repeated n-grams (Paulus et al. 2018). n = 1 forbids any repeated word.

    Step t takes O(M * t * n) time.
    """

    def __init__(self, n: int) -> None:
        check_at_least("n", n, 1)
        self.n = n

    def start(self, start_ids: Tensor) -> Tensor:
        """Return the words so far, (M, 0)."""
        return start_ids.new_zeros(len(start_ids), 0)

    def forbid(self, log_probs: Tensor, state: Tensor, end_id: int, last: bool) -> None:
        """Forbid each word that has already followed the last n - 1 words."""
        if state.shape[1] < self.n:
            return
        ngrams = state.unfold(1, self.n, 1)  # (M, t - n + 1, n)
        prefix = state[:, state.shape[1] - self.n + 1 :].unsqueeze(1)
        repeats = (ngrams[:, :, :-1] == prefix).all(dim=2)
        # Add rather than assign: a word may occur in a repeat and in another n-gram, and scatter
        # does not define which of two assignments wins.
        loss = torch.where(repeats, NEVER, 0.0).to(log_probs.dtype)
        log_probs.scatter_add_(1, ngrams[:, :, -1], loss)

    def advance(self, state: Tensor, words: Tensor) -> Tensor:
        """Return the words so far with the new ones appended."""
        return torch.cat([state, words.unsqueeze(1)], dim=1)


class BannedPhrases:
    """Forbid contiguous sequences of words.

    Args:
        phrases: Phrases of word ids, none empty.
    """

    def __init__(self, phrases: Sequence[Sequence[int]]) -> None:
        self.phrases = checked_phrases("phrases", phrases)

    def start(self, start_ids: Tensor) -> Tensor:
        """Return the last words, (M, length of the longest phrase - 1)."""
        return no_words(start_ids, max(map(len, self.phrases), default=1) - 1)

    def forbid(self, log_probs: Tensor, state: Tensor, end_id: int, last: bool) -> None:
        """Forbid the last word of each phrase after its other words."""
        for phrase in self.phrases:
            check_in_vocabulary(phrase, log_probs.shape[1])
            forbid_after(log_probs, state, phrase[:-1], phrase[-1])

    def advance(self, state: Tensor, words: Tensor) -> Tensor:
        """Return the last words, one further."""
        return one_word_further(state, words)


class BannedEndings:
    """Forbid captions that end with certain words: "a", "of", "with a".

    Args:
        endings: Endings of word ids, none empty.
    """

    def __init__(self, endings: Sequence[Sequence[int]]) -> None:
        self.endings = checked_phrases("endings", endings)

    def start(self, start_ids: Tensor) -> Tensor:
        """Return the last words, (M, length of the longest ending)."""
        return no_words(start_ids, max(map(len, self.endings), default=0))

    def forbid(self, log_probs: Tensor, state: Tensor, end_id: int, last: bool) -> None:
        """Forbid the end word after a banned ending, and completing one at the last word."""
        for ending in self.endings:
            check_in_vocabulary(ending, log_probs.shape[1])
            if last:
                forbid_after(log_probs, state, ending[:-1], ending[-1])
            forbid_after(log_probs, state, ending, end_id)

    def advance(self, state: Tensor, words: Tensor) -> Tensor:
        """Return the last words, one further."""
        return one_word_further(state, words)


def no_words(start_ids: Tensor, memory: int) -> Tensor:
    """Return the last words (M, memory) of empty captions: all -1, which matches no word."""
    return start_ids.new_full((len(start_ids), memory), -1)


def one_word_further(last_words: Tensor, words: Tensor) -> Tensor:
    """Append the new words (M,) to the last words (M, memory) and drop the oldest."""
    return torch.cat([last_words, words.unsqueeze(1)], dim=1)[:, 1:]


def forbid_after(log_probs: Tensor, last_words: Tensor, said: Sequence[int], word: int) -> None:
    """Forbid `word` where the last words (M, memory) end with `said`; everywhere if it is empty."""
    tail = torch.tensor(said, dtype=last_words.dtype, device=last_words.device)
    here = (last_words[:, last_words.shape[1] - len(said) :] == tail).all(dim=1)
    log_probs[:, word].masked_fill_(here, NEVER)


def checked_ids(name: str, words: Sequence[int]) -> tuple[int, ...]:
    """Return the word ids as a tuple.

    Raises:
        UsageError: A value is not a word id.
    """
    for word in words:
        check_at_least(name, word, 0)
    return tuple(words)


def checked_phrases(name: str, phrases: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Return the phrases as tuples of word ids.

    Raises:
        UsageError: A phrase is empty, or a value is not a word id.
    """
    for phrase in phrases:
        if len(phrase) == 0:
            raise UsageError(f"{name}: a phrase is empty; each needs at least one word id")
    return tuple(checked_ids(name, phrase) for phrase in phrases)


def check_in_vocabulary(words: Sequence[int], vocab_size: int) -> None:
    """Check that all word ids are in the vocabulary.

    Raises:
        UsageError: A word id is too large.
    """
    if words and max(words) >= vocab_size:
        raise UsageError(
            f"constraint: word id {max(words)} is not in the vocabulary of {vocab_size} words"
        )

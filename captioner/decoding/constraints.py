"""What a caption must not say, as small objects that a search consults at every step.

Each constraint keeps a state for each hypothesis, tensors with M rows that follow their hypotheses
as the model's state does, and sets the log-probabilities of forbidden words to -inf. The others
keep the value that the model gave them, so a caption's probability stays that of the model. Any
number of constraints work together; an object of your own with these three methods is one too. ::

    beam_search(..., constraints=[NoRepeatedNgram(3), BannedWords([unknown]), BannedEndings([[a]])])

What a caption must say is in :mod:`captioner.decoding.required_phrases`. M rows, V vocabulary.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from captioner.decoding.options import check_at_least
from captioner.decoding.pytree import State
from captioner.errors import UsageError

NEVER = float("-inf")


class Constraint(Protocol):
    """The three methods of a constraint."""

    def start(self, start_ids: Tensor) -> State:
        """State before the first word, for start ids (M,)."""

    def forbid(self, log_probs: Tensor, state: State, end_id: int, last: bool) -> None:
        """Sets forbidden words of ``log_probs`` (M, V) to -inf, in place.

        Args:
            log_probs: (M, V), of the next word.
            state: The state of these hypotheses.
            end_id: The end word; forbidding it forbids the caption to end as it stands.
            last: Whether the caption is cut after this word, so that a word is allowed only if the
                caption may end with it.
        """

    def advance(self, state: State, words: Tensor) -> State:
        """State after the words (M,)."""


class BannedWords:
    """Words that no caption holds: names, slurs, and the unknown word."""

    def __init__(self, words: Sequence[int]) -> None:
        self.words = checked_ids("words", words)
        self._on: dict[torch.device, Tensor] = {}

    def start(self, start_ids: Tensor) -> None:
        """Nothing to remember."""
        self._ids(start_ids.device)

    def forbid(self, log_probs: Tensor, state: State, end_id: int, last: bool) -> None:
        """Forbids the words everywhere."""
        check_in_vocabulary(self.words, log_probs.shape[1])
        log_probs.index_fill_(1, self._ids(log_probs.device), NEVER)

    def advance(self, state: State, words: Tensor) -> State:
        """The same state."""
        return state

    def _ids(self, device: torch.device) -> Tensor:
        """The words as a tensor; a copy to a GPU at each step would hold it up."""
        if device not in self._on:
            self._on[device] = torch.tensor(self.words, dtype=torch.int64, device=device)
        return self._on[device]


class NoWordTwiceInARow:
    """No word directly after itself ("a a man")."""

    def start(self, start_ids: Tensor) -> Tensor:
        """The word before, (M,); -1 before the start."""
        return torch.full_like(start_ids, -1)

    def forbid(self, log_probs: Tensor, state: Tensor, end_id: int, last: bool) -> None:
        """Forbids the word before."""
        word = state.clamp(min=0).unsqueeze(1)
        loss = torch.where(state < 0, 0.0, NEVER).to(log_probs.dtype).unsqueeze(1)
        log_probs.scatter_add_(1, word, loss)

    def advance(self, state: Tensor, words: Tensor) -> Tensor:
        """The new word before."""
        return words


class NoRepeatedNgram:
    """No n words in the same order twice: n = 2 forbids a repeated pair, n = 1 any repeated word.

    Blocking of repeated trigrams is from Paulus et al. 2018. The cost of a step is M * t * n.
    """

    def __init__(self, n: int) -> None:
        check_at_least("n", n, 1)
        self.n = n

    def start(self, start_ids: Tensor) -> Tensor:
        """The words so far, (M, 0)."""
        return start_ids.new_zeros(len(start_ids), 0)

    def forbid(self, log_probs: Tensor, state: Tensor, end_id: int, last: bool) -> None:
        """Forbids each word that once followed the last n - 1 words."""
        if state.shape[1] < self.n:
            return
        ngrams = state.unfold(1, self.n, 1)  # (M, t - n + 1, n)
        prefix = state[:, state.shape[1] - self.n + 1 :].unsqueeze(1)
        repeats = (ngrams[:, :, :-1] == prefix).all(dim=2)
        # Adding leaves a word alone that occurs in a repeat and in another n-gram too.
        loss = torch.where(repeats, NEVER, 0.0).to(log_probs.dtype)
        log_probs.scatter_add_(1, ngrams[:, :, -1], loss)

    def advance(self, state: Tensor, words: Tensor) -> Tensor:
        """The words so far, one more."""
        return torch.cat([state, words.unsqueeze(1)], dim=1)


class BannedPhrases:
    """Words that no caption holds in this order, one directly after the other."""

    def __init__(self, phrases: Sequence[Sequence[int]]) -> None:
        self.phrases = checked_phrases("phrases", phrases)

    def start(self, start_ids: Tensor) -> Tensor:
        """The last words, (M, words of the longest phrase but one)."""
        return no_words(start_ids, max(map(len, self.phrases), default=1) - 1)

    def forbid(self, log_probs: Tensor, state: Tensor, end_id: int, last: bool) -> None:
        """Forbids the last word of a phrase after the others."""
        for phrase in self.phrases:
            check_in_vocabulary(phrase, log_probs.shape[1])
            forbid_after(log_probs, state, phrase[:-1], phrase[-1])

    def advance(self, state: Tensor, words: Tensor) -> Tensor:
        """The last words, one further."""
        return one_word_further(state, words)


class BannedEndings:
    """Word sequences with which no caption ends: "a", "of", "with a"."""

    def __init__(self, endings: Sequence[Sequence[int]]) -> None:
        self.endings = checked_phrases("endings", endings)

    def start(self, start_ids: Tensor) -> Tensor:
        """The last words, (M, length of the longest ending)."""
        return no_words(start_ids, max(map(len, self.endings), default=0))

    def forbid(self, log_probs: Tensor, state: Tensor, end_id: int, last: bool) -> None:
        """Forbids the end after a banned ending, and its last word where the caption is cut."""
        for ending in self.endings:
            check_in_vocabulary(ending, log_probs.shape[1])
            if last:
                forbid_after(log_probs, state, ending[:-1], ending[-1])
            forbid_after(log_probs, state, ending, end_id)

    def advance(self, state: Tensor, words: Tensor) -> Tensor:
        """The last words, one further."""
        return one_word_further(state, words)


def no_words(start_ids: Tensor, memory: int) -> Tensor:
    """The last words (M, memory) of captions that have not begun: -1, which is no word."""
    return start_ids.new_full((len(start_ids), memory), -1)


def one_word_further(last_words: Tensor, words: Tensor) -> Tensor:
    """The last words (M, memory) with the new ones (M,)."""
    return torch.cat([last_words, words.unsqueeze(1)], dim=1)[:, 1:]


def forbid_after(log_probs: Tensor, last_words: Tensor, said: Sequence[int], word: int) -> None:
    """Forbids a word where the last words (M, memory) end with these; with none, everywhere."""
    tail = torch.tensor(said, dtype=last_words.dtype, device=last_words.device)
    here = (last_words[:, last_words.shape[1] - len(said) :] == tail).all(dim=1)
    log_probs[:, word].masked_fill_(here, NEVER)


def checked_ids(name: str, words: Sequence[int]) -> tuple[int, ...]:
    """The word ids as a tuple; raises UsageError where one is not an id."""
    for word in words:
        check_at_least(name, word, 0)
    return tuple(words)


def checked_phrases(name: str, phrases: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """The phrases as tuples of ids; raises UsageError where one is empty or holds no id."""
    for phrase in phrases:
        if len(phrase) == 0:
            raise UsageError(f"{name}: an empty phrase; each should hold at least one word id")
    return tuple(checked_ids(name, phrase) for phrase in phrases)


def check_in_vocabulary(words: Sequence[int], vocab_size: int) -> None:
    """Raises UsageError where a word id is beyond the vocabulary."""
    if words and max(words) >= vocab_size:
        raise UsageError(
            f"constraint: word id {max(words)} is not in the vocabulary of {vocab_size} words"
        )

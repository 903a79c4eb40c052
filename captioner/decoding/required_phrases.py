"""Words and phrases that every caption must say.

Each phrase is a small automaton (Knuth, Morris & Pratt 1977): its state is how many words of the
phrase have just been said, and a phrase once complete stays complete. How the beam is shared out
among hypotheses that are differently far is told in :func:`captioner.decoding.selection.select`.

Letters: M hypotheses, P phrases, N words tried for each hypothesis.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.decoding.constraints import NEVER, check_in_vocabulary, checked_phrases
from captioner.decoding.selection import Requirement
from captioner.errors import UsageError


class RequiredPhrases:
    """Every caption says each of the phrases, in any order; a phrase may be a single word.

    A constraint for beam search alone: sampling has no second hypothesis to fall back on.

    Args:
        phrases: P phrases of word ids, such as ``[[dog], [on, the, grass]]``.
    """

    def __init__(self, phrases: Sequence[Sequence[int]]) -> None:
        self.phrases = checked_phrases("phrases", phrases)
        if not self.phrases:
            raise UsageError("phrases: none is given; leave the constraint out instead")
        self.words = sorted({word for phrase in self.phrases for word in phrase})
        longest = max(len(phrase) for phrase in self.phrases)
        # next[p, words of p just said, index of the new word in self.words, or the last: any other]
        self._next = torch.zeros(
            len(self.phrases), longest + 1, len(self.words) + 1, dtype=torch.int64
        )
        for p, phrase in enumerate(self.phrases):
            for said in range(len(phrase)):
                for index, word in enumerate(self.words):
                    self._next[p, said, index] = _overlap((*phrase[:said], word), phrase)
            self._next[p, len(phrase) :] = len(phrase)
        self._lengths = torch.tensor([len(phrase) for phrase in self.phrases])
        self._following = torch.tensor(
            [(*phrase, *[0] * longest)[: longest + 1] for phrase in self.phrases]
        )

    @property
    def target(self) -> int:
        """Progress of a caption that has said everything: the number of required words."""
        return sum(len(phrase) for phrase in self.phrases)

    def check(self, max_length: int) -> None:
        """Raises UsageError where the phrases do not fit into a caption."""
        if self.target > max_length:
            raise UsageError(
                f"phrases: {self.target} required words do not fit into max_length {max_length}; "
                f"allow at least {self.target}"
            )

    def start(self, start_ids: Tensor) -> Tensor:
        """How many words of each phrase have just been said, (M, P)."""
        return start_ids.new_zeros(len(start_ids), len(self.phrases))

    def forbid(self, log_probs: Tensor, state: Tensor, end_id: int, last: bool) -> None:
        """Forbids the end, and at the cut every word, that leaves a phrase unsaid."""
        check_in_vocabulary(self.words, log_probs.shape[1])
        self._to(state.device)
        lacking = (state < self._lengths).any(dim=1)
        log_probs[:, end_id].masked_fill_(lacking, NEVER)
        if last:
            words = torch.tensor(self.words, device=state.device)
            after = self._progress_after(state, words.expand(len(state), -1))
            kept = torch.where(after == self.target, log_probs[:, words], NEVER)
            log_probs.masked_fill_(lacking.unsqueeze(1), NEVER)
            log_probs[:, words] = torch.where(lacking.unsqueeze(1), kept, log_probs[:, words])

    def advance(self, state: Tensor, words: Tensor) -> Tensor:
        """The automata one word further."""
        return self._said_after(state, words.unsqueeze(1)).squeeze(1)

    def requirement(self, state: Tensor) -> Requirement:
        """What the hypotheses must still say."""
        self._to(state.device)
        phrase = torch.arange(len(self.phrases), device=state.device)
        # The word after a complete phrase is filling; the selection drops words offered twice.
        following = self._following[phrase, state]
        return Requirement(following, lambda words: self._progress_after(state, words), self.target)

    def _progress_after(self, state: Tensor, words: Tensor) -> Tensor:
        """Progress (M, N) after each of the words (M, N).

        It counts the words of complete phrases and of the furthest incomplete one. Of two half-said
        phrases only one can be continued; so there is always a word that brings a hypothesis on.
        """
        said = self._said_after(state, words)
        complete = said == self._lengths
        done = torch.where(complete, said, 0).sum(dim=2)
        return done + torch.where(complete, 0, said).amax(dim=2)

    def _said_after(self, state: Tensor, words: Tensor) -> Tensor:
        """State (M, N, P) after each of the words (M, N)."""
        known = torch.tensor(self.words, device=words.device)
        index = torch.searchsorted(known, words.contiguous())
        found = known[index.clamp(max=len(known) - 1)] == words
        index = torch.where(found, index, len(known))
        phrase = torch.arange(len(self.phrases), device=words.device)
        self._to(words.device)
        return self._next[phrase, state.unsqueeze(1), index.unsqueeze(2)]

    def _to(self, device: torch.device) -> None:
        self._next = self._next.to(device)
        self._lengths = self._lengths.to(device)
        self._following = self._following.to(device)


def _overlap(said: tuple[int, ...], phrase: tuple[int, ...]) -> int:
    """The longest beginning of the phrase with which ``said`` ends."""
    for length in range(min(len(said), len(phrase)), 0, -1):
        if said[-length:] == phrase[:length]:
            return length
    return 0

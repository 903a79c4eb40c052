"""Words and phrases that every caption must contain.

Each phrase is a Knuth-Morris-Pratt automaton (1977). Its state is the number of leading words of
the phrase that the caption currently ends with; a completed phrase stays completed. See
`captioner.decoding.selection.select` for how the beam is divided among hypotheses with different
progress.

Dimensions: M hypotheses, P phrases, N candidate words per hypothesis.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.decoding.constraints import NEVER, check_in_vocabulary, checked_phrases
from captioner.decoding.selection import Requirement
from captioner.errors import UsageError


class RequiredPhrases:
    """Require each phrase to occur in every caption, in any order.

    Works with beam search only: sampling has no other hypothesis to fall back on.

    Args:
        phrases: P phrases of word ids, such as `[[dog], [on, the, grass]]`. A phrase may be a
            single word.

    Raises:
        UsageError: There is no phrase, a phrase is empty, or a value is not a word id.
    """

    def __init__(self, phrases: Sequence[Sequence[int]]) -> None:
        self.phrases = checked_phrases("phrases", phrases)
        if not self.phrases:
            raise UsageError("phrases: the list is empty; leave the constraint out instead")
        self.words = sorted({word for phrase in self.phrases for word in phrase})
        longest = max(len(phrase) for phrase in self.phrases)
        # next[p, matched words of p, index of the new word in self.words]; the last index stands
        # for any other word.
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
        """Progress of a caption that contains every phrase: the number of required words."""
        return sum(len(phrase) for phrase in self.phrases)

    def check(self, max_length: int) -> None:
        """Check that the phrases fit into a caption.

        Raises:
            UsageError: They have more words than `max_length`.
        """
        if self.target > max_length:
            raise UsageError(
                f"phrases: {self.target} required words do not fit into max_length {max_length}; "
                f"set max_length to at least {self.target}"
            )

    def start(self, start_ids: Tensor) -> Tensor:
        """Return the number of words matched of each phrase, (M, P): none yet."""
        return start_ids.new_zeros(len(start_ids), len(self.phrases))

    def forbid_unsaid(self, log_probs: Tensor, state: Tensor, end_id: int, last: bool) -> None:
        """Forbid the end word, and at the last step every word, that leaves a phrase incomplete."""
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
        """Advance the automata by one word."""
        return self._said_after(state, words.unsqueeze(1)).squeeze(1)

    def requirement(self, state: Tensor) -> Requirement:
        """Return what the hypotheses still lack."""
        self._to(state.device)
        phrase = torch.arange(len(self.phrases), device=state.device)
        # A complete phrase has padding as its next word; `select` drops duplicate candidates.
        following = self._following[phrase, state]
        return Requirement(following, lambda words: self._progress_after(state, words), self.target)

    def _progress_after(self, state: Tensor, words: Tensor) -> Tensor:
        """Return the progress (M, N) after each of the words (M, N).

        Progress is the number of words of complete phrases plus those matched of the most advanced
        incomplete phrase. Only one incomplete phrase can be continued by the next word, so counting
        one of them guarantees that some word always increases progress.
        """
        said = self._said_after(state, words)
        complete = said == self._lengths
        done = torch.where(complete, said, 0).sum(dim=2)
        return done + torch.where(complete, 0, said).amax(dim=2)

    def _said_after(self, state: Tensor, words: Tensor) -> Tensor:
        """Return the state (M, N, P) after each of the words (M, N)."""
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
    """Return the length of the longest prefix of `phrase` that is a suffix of `said`."""
    for length in range(min(len(said), len(phrase)), 0, -1):
        if said[-length:] == phrase[:length]:
            return length
    return 0

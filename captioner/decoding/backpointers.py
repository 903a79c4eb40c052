"""The words of all live hypotheses, kept as back-pointers.

At each step every live hypothesis stores its parent's place in the beam and its newest word. No
history is copied when beams are reordered, and memory grows with T, not with its square; a caption
is read by following the pointers from its last word to its first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.decoding.pytree import select_rows


@dataclass(frozen=True)
class Decision:
    """What one step decided, for A images and K beams; each tensor is (A, K).

    Attributes:
        parents: int64, place in the beam of the hypothesis continued.
        words: int64, the word that continues it.
        word_log_probs: The log-probability of that word.
        log_probs: Total log-probability with that word.
        end_log_probs: Log-probability of the end word in its place, after the hypotheses at the
            places 0 .. K - 1 before this step.
        attention: (A, K, R), the weights with which the hypotheses at the places before this step
            looked for their next word; None where nobody asks.
    """

    parents: Tensor
    words: Tensor
    word_log_probs: Tensor
    log_probs: Tensor
    end_log_probs: Tensor
    attention: Tensor | None = None


class BackPointers:
    """The decisions of a search so far."""

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._decisions: list[Decision] = []

    def record(self, decision: Decision) -> None:
        """Adds the next step."""
        self._decisions.append(decision)

    def keep(self, images: Tensor) -> None:
        """Forgets all images but these, (A',) int64."""
        self._decisions = select_rows(self._decisions, images)

    def read(
        self, images: Tensor, lengths: Tensor, beams: Tensor, end_id: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Reads hypotheses back: their words, total and per-word log-probabilities.

        Args:
            images: (A',) int64, the images read.
            lengths: (A', N) int64, number of words; T means cut, fewer means ended there.
            beams: (A', N) int64, place in the beam of the last word.
            end_id: Fills the words after the end.

        Returns:
            Words (A', N, T), log-probabilities (A', N), per-word log-probabilities
            (A', N, T + 1) and attention (A', N, T + 1, R) or None, as in
            :class:`captioner.decoding.hypotheses.Hypotheses`.
        """
        # Back from the last word: where each caption was in the beam after t + 1 words, or, once it
        # has ended, after its last.
        row = images.unsqueeze(1)
        places, before = [], []
        for t in range(len(self._decisions) - 1, -1, -1):
            places.append(beams)
            beams = torch.where(t < lengths, self._decisions[t].parents[row, beams], beams)
            before.append(beams)
        place = torch.stack(places[::-1])  # (T', A', N), T' steps were taken

        def at_place(name: str) -> Tensor:
            values = torch.stack([getattr(one, name) for one in self._decisions])
            return values[step, row, place]

        step = torch.arange(len(place), device=lengths.device).view(-1, 1, 1)
        said, ended = step < lengths, step == lengths
        words = torch.where(said, at_place("words"), end_id)
        end = torch.where(ended, at_place("end_log_probs"), 0.0)
        word_log_probs = torch.where(said, at_place("word_log_probs"), end)
        log_probs = torch.where(step == lengths - 1, at_place("log_probs"), 0.0)
        untaken = self._max_length - len(place)
        return (
            F.pad(words.permute(1, 2, 0), (0, untaken), value=end_id),
            log_probs.sum(dim=0) + end.sum(dim=0),  # one summand each is not zero
            F.pad(word_log_probs.permute(1, 2, 0), (0, untaken + 1)),
            self._attention(row, lengths, before[::-1]),
        )

    def _attention(self, row: Tensor, lengths: Tensor, places: Sequence[Tensor]) -> Tensor | None:
        """Weights (A', N, T + 1, R) of captions that were at these places before each step."""
        weights = []
        for t, (decision, place) in enumerate(zip(self._decisions, places, strict=True)):
            if decision.attention is None:
                return None
            of_step = decision.attention[row, place]  # (A', N, R)
            weights.append(of_step.masked_fill((t > lengths).unsqueeze(2), 0.0))
        untaken = self._max_length + 1 - len(weights)
        return F.pad(torch.stack(weights, dim=2), (0, 0, 0, untaken))

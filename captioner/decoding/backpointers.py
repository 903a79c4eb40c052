"""The words of all live hypotheses, stored as back-pointers.

At each step, a live hypothesis stores its newest word and its parent's index in the beam.
Reordering beams copies no history, so memory grows with T rather than its square. A caption is read
by following the pointers from its last word to its first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.decoding.pytree import select_rows


@dataclass(frozen=True)
class Decision:
    """The choices of one step, for A images and K beams. Each tensor is (A, K).

    Attributes:
        parents: (A, K) int64. Index in the beam of the hypothesis continued.
        words: (A, K) int64. The word that continues it.
        word_log_probs: Log-probability of that word.
        log_probs: Total log-probability including that word.
        end_log_probs: Log-probability of the end word after the hypotheses before this step, by
            their index 0 .. K - 1.
        attention: (A, K, R). Attention weights of the hypotheses before this step for their next
            word. None if attention is not returned.
    """

    parents: Tensor
    words: Tensor
    word_log_probs: Tensor
    log_probs: Tensor
    end_log_probs: Tensor
    attention: Tensor | None = None


class BackPointers:
    """The choices of all steps of a search so far."""

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._decisions: list[Decision] = []

    def record(self, decision: Decision) -> None:
        """Append the choices of the next step."""
        self._decisions.append(decision)

    def keep(self, images: Tensor) -> None:
        """Drop all images but these, (A',) int64."""
        self._decisions = select_rows(self._decisions, images)

    def read(
        self, images: Tensor, lengths: Tensor, beams: Tensor, end_id: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Read hypotheses back: words, total and per-word log-probabilities, attention.

        Args:
            images: (A',) int64. The images to read.
            lengths: (A', N) int64. Number of words; T means truncated, less means ended there.
            beams: (A', N) int64. Index in the beam after the last word.
            end_id: Pads the words after the end.

        Returns:
            Words (A', N, T), log-probabilities (A', N), per-word log-probabilities
            (A', N, T + 1) and attention (A', N, T + 1, R) or None, as in
            `captioner.decoding.hypotheses.Hypotheses`.
        """
        # From the last step back: index of each caption in the beam after t + 1 words, or after its
        # last word once it has ended.
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
            log_probs.sum(dim=0) + end.sum(dim=0),  # of each, only one summand is nonzero
            F.pad(word_log_probs.permute(1, 2, 0), (0, untaken + 1)),
            self._attention(row, lengths, before[::-1]),
        )

    def _attention(self, row: Tensor, lengths: Tensor, places: Sequence[Tensor]) -> Tensor | None:
        """Return the weights (A', N, T + 1, R) of captions at these indices before each step."""
        weights = []
        for t, (decision, place) in enumerate(zip(self._decisions, places, strict=True)):
            if decision.attention is None:
                return None
            of_step = decision.attention[row, place]  # (A', N, R)
            weights.append(of_step.masked_fill((t > lengths).unsqueeze(2), 0.0))
        untaken = self._max_length + 1 - len(weights)
        return F.pad(torch.stack(weights, dim=2), (0, 0, 0, untaken))

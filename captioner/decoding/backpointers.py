"""The words of all live hypotheses, kept as back-pointers.

At each step every live hypothesis stores its parent's place in the beam and its newest word. No
history is copied when beams are reordered, and memory grows with T, not with its square; a caption
is read by following the pointers from its last word to its first.
"""

import torch
from torch import Tensor


class BackPointers:
    """What each step decided, for A images, K beams and up to T steps.

    Attributes:
        log_probs: (T + 1, A, K). Total log-probability after each step; step 0 is the start.
        end_log_probs: (T, A, K). Log-probability of the end word after each hypothesis.
    """

    def __init__(
        self, images: int, beams: int, steps: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._parents = torch.zeros(steps, images, beams, dtype=torch.int64, device=device)
        self._words = torch.zeros_like(self._parents)
        self._word_log_probs = torch.zeros(steps, images, beams, dtype=dtype, device=device)
        self.end_log_probs = torch.zeros_like(self._word_log_probs)
        self.log_probs = torch.zeros(steps + 1, images, beams, dtype=dtype, device=device)

    def record(
        self, step: int, parents: Tensor, words: Tensor, word_log_probs: Tensor, log_probs: Tensor
    ) -> None:
        """Stores the choice of step 1 .. T; each argument is (A, K)."""
        self._parents[step - 1] = parents
        self._words[step - 1] = words
        self._word_log_probs[step - 1] = word_log_probs
        self.log_probs[step] = log_probs

    def keep_images(self, images: Tensor) -> None:
        """Forgets all images but these, (A',) int64."""
        self._parents = self._parents.index_select(1, images)
        self._words = self._words.index_select(1, images)
        self._word_log_probs = self._word_log_probs.index_select(1, images)
        self.end_log_probs = self.end_log_probs.index_select(1, images)
        self.log_probs = self.log_probs.index_select(1, images)

    def read(
        self, images: Tensor, lengths: Tensor, beams: Tensor, end_id: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Reads hypotheses back: their words, total and per-word log-probabilities.

        Args:
            images: (A',) int64, the images read.
            lengths: (A', N) int64, number of words; T means cut, fewer means ended there.
            beams: (A', N) int64, place in the beam of the last word.
            end_id: Fills the words after the end.

        Returns:
            Words (A', N, T), log-probabilities (A', N) and per-word log-probabilities
            (A', N, T + 1), as in :class:`captioner.decoding.hypotheses.Hypotheses`.
        """
        steps = self._parents.shape[0]
        row = images.unsqueeze(1)
        words = torch.full((*lengths.shape, steps), end_id, device=lengths.device)
        word_log_probs = self._word_log_probs.new_zeros((*lengths.shape, steps + 1))
        log_probs = self.log_probs[lengths, row, beams]

        ended = lengths < steps
        end = self.end_log_probs[lengths.clamp(max=steps - 1), row, beams]
        end = torch.where(ended, end, 0.0)
        log_probs = log_probs + end
        word_log_probs.scatter_(2, lengths.unsqueeze(2), end.unsqueeze(2))

        for step in range(steps - 1, -1, -1):
            reached = step < lengths
            words[:, :, step] = torch.where(reached, self._words[step][row, beams], end_id)
            chosen = torch.where(reached, self._word_log_probs[step][row, beams], 0.0)
            word_log_probs[:, :, step] += chosen
            beams = torch.where(reached, self._parents[step][row, beams], beams)
        return words, log_probs, word_log_probs

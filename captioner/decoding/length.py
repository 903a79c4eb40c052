"""Length normalisation: scores that compare captions of different lengths.

A sum of log-probabilities decreases with every word, so it favours short captions. With n predicted
words (including the end word) and total log-probability s, the score is

    s / penalty(n) + word_reward * n

    penalty(n) = 1                        "none"
                 n                        "average"
                 ((5 + n) / 6) ** alpha   "gnmt"  (Wu et al. 2016, equation 14)

The word reward is from He et al. 2016.
"""

import torch
from torch import Tensor

from captioner.decoding.options import SearchOptions


class LengthNormalisation:
    """Score finished hypotheses, and bound the scores that live ones can still reach.

    Args:
        options: Length norm, alpha, word reward and maximum length.
        device: Device of the log-probabilities.
        dtype: Dtype of the log-probabilities.
    """

    def __init__(self, options: SearchOptions, device: torch.device, dtype: torch.dtype) -> None:
        # Index n = 0 .. T. No caption has n = 0; the entry only makes n a direct index.
        n = torch.arange(options.max_length + 1, device=device, dtype=dtype)
        self._penalty = {
            "none": torch.ones_like(n),
            "average": n.clamp(min=1),
            "gnmt": ((5 + n) / 6) ** options.length_alpha,
        }[options.length_norm]
        self._reward = options.word_reward * n
        self._longest_is_best = options.word_reward >= 0
        self._is_plain = options.length_norm == "none" and options.word_reward == 0

    def score(self, log_prob: Tensor, n: int | Tensor) -> Tensor:
        """Score hypotheses with total `log_prob` (any shape) and n predicted words."""
        if self._is_plain:
            return log_prob
        return log_prob / self._penalty[n] + self._reward[n]

    def bound(self, log_prob: Tensor, n: int) -> Tensor:
        """Return an upper bound (B,) on the score of any continuation of live hypotheses.

        Log-probabilities never increase. At best, a hypothesis with total `log_prob` (B,) after n
        words keeps it and stops at the most favourable of the lengths n + 1 .. T. So stopping on
        this bound never loses a caption.
        """
        # Log-probabilities are negative and no penalty decreases with n, so T is the best length.
        if self._longest_is_best:
            return self.score(log_prob, -1)
        scores = log_prob.unsqueeze(1) / self._penalty[n + 1 :] + self._reward[n + 1 :]
        return scores.amax(dim=1)

"""Length normalisation: how captions of different lengths are compared.

A sum of log-probabilities falls with every word, so by itself it favours short captions. With n
predicted words (the end word is one of them) and total log-probability s, the score is ::

    s / penalty(n) + word_reward * n

    penalty(n) = 1                        "none"
                 n                        "average"
                 ((5 + n) / 6) ** alpha   "gnmt"  (Wu et al. 2016, equation 14)

The word reward is that of He et al. 2016.
"""

import torch
from torch import Tensor

from captioner.decoding.options import SearchOptions


class LengthNormalisation:
    """The score of an ended hypothesis, and the best that a live one can still reach."""

    def __init__(self, options: SearchOptions, device: torch.device, dtype: torch.dtype) -> None:
        # Index n = 0 .. T; n = 0 never ends a caption and only keeps the index plain.
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
        """Scores of hypotheses with total ``log_prob`` (any shape) after n predicted words."""
        if self._is_plain:
            return log_prob
        return log_prob / self._penalty[n] + self._reward[n]

    def bound(self, log_prob: Tensor, n: int) -> Tensor:
        """Upper bound (B,) on the score of any continuation of live hypotheses.

        Log-probabilities only fall, so a hypothesis with total ``log_prob`` (B,) after n words can
        at best keep it and stop at the most favourable of the lengths n + 1 .. T. This is exact:
        no search that stops on it loses a caption.
        """
        if self._longest_is_best:  # log-probabilities are negative and no penalty falls with n
            return self.score(log_prob, -1)
        scores = log_prob.unsqueeze(1) / self._penalty[n + 1 :] + self._reward[n + 1 :]
        return scores.amax(dim=1)

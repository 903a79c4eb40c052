"""Sufficient statistics per image, from whose sums a corpus score is computed.

Every corpus score here is a function of sums over images. BLEU is a function of summed counts; a
mean is a function of the sum of scores and the number of images. Keeping the statistics of each
image makes bootstrap resampling fast and correct: BLEU of a resample is not the mean of sentence
scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ImageStatistics:
    """The per-image statistics of one metric.

    Attributes:
        names: Names of the scores, for example `("BLEU-1", …, "BLEU-4")`.
        values: Statistics of each image, (images, K).
        scores_of: Maps the statistics of one image, or a sum of them, (..., K), to scores,
            (..., len(names)).

    Example:
        >>> rouge = mean_statistics("ROUGE-L", np.array([0.5, 0.25]))
        >>> rouge.corpus()
        {'ROUGE-L': 0.375}
    """

    names: tuple[str, ...]
    values: np.ndarray
    scores_of: Callable[[np.ndarray], np.ndarray]

    def corpus(self) -> dict[str, float]:
        """Return the corpus scores by name."""
        scores = self.scores_of(self.values.sum(axis=0))
        return dict(zip(self.names, scores.tolist(), strict=True))

    def per_image(self) -> dict[str, np.ndarray]:
        """Return the scores of each image by name, (images,) each."""
        return dict(zip(self.names, self.scores_of(self.values).T, strict=True))


def mean_statistics(name: str, scores: np.ndarray) -> ImageStatistics:
    """Return the statistics of a metric that is a mean over images.

    Args:
        name: Name of the score.
        scores: Score of each image, (images,).
    """
    return ImageStatistics((name,), np.stack([scores, np.ones_like(scores)], axis=1), _mean)


def _mean(values: np.ndarray) -> np.ndarray:
    return values[..., :1] / values[..., 1:]

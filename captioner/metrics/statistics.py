"""Sufficient statistics: what a score needs to know of each image, so that sums are enough.

Every corpus score here is a function of a sum over images: BLEU of summed counts, a mean of scores
of a sum of scores and a number of images. Keeping the summands makes resampling of images cheap
and right (BLEU of a resample is not a mean of sentence scores).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ImageStatistics:
    """The statistics of one metric.

    Attributes:
        names: The scores that come out, ``("BLEU-1", …, "BLEU-4")`` for one.
        values: Statistics of each image, (images, K).
        scores_of: From one image's statistics, or a sum of them, (..., K) to scores,
            (..., len(names)).
    """

    names: tuple[str, ...]
    values: np.ndarray
    scores_of: Callable[[np.ndarray], np.ndarray]

    def corpus(self) -> dict[str, float]:
        """The scores of all images together."""
        scores = self.scores_of(self.values.sum(axis=0))
        return dict(zip(self.names, scores.tolist(), strict=True))

    def per_image(self) -> dict[str, np.ndarray]:
        """The scores of each image by itself, (images,) each."""
        return dict(zip(self.names, self.scores_of(self.values).T, strict=True))


def mean_statistics(name: str, scores: np.ndarray) -> ImageStatistics:
    """For a score that is a mean over images."""
    return ImageStatistics((name,), np.stack([scores, np.ones_like(scores)], axis=1), _mean)


def _mean(values: np.ndarray) -> np.ndarray:
    return values[..., :1] / values[..., 1:]

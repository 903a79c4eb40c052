r"""BLEU-1 to BLEU-4, computed from counts that sum over images.

Papineni et al. 2002, "BLEU: a method for automatic evaluation of machine translation". Let
:math:`g_n` be the number of n-grams of the candidates, and :math:`m_n` the number of them matched
in the references, where an n-gram matches at most as often as it occurs in any one reference. Let c
be the length of the candidates and r that of the references. All are summed over images:

.. math::
    \text{BLEU-}N = \min(1, e^{1 - r/c}) \Bigl(\prod_{n=1}^{N} m_n / g_n\Bigr)^{1/N}

For an image with several references, r is the length closest to the candidate's; of two equally
close lengths, the shorter.

This module follows the official COCO tool where it differs from the paper: 1e-15 is added to every
numerator and 1e-9 to every denominator. So a single image without a matched four-gram scores a tiny
value instead of zero, and a candidate shorter than N words about 1e-6. nltk instead uses a
denominator of at least 1 per candidate, which differs in the fifth digit if candidates are shorter
than four words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.errors import UsageError
from captioner.metrics.checks import check_captions, check_references
from captioner.metrics.ngrams import MAX_ORDER, NgramCounts, Tokens

BLEU_NAMES = tuple(f"BLEU-{order}" for order in range(1, MAX_ORDER + 1))

SMOOTHINGS = (1, 2, 3, 4)
"""Smoothing methods of Chen & Cherry (2014) whose sentence BLEU stays between 0 and 1."""

_TINY = 1e-15  # the official tool's constants
_SMALL = 1e-9


def bleu_statistics(
    candidates: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    candidate_counts: Sequence[NgramCounts],
    reference_counts: Sequence[NgramCounts],
) -> np.ndarray:
    """Compute the counts of each image from which BLEU follows; sum them for a corpus.

    Args:
        candidates: One tokenised caption per image.
        references: One or more tokenised references per image.
        candidate_counts: N-gram counts of the candidates, one entry per order.
        reference_counts: For each order, the maximum count of each n-gram over the references of
            an image (`NgramCounts.most_in_group`).

    Returns:
        Whole numbers as float64, (images, 10): matched n-grams of order 1 to 4, n-grams of order 1
        to 4, length of the candidate, length of the closest reference.

    Raises:
        CaptionerError: A string was passed instead of a list.
    """
    check_captions(candidates)
    check_references(references)
    lengths = _lengths(candidates)
    statistics = np.empty((len(candidates), 2 * MAX_ORDER + 2))
    for order, (ours, theirs) in enumerate(zip(candidate_counts, reference_counts, strict=True)):
        wanted, entry = theirs.find(ours.caption, ours.ngram)
        matched = np.minimum(ours.count[wanted], theirs.count[entry])
        statistics[:, order] = np.bincount(
            ours.caption[wanted], weights=matched, minlength=len(candidates)
        )
        statistics[:, MAX_ORDER + order] = np.maximum(lengths - order, 0)
    statistics[:, -2] = lengths
    statistics[:, -1] = _closest_lengths(lengths, references)
    return statistics


def _lengths(captions: Sequence[Tokens]) -> np.ndarray:
    return np.fromiter(map(len, captions), dtype=np.int64, count=len(captions))


def _closest_lengths(lengths: np.ndarray, references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    n_references = np.array([len(group) for group in references])
    theirs = _lengths([tokens for group in references for tokens in group])
    difference = np.abs(theirs - np.repeat(lengths, n_references))
    # Closest first, then shortest: pack both into one sort key.
    both = (difference << 32) | theirs
    return np.minimum.reduceat(both, np.cumsum(n_references) - n_references) & 0xFFFFFFFF


def bleu_from_statistics(statistics: np.ndarray) -> np.ndarray:
    """Compute BLEU-1 to BLEU-4 from the statistics of one image or from a sum of them.

    Args:
        statistics: As returned by `bleu_statistics`, (..., 10).

    Returns:
        Scores from 0 to 1, (..., 4).

    Example:
        A candidate of three words against one reference of three: two words and one pair match.

        >>> statistics = np.array([2, 1, 0, 0, 3, 2, 1, 0, 3, 3], dtype=float)
        >>> bleu_from_statistics(statistics)[:2].round(2)
        array([0.67, 0.58])
    """
    matched = statistics[..., :MAX_ORDER]
    total = statistics[..., MAX_ORDER : 2 * MAX_ORDER]
    precision = np.cumprod((matched + _TINY) / (total + _SMALL), axis=-1)
    scores = precision ** (1 / np.arange(1, MAX_ORDER + 1))
    ratio = (statistics[..., -2] + _TINY) / (statistics[..., -1] + _SMALL)
    # Without words, 1 / ratio is about 1e16 and the brevity penalty underflows to exactly 0.
    brevity = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    return np.asarray(scores * brevity[..., np.newaxis])


def smoothed_bleu(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], method: int
) -> np.ndarray:
    """Compute smoothed BLEU-1 to BLEU-4 per image with nltk.

    Without smoothing, BLEU-4 is 0 for any caption that shares no four consecutive words with a
    reference. Smoothing makes per-image scores usable for correlations (Chen & Cherry 2014, "A
    systematic comparison of smoothing techniques for sentence-level BLEU"). Corpus BLEU is never
    smoothed.

    Args:
        candidates: One tokenised caption per image.
        references: One or more tokenised references per image.
        method: One of `SMOOTHINGS`: nltk's `SmoothingFunction().methodN`.

    Returns:
        Scores from 0 to 1, (images, 4).

    Raises:
        UsageError: The method is unknown.
        CaptionerError: A string was passed instead of a list.

    Example:
        >>> smoothed_bleu([["a", "dog", "runs"]], [[["a", "dog", "sleeps"]]], 2).round(2)
        array([[0.67, 0.67, 0.61, 0.58]])
    """
    if method not in SMOOTHINGS:
        raise UsageError(f"BLEU smoothing {method!r}: choose one of 1, 2, 3, 4")
    check_captions(candidates)
    check_references(references)
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smoothing = getattr(SmoothingFunction(), f"method{method}")
    weights = [(1 / order,) * order for order in range(1, MAX_ORDER + 1)]
    scores = [
        sentence_bleu(group, list(caption), weights, smoothing_function=smoothing)
        for caption, group in zip(candidates, references, strict=True)
    ]
    return np.array(scores, dtype=np.float64).reshape(-1, MAX_ORDER)

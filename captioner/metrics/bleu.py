r"""BLEU-1 to BLEU-4 from counts: the counts first, the score last.

Papineni et al. 2002, "BLEU: a method for automatic evaluation of machine translation". With
:math:`m_n` the n-grams of the candidates that are matched in their references (each at most as
often as in the one reference that has it most often), :math:`g_n` all n-grams of the candidates,
c the length of the candidates and r that of the references, summed over all images:

.. math::
    \text{BLEU-}N = \min(1, e^{1 - r/c}) \Bigl(\prod_{n=1}^{N} m_n / g_n\Bigr)^{1/N}

For an image with several references r counts the one whose length is closest to the candidate's,
the shorter one of two that are as close.

Where the official COCO tool departs from the paper: it adds 1e-15 to every numerator and 1e-9 to
every denominator, so that the score of a single image without a matched four-gram is tiny instead
of zero (and a candidate shorter than N words gets a score of the order of 1e-6 instead of none).
The same is done here. nltk counts a denominator of at least 1 for each candidate, which shows in
the fifth digit wherever candidates are shorter than four words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.errors import UsageError
from captioner.metrics.checks import check_captions, check_references
from captioner.metrics.ngrams import MAX_ORDER, NgramCounts, Tokens

BLEU_NAMES = tuple(f"BLEU-{order}" for order in range(1, MAX_ORDER + 1))

SMOOTHINGS = (1, 2, 3, 4)
"""Numbers of Chen & Cherry's methods (2014) that keep a sentence's BLEU from 0 to 1."""

_TINY = 1e-15  # the official tool's constants
_SMALL = 1e-9


def bleu_statistics(
    candidates: Sequence[Tokens],
    references: Sequence[Sequence[Tokens]],
    candidate_counts: Sequence[NgramCounts],
    reference_counts: Sequence[NgramCounts],
) -> np.ndarray:
    """What BLEU needs to know of each image; the sum over images is what it needs of a corpus.

    Args:
        candidates: One caption for each image.
        references: One or more references for each image.
        candidate_counts: N-grams of the candidates, one entry for each order.
        reference_counts: For each image its n-grams and how often the one reference that has most
            of it has it (`NgramCounts.most_in_group`).

    Returns:
        Whole numbers as float64, (images, 10): matched n-grams of order 1 to 4, n-grams of order 1
        to 4, length of the candidate, length of the closest reference.
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
    # The closest first, then the shortest: both in one number.
    both = (difference << 32) | theirs
    return np.minimum.reduceat(both, np.cumsum(n_references) - n_references) & 0xFFFFFFFF


def bleu_from_statistics(statistics: np.ndarray) -> np.ndarray:
    """BLEU-1 to BLEU-4 from statistics of one image, or from a sum of them.

    Args:
        statistics: As `bleu_statistics` returns them, (..., 10).

    Returns:
        Scores from 0 to 1, (..., 4).
    """
    matched = statistics[..., :MAX_ORDER]
    total = statistics[..., MAX_ORDER : 2 * MAX_ORDER]
    precision = np.cumprod((matched + _TINY) / (total + _SMALL), axis=-1)
    scores = precision ** (1 / np.arange(1, MAX_ORDER + 1))
    ratio = (statistics[..., -2] + _TINY) / (statistics[..., -1] + _SMALL)
    # One over a ratio of zero words is about 1e16, and the brevity penalty then exactly 0.
    brevity = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    return np.asarray(scores * brevity[..., np.newaxis])


def smoothed_bleu(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], method: int
) -> np.ndarray:
    """BLEU-1 to BLEU-4 of each image, smoothed by nltk, for correlations and examples.

    Without smoothing, a caption that shares no four words in a row with a reference has BLEU-4 0,
    however good it is. Chen & Cherry 2014, "A systematic comparison of smoothing techniques for
    sentence-level BLEU". The BLEU of a corpus is never smoothed.

    Args:
        candidates: One caption for each image.
        references: One or more references for each image.
        method: One of `SMOOTHINGS`, nltk's ``SmoothingFunction().methodN``.

    Returns:
        Scores from 0 to 1, (images, 4).

    Raises:
        UsageError: There is no such method.

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

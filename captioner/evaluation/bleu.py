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

from captioner.evaluation.ngrams import MAX_ORDER, NgramCounts, Tokens

BLEU_NAMES = tuple(f"BLEU-{order}" for order in range(1, MAX_ORDER + 1))

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
        reference_counts: N-grams of all references, one image after the other.

    Returns:
        Whole numbers as float64, (images, 10): matched n-grams of order 1 to 4, n-grams of order 1
        to 4, length of the candidate, length of the closest reference.
    """
    statistics = np.zeros((len(candidates), 2 * MAX_ORDER + 2))
    image_of = np.repeat(np.arange(len(references)), [len(group) for group in references])
    for column, (ours, theirs) in enumerate(zip(candidate_counts, reference_counts, strict=True)):
        keys, most = _most_in_one_reference(theirs, image_of)
        wanted = ours.caption * (theirs.known + 1) + np.minimum(ours.ngram, theirs.known)
        at = np.searchsorted(keys, wanted)
        at[at == len(keys)] = 0
        found = (keys[at] == wanted) if len(keys) else np.zeros(len(wanted), dtype=bool)
        matched = np.minimum(ours.count[found], most[at[found]])
        statistics[:, column] = np.bincount(
            ours.caption[found], weights=matched, minlength=len(candidates)
        )
    lengths = np.array([len(tokens) for tokens in candidates])
    for order in range(1, MAX_ORDER + 1):
        statistics[:, MAX_ORDER + order - 1] = np.maximum(lengths - order + 1, 0)
    statistics[:, -2] = lengths
    statistics[:, -1] = [
        min((abs(len(reference) - length), len(reference)) for reference in group)[1]
        for length, group in zip(lengths.tolist(), references, strict=True)
    ]
    return statistics


def _most_in_one_reference(
    counts: NgramCounts, image_of: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each n-gram of each image how often the reference with most of it has it.

    Returns:
        Sorted keys, image * (known + 1) + n-gram, and the counts, both (distinct pairs,).
    """
    keys = image_of[counts.caption] * (counts.known + 1) + counts.ngram
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    if not len(first):
        return keys, counts.count
    return keys[first], np.maximum.reduceat(counts.count[order], first)


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

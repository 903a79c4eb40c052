r"""ROUGE-L: the longest common subsequence of candidate and reference.

Lin 2004, "ROUGE: a package for automatic evaluation of summaries". Let L be the length of the
longest common subsequence, c and r the lengths of candidate and reference, P = L/c and R = L/r:

.. math:: F = \frac{(1 + \beta^2) P R}{R + \beta^2 P}, \qquad \beta = 1.2

This module follows the official COCO tool where it differs from the paper. With several references,
it takes the largest P and the largest R, which may come from different references. The corpus score
is the mean over images. Beta is 1.2. A caption without words counts as one empty word, so an empty
candidate scores 1 against an empty reference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.metrics.checks import check_captions, check_references
from captioner.metrics.ngrams import Tokens

BETA = 1.2

_NO_WORDS: Tokens = ("",)


def rouge_l(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """Compute ROUGE-L per image.

    Args:
        candidates: One tokenised caption per image.
        references: One or more tokenised references per image.

    Returns:
        Scores from 0 to 1, (images,).

    Raises:
        CaptionerError: A string was passed instead of a list.

    Example:
        >>> rouge_l([["a", "dog", "runs"]], [[["a", "dog", "sleeps"]]]).round(2)
        array([0.67])
    """
    check_captions(candidates)
    check_references(references)
    return np.array(
        [
            _rouge_l(candidate or _NO_WORDS, group)
            for candidate, group in zip(candidates, references, strict=True)
        ]
    )


def _rouge_l(candidate: Tokens, references: Sequence[Tokens]) -> float:
    # Bit i of places[word] is set if the word is at position i of the candidate.
    places: dict[str, int] = {}
    for at, word in enumerate(candidate):
        places[word] = places.get(word, 0) | 1 << at
    length = len(candidate)
    full = (1 << length) - 1
    most, recall = 0, 0.0
    for reference in references:
        reference = reference or _NO_WORDS
        # Bit-parallel LCS (Hyyrö 2004). Neighbouring cells of the table differ by 0 or 1, so a row
        # is one integer in which bit i is 0 where the row increases at i. The addition carries an
        # increase on to the next match. `full` masks carries beyond the last position.
        row = full
        for word in reference:
            if word in places:
                matches = row & places[word]
                row = (row + matches) | (row - matches)
        common = length - (row & full).bit_count()
        most = max(most, common)
        recall = max(recall, common / len(reference))
    precision = most / length
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)

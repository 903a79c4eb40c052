r"""ROUGE-L: the longest common subsequence of candidate and reference.

Lin 2004, "ROUGE: a package for automatic evaluation of summaries". With L the length of the
longest common subsequence, c and r the lengths of candidate and reference, P = L/c, R = L/r:

.. math:: F = \frac{(1 + \beta^2) P R}{R + \beta^2 P}, \qquad \beta = 1.2

Where the official COCO tool departs from the paper: with several references it takes the largest P
and the largest R, which may come from different references, and the corpus score is the mean over
images; beta is 1.2. A caption without words counts there as one empty word, so that an empty
candidate scores 1 beside an empty reference. The same is done here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.metrics.checks import check_captions, check_references
from captioner.metrics.ngrams import Tokens

BETA = 1.2

_NO_WORDS: Tokens = ("",)


def rouge_l(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """ROUGE-L of each image, from 0 to 1, (images,)."""
    check_captions(candidates)
    check_references(references)
    return np.array(
        [
            _rouge_l(candidate or _NO_WORDS, group)
            for candidate, group in zip(candidates, references, strict=True)
        ]
    )


def _rouge_l(candidate: Tokens, references: Sequence[Tokens]) -> float:
    # Bit i of places[word] says that the word stands at place i of the candidate.
    places: dict[str, int] = {}
    for at, word in enumerate(candidate):
        places[word] = places.get(word, 0) | 1 << at
    length = len(candidate)
    full = (1 << length) - 1
    most, recall = 0, 0.0
    for reference in references:
        reference = reference or _NO_WORDS
        # The bit-parallel form of the table (Hyyrö 2004): neighbouring cells differ by 0 or 1, so
        # a row is one integer, whose bit i is 0 where the row rises at i. An addition carries a
        # rise on to the next match; what it carries beyond the last place is cut off at the end.
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

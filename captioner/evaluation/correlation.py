r"""Agreement of a score with human ratings: Kendall's rank correlation.

Each of n captions has a score and a rating. Let P be the number of pairs that both order alike and
Q the number that they order oppositely; ties count for neither. Let m be the number of distinct
scores or of distinct ratings, whichever is smaller. Then

.. math:: \tau_c = \frac{P - Q}{\frac{n^2}{2} \cdot \frac{m - 1}{m}}

(Stuart 1953; also called tau-c). Unlike tau-b, it can reach 1 even if there are four distinct
ratings and thousands of distinct scores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from captioner.errors import CaptionerError


def kendall_tau_c(scores: Sequence[float], ratings: Sequence[float]) -> float:
    """Compute Kendall's tau-c of two lists, from -1 to 1, in O(n log n) (Knight 1966).

    Args:
        scores: One score per caption.
        ratings: One rating per caption.

    Raises:
        ValueError: The lists differ in length.
        CaptionerError: All scores or all ratings are equal.

    Example:
        >>> kendall_tau_c([0.1, 0.2, 0.3, 0.4], [1, 1, 4, 4])
        1.0
    """
    if len(scores) != len(ratings):
        raise ValueError(f"{len(scores)} scores and {len(ratings)} ratings; expected as many")
    fewest = min(len(set(scores)), len(set(ratings)))
    if fewest < 2:
        raise CaptionerError(
            "all scores or all ratings are equal; a rank correlation needs two values"
        )
    n = len(scores)
    pairs = list(zip(scores, ratings, strict=True))
    in_order = [rating for _, rating in sorted(pairs)]
    untied = n * (n - 1) // 2 - _ties(scores) - _ties(ratings) + _ties(pairs)
    # Sorting orders equal scores by rating, so no such pair counts as out of order.
    difference = untied - 2 * _out_of_order(in_order)
    return 2 * difference * fewest / (n * n * (fewest - 1))


def _ties(values: Sequence[object]) -> int:
    """Return the number of pairs of equal values."""
    return sum(count * (count - 1) // 2 for count in Counter(values).values())


def _out_of_order(values: Sequence[float]) -> int:
    """Return the number of pairs whose earlier value is larger, using a Fenwick tree."""
    rank = {value: at for at, value in enumerate(sorted(set(values)), start=1)}
    tree = [0] * (len(rank) + 1)
    found = 0
    for seen, value in enumerate(values):
        not_larger = 0
        at = rank[value]
        while at:
            not_larger += tree[at]
            at &= at - 1
        found += seen - not_larger
        at = rank[value]
        while at < len(tree):
            tree[at] += 1
            at += at & -at
    return found

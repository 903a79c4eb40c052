r"""How well a score agrees with ratings by people: Kendall's rank correlation.

Of n captions, each with a score and a rating, let P pairs be ordered alike by both, Q pairs the
other way round, ties in either counting for neither. With m the number of different values of the
one that has fewer of them,

.. math:: \tau_c = \frac{P - Q}{\frac{n^2}{2} \cdot \frac{m - 1}{m}}

(Stuart 1953; also called tau-c). Unlike tau-b it can reach 1 although ratings have four values and
scores thousands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from captioner.errors import CaptionerError


def kendall_tau_c(scores: Sequence[float], ratings: Sequence[float]) -> float:
    """Kendall's tau-c of two lists, from -1 to 1, in O(n log n) (Knight 1966).

    Args:
        scores: One for each caption.
        ratings: One for each of the same captions.

    Raises:
        CaptionerError: If one of them has only one value: nothing is ordered.

    Example:
        >>> kendall_tau_c([0.1, 0.2, 0.3, 0.4], [1, 1, 4, 4])
        1.0
    """
    if len(scores) != len(ratings):
        raise ValueError(f"{len(scores)} scores but {len(ratings)} ratings")
    fewest = min(len(set(scores)), len(set(ratings)))
    if fewest < 2:
        raise CaptionerError("all scores or all ratings are equal: there is no order to compare")
    n = len(scores)
    pairs = list(zip(scores, ratings, strict=True))
    in_order = [rating for _, rating in sorted(pairs)]
    untied = n * (n - 1) // 2 - _ties(scores) - _ties(ratings) + _ties(pairs)
    # Equal scores are sorted by rating, so that no pair of them is out of order.
    difference = untied - 2 * _out_of_order(in_order)
    return 2 * difference * fewest / (n * n * (fewest - 1))


def _ties(values: Sequence[object]) -> int:
    """Pairs of equal values."""
    return sum(count * (count - 1) // 2 for count in Counter(values).values())


def _out_of_order(values: Sequence[float]) -> int:
    """Pairs whose earlier value is the larger one, counted in a tree of partial sums."""
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

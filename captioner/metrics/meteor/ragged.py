"""Functions over ragged lists, stored end to end in one array."""

from __future__ import annotations

import numpy as np


def expand(begin: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Concatenate many ranges of whole numbers.

    Args:
        begin: First number of each range, (ranges,).
        count: Length of each range, (ranges,).

    Example:
        >>> expand(np.array([5, 0]), np.array([2, 3])).tolist()
        [5, 6, 0, 1, 2]
    """
    numbers = np.repeat(begin - np.cumsum(count) + count, count)
    numbers += np.arange(len(numbers))
    return numbers


def rank_in_list(of: np.ndarray) -> np.ndarray:
    """Return the index of each entry within its list.

    Args:
        of: The list of each entry, (entries,). Entries of one list must be adjacent.

    Example:
        >>> rank_in_list(np.array([3, 3, 3, 7, 7])).tolist()
        [0, 1, 2, 0, 1]
    """
    first = np.flatnonzero(np.diff(of, prepend=-1))
    return np.arange(len(of)) - np.repeat(first, np.diff(first, append=len(of)))


def sum_before(values: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return the sum of the earlier values in each entry's list.

    Args:
        values: One value per entry, (entries,).
        of: The list of each entry, (entries,). Entries of one list must be adjacent.

    Example:
        >>> sum_before(np.array([5, 1, 2, 4, 4]), np.array([3, 3, 3, 7, 7])).tolist()
        [0, 5, 6, 0, 4]
    """
    before = np.cumsum(values) - values
    return before - before[np.arange(len(of)) - rank_in_list(of)]

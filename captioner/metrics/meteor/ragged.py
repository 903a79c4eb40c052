"""Lists of different lengths, kept end to end in one array."""

from __future__ import annotations

import numpy as np


def expand(begin: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The whole numbers of many ranges, one range after the other.

    Args:
        begin: First number of each range, (ranges,).
        count: How many numbers each holds, (ranges,).

    Example:
        >>> expand(np.array([5, 0]), np.array([2, 3])).tolist()
        [5, 6, 0, 1, 2]
    """
    numbers = np.repeat(begin - np.cumsum(count) + count, count)
    numbers += np.arange(len(numbers))
    return numbers


def rank_in_list(of: np.ndarray) -> np.ndarray:
    """The place of each entry in its list.

    Args:
        of: The list of each entry, (entries,); entries of one list together.

    Example:
        >>> rank_in_list(np.array([3, 3, 3, 7, 7])).tolist()
        [0, 1, 2, 0, 1]
    """
    first = np.flatnonzero(np.diff(of, prepend=-1))
    return np.arange(len(of)) - np.repeat(first, np.diff(first, append=len(of)))


def sum_before(values: np.ndarray, of: np.ndarray) -> np.ndarray:
    """The sum of the values that stand before each one in its list.

    Args:
        values: One for each entry, (entries,).
        of: The list of each entry, (entries,); entries of one list together.

    Example:
        >>> sum_before(np.array([5, 1, 2, 4, 4]), np.array([3, 3, 3, 7, 7])).tolist()
        [0, 5, 6, 0, 4]
    """
    before = np.cumsum(values) - values
    return before - before[np.arange(len(of)) - rank_in_list(of)]

r"""Hashes of runs of words, for all runs of a text at once.

A phrase is a stretch of UTF-8 with single blanks between its words. Its hash is a polynomial in its
bytes :math:`b_0 \dots b_{n-1}`, modulo :math:`2^{64}`:

.. math:: h = \sum_k b_k B^k

With the running sums S of the same polynomial over a long text (Karp and Rabin 1987), the stretch
from i to j has the hash :math:`(S_j - S_i) B^{-i}`: three array operations for millions of phrases,
and none of them is ever cut out of the text. B is odd, so that it can be divided by.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_BASE = 0x9E3779B97F4A7C15  # an odd number without a pattern


class HashedText:
    """A text whose stretches can be hashed.

    Args:
        text: UTF-8. Takes 8 bytes of memory for each byte of it, and 16 or more that texts of about
            the same length share.
    """

    def __init__(self, text: bytes):
        powers, self._inverse = _powers(1 << len(text).bit_length())
        self._sums = np.zeros(len(text) + 1, dtype=np.uint64)
        np.multiply(np.frombuffer(text, np.uint8), powers[: len(text)], out=self._sums[1:])
        np.cumsum(self._sums, out=self._sums)

    def hashes(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The hashes of the stretches from ``begin`` up to ``end``, (phrases,) each; uint64."""
        return np.asarray((self._sums[end] - self._sums[begin]) * self._inverse[begin])


@lru_cache(maxsize=1)
def _powers(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The first n powers of the base and of its inverse, modulo 2^64."""
    inverse = pow(_BASE, -1, 1 << 64)
    both = []
    for base in (_BASE, inverse):
        powers = np.full(n, base, dtype=np.uint64)
        powers[0] = 1
        both.append(np.cumprod(powers))
    return both[0], both[1]

r"""Rolling hashes of phrases, computed for all phrases of a text at once.

A phrase is a span of UTF-8 text with single spaces between words. Its hash is a polynomial in its
bytes :math:`b_0 \dots b_{n-1}`, modulo :math:`2^{64}`:

.. math:: h = \sum_k b_k B^k

Let S be the cumulative sums of this polynomial over a text (Karp and Rabin 1987). Then the span
from i to j has the hash :math:`(S_j - S_i) B^{-i}`. Millions of phrases are hashed by three array
operations without copying any of them. B is odd, so it has an inverse.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_BASE = 0x9E3779B97F4A7C15  # an odd number without a pattern


class HashedText:
    """A text whose spans can be hashed.

    Args:
        text: UTF-8. Needs 8 bytes of memory per byte of text, plus a table of at least 16 bytes
            per byte that texts of similar length share.
    """

    def __init__(self, text: bytes):
        powers, self._inverse = _powers(1 << len(text).bit_length())
        self._sums = np.zeros(len(text) + 1, dtype=np.uint64)
        np.multiply(np.frombuffer(text, np.uint8), powers[: len(text)], out=self._sums[1:])
        np.cumsum(self._sums, out=self._sums)

    def hashes(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the hashes of the spans from `begin` to `end` (exclusive), (phrases,) uint64."""
        return np.asarray((self._sums[end] - self._sums[begin]) * self._inverse[begin])


@lru_cache(maxsize=1)
def _powers(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first n powers of the base and of its inverse, modulo 2^64."""
    inverse = pow(_BASE, -1, 1 << 64)
    both = []
    for base in (_BASE, inverse):
        powers = np.full(n, base, dtype=np.uint64)
        powers[0] = 1
        both.append(np.cumprod(powers))
    return both[0], both[1]

r"""Ids of photos, and the ones that are known already: 16 bytes each, in sorted arrays.

Parquet and Ray's tables hold UTF-8, but a file name may hold any byte. An id spells such a byte as
`\udcff`; the record keeps the exact name.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

BYTES = 16
"""Size of an id's digest (blake2b-128)."""

NONE = np.empty(0, dtype=f"S{BYTES}")
"""Digests of no ids."""

_UNSORTED = 2**18
"""Digests kept in a set before they are merged into the sorted array."""


def spelled(name: str) -> str:
    r"""Return a name as valid UTF-8.

    Example:
        >>> spelled("caf\udce9.jpg")
        'caf\\udce9.jpg'
    """
    return name.encode("utf-8", "backslashreplace").decode()


def digest(name: str) -> bytes:
    """Return the digest of an id."""
    return hashlib.blake2b(name.encode(), digest_size=BYTES).digest()


def digests(names: Sequence[str]) -> np.ndarray:
    """Return the digests of ids, in their order."""
    return np.array([digest(name) for name in names], dtype=NONE.dtype)


def among(names: Sequence[str], known: np.ndarray) -> np.ndarray:
    """Return for each id whether its digest is in a sorted array: (N,) bool."""
    if not len(known) or not names:
        return np.zeros(len(names), dtype=bool)
    wanted = digests(names)
    places = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    return np.asarray(known[places] == wanted)


class Seen:
    """Which ids have been met: about 16 bytes for each, whatever their number.

    Args:
        known: Sorted digests that count as met.

    Example:
        >>> seen = Seen()
        >>> seen.new(["a", "b", "a"]), seen.new(["b", "c"])
        ([True, True, False], [False, True])
    """

    def __init__(self, known: np.ndarray = NONE) -> None:
        self._sorted = known
        self._recent: set[bytes] = set()

    def new(self, names: Sequence[str]) -> list[bool]:
        """Return for each id whether it is met for the first time."""
        old = among(names, self._sorted)
        first = []
        for name, is_old in zip(names, old.tolist(), strict=True):
            key = digest(name)
            fresh = not is_old and key not in self._recent
            first.append(fresh)
            if fresh:
                self._recent.add(key)
        if len(self._recent) > _UNSORTED:
            recent = np.array(list(self._recent), dtype=NONE.dtype)
            self._sorted = np.sort(np.concatenate([self._sorted, recent]))
            self._recent.clear()
        return first

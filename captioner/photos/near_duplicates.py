"""Photos that look alike although their bytes differ: scaled, compressed or brightened copies.

A photo becomes a thumbnail of 9 x 9 pixels and that a hash of 128 bits: whether each pixel is
darker than its right neighbour, and than the one below it (a difference hash). Scaling, compression
and a change of brightness turn few bits over. Two photos look alike if at most `radius` bits
differ and their thumbnails have nearly the same colours: pictures with large even areas have like
hashes whatever they show. A copy that was cropped, turned or mirrored is not found.

Pairs are found without comparing each photo with each other: the bits are dealt out to
`radius + 1` bands, and two hashes that differ in at most `radius` bits agree in all bits of at
least one band, so that only photos that share a band are compared.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from captioner.photos.decode import read_photo

MAX_RADIUS = 16
"""Bits; beyond it the bands become so narrow that most photos share one."""

COLOUR_TOLERANCE = 16
"""Levels of 255 by which no pixel of two thumbnails may differ once they are equally bright. Copies
at half size, as JPEG of quality 10 or a tenth brighter stay below it."""

_SIDE = 9


@dataclass(frozen=True)
class Fingerprint:
    """What tells a photo from others.

    Attributes:
        digest: SHA-256 of the file.
        thumbnail: (9, 9, 3) uint8.
    """

    digest: bytes
    thumbnail: np.ndarray

    @classmethod
    def of(cls, path: Path) -> "Fingerprint":
        """Read a photo.

        Raises:
            PhotoError: It cannot be read.
        """
        photo = read_photo(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        return cls(digest, np.asarray(photo.resize((_SIDE, _SIDE), Image.Resampling.BOX)))


def difference_hash(thumbnails: np.ndarray) -> np.ndarray:
    """Return the bits of thumbnails: (N, 9, 9, 3) uint8 to (N, 128) bool."""
    grey = thumbnails @ np.array([0.299, 0.587, 0.114])
    right = grey[:, :-1, :-1] < grey[:, :-1, 1:]
    below = grey[:, :-1, :-1] < grey[:, 1:, :-1]
    return np.stack([right, below], axis=-1).reshape(len(grey), -1)


def like_hashes(bits: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of hashes in which at most `radius` bits differ.

    Args:
        bits: (N, 128) bool.
        radius: Bits that may differ.

    Returns:
        The lower and the higher index of each pair, (pairs,) both, each pair once, in order.
    """
    left, right = np.packbits(bits, axis=1).view(np.uint64).T
    pairs = np.empty(0, dtype=np.int64)  # lower index * N + higher index
    for band in range(radius + 1):
        found = [pairs]
        for first, second in _sharing(bits[:, band :: radius + 1]):
            differing = np.bitwise_count(left[first] ^ left[second])
            differing += np.bitwise_count(right[first] ^ right[second])
            near = differing <= radius
            first, second = first[near], second[near]
            found.append(np.minimum(first, second) * len(bits) + np.maximum(first, second))
        # At once, so that pairs that share all bands are not held once for each of them.
        pairs = np.sort(np.concatenate(found))
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # numpy.unique: 40 times slower
    return pairs // max(len(bits), 1), pairs % max(len(bits), 1)


def _sharing(bits: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of rows that are equal, in pieces."""
    _, bucket = np.unique(np.packbits(bits, axis=1), axis=0, return_inverse=True)
    order = np.argsort(bucket, kind="stable")
    bucket = bucket[order]
    # In sorted order the rows of a bucket stand side by side: neighbours, then next but one …
    here = np.arange(len(order))
    for step in range(1, len(order)):
        here = here[here + step < len(order)]
        here = here[bucket[here] == bucket[here + step]]
        if not len(here):
            return
        yield order[here], order[here + step]


def same_colours(thumbnails: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return which pairs of thumbnails have nearly the same colours, (pairs,) bool."""
    difference = thumbnails[first].astype(np.float32) - thumbnails[second]
    difference -= difference.mean(axis=(1, 2, 3), keepdims=True)
    return np.asarray(np.abs(difference).max(axis=(1, 2, 3)) <= COLOUR_TOLERANCE)

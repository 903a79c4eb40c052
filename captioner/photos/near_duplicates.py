"""Near-duplicate photos: scaled, recompressed or brightened copies.

A photo is reduced to a thumbnail of 9 x 9 pixels and to a difference hash of 128 bits: whether each
pixel is darker than its right neighbour and than the one below. Scaling, compression and brightness
change few bits. Two photos are near-duplicates if at most `radius` bits differ and their thumbnails
have nearly the same colours. The colour check is needed because pictures with large uniform areas
have similar hashes. Cropped, rotated or mirrored copies are not found.

Pairs are found by banding rather than by comparing all pairs. The bits are divided into
`radius + 1` bands. Two hashes that differ in at most `radius` bits agree in at least one band, so
only photos with a common band are compared.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from captioner.photos.decode import read_photo

MAX_RADIUS = 16
"""Maximum radius in bits; beyond it, the bands are so narrow that most photos share one."""

COLOUR_TOLERANCE = 16
"""Maximum difference of a pixel of two thumbnails after equalising brightness, in levels of 255.
Copies at half size, with JPEG quality 10 or 10 % brighter stay below it."""

_SIDE = 9


@dataclass(frozen=True)
class Fingerprint:
    """The digest and thumbnail that identify a photo.

    Attributes:
        digest: SHA-256 of the file.
        thumbnail: (9, 9, 3) uint8.
    """

    digest: bytes
    thumbnail: np.ndarray

    @classmethod
    def of(cls, path: Path) -> "Fingerprint":
        """Compute the fingerprint of a photo.

        Raises:
            PhotoError: It cannot be read.
        """
        photo = read_photo(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        return cls(digest, np.asarray(photo.resize((_SIDE, _SIDE), Image.Resampling.BOX)))


def difference_hash(thumbnails: np.ndarray) -> np.ndarray:
    """Compute the difference hashes (N, 128) bool of thumbnails (N, 9, 9, 3) uint8."""
    grey = thumbnails @ np.array([0.299, 0.587, 0.114])
    right = grey[:, :-1, :-1] < grey[:, :-1, 1:]
    below = grey[:, :-1, :-1] < grey[:, 1:, :-1]
    return np.stack([right, below], axis=-1).reshape(len(grey), -1)


def like_hashes(bits: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of hashes that differ in at most `radius` bits.

    Args:
        bits: Hashes, (N, 128) bool.
        radius: Maximum number of differing bits.

    Returns:
        The lower and the higher index of each pair, (pairs,) both, sorted and without duplicates.

    Example:
        >>> bits = np.zeros((3, 128), dtype=bool)
        >>> bits[1, 0] = bits[2, :64] = True
        >>> [index.tolist() for index in like_hashes(bits, radius=2)]
        [[0], [1]]
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
        # Deduplicate after each band, so that pairs sharing all bands are stored once.
        pairs = np.sort(np.concatenate(found))
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # numpy.unique: 40 times slower
    return pairs // max(len(bits), 1), pairs % max(len(bits), 1)


def _sharing(bits: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of equal rows, in batches."""
    _, bucket = np.unique(np.packbits(bits, axis=1), axis=0, return_inverse=True)
    order = np.argsort(bucket, kind="stable")
    bucket = bucket[order]
    # After sorting, rows of a bucket are adjacent: pair rows at distance 1, 2, …
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

"""A photo on its way to a caption, and the number from which its samples are seeded."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Photo:
    """A photo that has been read, or the reason why not.

    Attributes:
        path: the file.
        key: a number that identifies it, from which samples are seeded.
        pixels: (3, S, S) uint8, once per transform, or the reason why it could not be read.
        size: width and height of the upright photo; (0, 0) where it could not be read.
        preview: (height, width, 3) uint8, if asked for.
    """

    path: Path
    key: int
    pixels: tuple[np.ndarray, ...] | str
    size: tuple[int, int] = (0, 0)
    preview: np.ndarray | None = None


def key_number(key: str) -> int:
    """Return a signed 64-bit number for an image's path or id."""
    digest = hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "little", signed=True)

"""A photo on its way to a caption, and the number from which its samples are seeded."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captioner.photos.regions import PhotoRegions
from captioner.photos.source import Read


@dataclass(frozen=True)
class Photo:
    """A photo that has been read, or the reason why not.

    Attributes:
        path: the file.
        key: a number that identifies it, from which samples are seeded.
        pixels: (3, S, S) uint8, once per transform, or the reason why it could not be read.
        size: width and height of the upright photo; (0, 0) where it could not be read, or was not.
        preview: (height, width, 3) uint8, if asked for.
        regions: its region features, if a captioner reads them.
    """

    path: Path
    key: int
    pixels: tuple[np.ndarray, ...] | str
    size: tuple[int, int] = (0, 0)
    preview: np.ndarray | None = None
    regions: PhotoRegions | None = None

    @classmethod
    def of(cls, found: Read | str, path: Path, key: int = 0) -> "Photo":
        """Return what reading a photo gave: its content, or the reason why there is none."""
        if isinstance(found, str):
            return cls(path, key, found)
        return cls(path, key, found.pixels, found.size, found.preview, found.regions)


def key_number(key: str) -> int:
    """Return a signed 64-bit number for an image's path or id."""
    digest = hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "little", signed=True)

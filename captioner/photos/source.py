"""Sources of photos for the decoder: a file, the bytes of a tar member, or an error.

This module does not import torch, so that decoding processes start fast and stay small.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from captioner.files.arrays import ArrayError
from captioner.photos.address import Address
from captioner.photos.decode import open_content, open_photo
from captioner.photos.limits import PhotoError
from captioner.photos.regions import PhotoRegions, RegionFolder, names_of
from captioner.photos.transform import Transform


@dataclass(frozen=True)
class PhotoSource:
    """A photo to decode.

    Attributes:
        path: The file, or an `Address`, which is downloaded. For a tar member, the tar's path
            joined with the member's name.
        content: Bytes of a tar member; None to read the file.
        image: Upright RGB picture, if already decoded.
        error: Why the photo cannot be read.
        image_id: Id of the photo in its data set, by which its region file may be named.
        ends_batch: Whether the next photo begins a new batch. The last digits of a probability
            depend on the batch, so reproducible output needs reproducible batches.
    """

    path: Path
    content: bytes | None = None
    image: Image.Image | None = None
    error: str | None = None
    image_id: int | str | None = None
    ends_batch: bool = False

    @property
    def held(self) -> int:
        """Memory in bytes that it holds until it is decoded."""
        size = 0 if self.image is None else 4 * self.image.width * self.image.height
        return size + (len(self.content) if isinstance(self.content, bytes) else 0)

    def without_content(self) -> "PhotoSource":
        """Return the photo without its content and image, to free their memory."""
        return replace(self, content=None, image=None)


@dataclass(frozen=True)
class Read:
    """A photo that has been read.

    Attributes:
        pixels: The result of each transform, (3, S, S) uint8.
        size: Width and height of the upright photo, in pixels.
        preview: A small copy to show or draw on, (height, width, 3) uint8, if requested.
        regions: Its region features, if requested.
    """

    pixels: tuple[np.ndarray, ...]
    size: tuple[int, int]
    preview: np.ndarray | None = None
    regions: PhotoRegions | None = None


def read_pixels(
    source: PhotoSource,
    transforms: Sequence[Transform],
    preview: int | None = None,
    regions: RegionFolder | None = None,
) -> Read | str:
    """Read and transform a photo, or return the reason why it cannot be read.

    Args:
        source: The photo.
        transforms: One transform per encoder with different preprocessing.
        preview: Longest side of the small copy, in pixels. Default: no copy.
        regions: Where its region features are read. Default: not at all. The photo itself is not
            opened if nothing else is asked for.
    """
    if source.error is not None:
        return source.error
    if regions is None:
        return _read_photo(source, transforms, preview)
    try:
        found = regions.read(names_of(source.path, source.image_id))
    except ArrayError as error:
        return str(error)
    if not transforms and preview is None:
        return Read((), found.size or (0, 0), regions=found)
    read = _read_photo(source, transforms, preview)
    return read if isinstance(read, str) else replace(read, regions=found)


def _read_photo(
    source: PhotoSource, transforms: Sequence[Transform], preview: int | None
) -> Read | str:
    try:
        content, path = source.content, source.path
        if source.image is not None:
            return _as_read(source.image, transforms, preview)
        if content is None and isinstance(path, Address):
            content = _downloaded(path)
        opened = open_photo(path) if content is None else open_content(content, name=path.name)
        with opened as photo:
            return _as_read(photo, transforms, preview)
    except PhotoError as error:
        return str(error)
    except MemoryError:
        return "not enough memory to decode this photo"


def _downloaded(address: Address) -> bytes:
    from captioner.photos.download import download  # imports TLS

    return download(str(address))


def _as_read(photo: Image.Image, transforms: Sequence[Transform], preview: int | None) -> Read:
    pixels = tuple(transform.array(photo) for transform in transforms)
    if preview is None:
        return Read(pixels, photo.size)
    copy = photo.copy()
    copy.thumbnail((preview, preview), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return Read(pixels, photo.size, np.asarray(copy))

"""A photo on its way to the decoder: a file, the bytes of a tar's member, or why there is none.

No torch here: processes that only decode start in a fraction of a second and stay small.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from captioner.photos.decode import open_content, open_photo
from captioner.photos.limits import PhotoError
from captioner.photos.transform import Transform


@dataclass(frozen=True)
class PhotoSource:
    """A photo that was named.

    Attributes:
        path: The file; of a tar's member the tar's path and the member's name behind it.
        content: A member's bytes; None: the file is read where it lies.
        image: An upright RGB picture, where it has been decoded already.
        error: Why it cannot be read at all.
        ends_batch: Whether the next photo begins another batch. The last digits of a probability
            depend on the batch, so who wants them equal in all runs sees to equal batches.
    """

    path: Path
    content: bytes | None = None
    image: Image.Image | None = None
    error: str | None = None
    ends_batch: bool = False

    @property
    def held(self) -> int:
        """Bytes of memory that it holds until it has been decoded."""
        size = 0 if self.image is None else 4 * self.image.width * self.image.height
        return size + (len(self.content) if isinstance(self.content, bytes) else 0)

    def without_content(self) -> "PhotoSource":
        """Return the same photo by name alone, for who has handed the rest on."""
        return replace(self, content=None, image=None)


@dataclass(frozen=True)
class Read:
    """A photo that has been read.

    Attributes:
        pixels: (3, S, S) uint8, as each transform makes it fit.
        size: width and height of the upright photo, in pixels.
        preview: (height, width, 3) uint8, a small copy to show or draw on, if one was asked for.
    """

    pixels: tuple[np.ndarray, ...]
    size: tuple[int, int]
    preview: np.ndarray | None = None


def read_pixels(
    source: PhotoSource, transforms: Sequence[Transform], preview: int | None = None
) -> Read | str:
    """Read a photo and make it fit, or say why it cannot be read.

    Args:
        source: the photo.
        transforms: one for each encoder that wants pixels of its own.
        preview: longest side, in pixels, of a small copy; None for no copy.
    """
    if source.error is not None:
        return source.error
    try:
        content, path = source.content, source.path
        if source.image is not None:
            return _as_read(source.image, transforms, preview)
        opened = open_photo(path) if content is None else open_content(content, name=path.name)
        with opened as photo:
            return _as_read(photo, transforms, preview)
    except PhotoError as error:
        return str(error)
    except MemoryError:
        return "not enough memory to decode this photo"


def _as_read(photo: Image.Image, transforms: Sequence[Transform], preview: int | None) -> Read:
    pixels = tuple(transform.array(photo) for transform in transforms)
    if preview is None:
        return Read(pixels, photo.size)
    copy = photo.copy()
    copy.thumbnail((preview, preview), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return Read(pixels, photo.size, np.asarray(copy))

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
        path: the file; of a tar's member the tar's path and the member's name behind it.
        content: a member's bytes; None: the file is read where it lies.
        image: an upright RGB picture, where it has been decoded already.
        error: why it cannot be read at all.
        ends_batch: whether the next photo begins another batch. The last digits of a probability
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
        """The same photo by name alone, for who has handed the rest on."""
        return replace(self, content=None, image=None)


def read_pixels(
    source: PhotoSource, transforms: Sequence[Transform]
) -> tuple[np.ndarray, ...] | str:
    """A photo as each transform makes it fit, (3, S, S) uint8, or why it cannot be read."""
    if source.error is not None:
        return source.error
    try:
        content, path = source.content, source.path
        if source.image is not None:
            return tuple(transform.array(source.image) for transform in transforms)
        opened = open_photo(path) if content is None else open_content(content, name=path.name)
        with opened as photo:
            return tuple(transform.array(photo) for transform in transforms)
    except PhotoError as error:
        return str(error)
    except MemoryError:
        return "not enough memory to decode this photo"

"""Kinds of photos accepted from Python: a path or address, an image, an array, bytes or a file."""

import io
import os
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

import numpy as np
from PIL import Image

from captioner.errors import UsageError
from captioner.photos.address import Address, refusal, scheme_of
from captioner.photos.decode import convert_image
from captioner.photos.limits import MAX_BYTES, PhotoError
from captioner.photos.source import PhotoSource

Photo: TypeAlias = (
    str
    | os.PathLike[str]
    | Image.Image
    | np.ndarray
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | PhotoSource
)
"""One photo of any kind accepted by `Predictor.caption`."""

KINDS = (
    "a path, a PIL image, a uint8 array (H, W, 3), the bytes of a file, an open binary file, or an "
    "address (https://…)"
)

_TYPES = (str, os.PathLike, Image.Image, np.ndarray, bytes, bytearray, memoryview, PhotoSource)


def is_one(photo: object) -> bool:
    """Return whether a value is one photo rather than an iterable of photos.

    A one-dimensional array of texts or objects is a column of a table: many photos.
    """
    if isinstance(photo, np.ndarray) and photo.ndim == 1 and photo.dtype.kind in "OU":
        return False
    return isinstance(photo, _TYPES) or hasattr(photo, "read")


def as_source(photo: object, number: int, *, allow_url: bool = False) -> PhotoSource:
    """Convert one photo of any kind to a `PhotoSource`.

    A photo without a path is named by the file it came from, or `photo-<number>`. Images are
    converted to upright, opaque RGB here, in the caller's thread, because the caller may pass an
    image twice. Open files are read here, up to `MAX_BYTES`. Text such as "https://…" is an
    address, which `read_pixels` downloads.

    Args:
        photo: The photo.
        number: Its number, which names it if it has no name.
        allow_url: Whether addresses are downloaded; otherwise, they cannot be read.

    Raises:
        UsageError: The value has another type, or an array has the wrong dtype or shape.
    """
    if isinstance(photo, PhotoSource):
        return photo
    if isinstance(photo, str) and scheme_of(photo):
        return PhotoSource(Address(photo), error=refusal(photo, allowed=allow_url))
    if isinstance(photo, (str, os.PathLike)):
        return PhotoSource(Path(photo))
    path = Path(_name(photo) or f"photo-{number}")
    try:
        if isinstance(photo, np.ndarray):
            return PhotoSource(path, image=_from_array(photo))
        if isinstance(photo, Image.Image):
            return PhotoSource(path, image=_from_image(photo))
        if isinstance(photo, (bytes, bytearray, memoryview)):
            return PhotoSource(path, bytes(photo))
        if hasattr(photo, "read"):
            return PhotoSource(path, _read(cast("BinaryIO", photo)))
    except PhotoError as error:
        return PhotoSource(path, error=str(error))
    raise UsageError(f"photo {number}: expected {KINDS}, not {type(photo).__name__}")


def _name(photo: object) -> str | None:
    """Return the path of the file that an image or open file came from, if any."""
    name = getattr(photo, "filename" if isinstance(photo, Image.Image) else "name", None)
    return name if isinstance(name, str) and name else None


def _from_image(image: Image.Image) -> Image.Image:
    if 0 in image.size:
        raise UsageError(f"an image of {image.width} x {image.height} pixels: nothing to caption")
    return convert_image(image)


def _from_array(values: np.ndarray) -> Image.Image:
    if values.dtype != np.uint8 or values.ndim != 3 or values.shape[2] != 3 or 0 in values.shape:
        raise UsageError(
            f"an array of {values.dtype} and shape {values.shape}: expected uint8 and (H, W, 3), "
            "with red, green and blue from 0 to 255"
        )
    return convert_image(Image.fromarray(np.ascontiguousarray(values)))


def _read(file: BinaryIO) -> bytes:
    try:
        content: object = file.read(MAX_BYTES + 1)
    except UnicodeDecodeError:
        content = ""  # opened as text
    except io.UnsupportedOperation as error:
        raise UsageError('a file opened for writing: open photos with mode "rb"') from error
    except (OSError, ValueError) as error:
        raise PhotoError(f"the file cannot be read: {error}") from error
    if isinstance(content, str):
        raise UsageError('a file opened as text: open photos with mode "rb"')
    if not isinstance(content, bytes):
        raise UsageError(f"a file whose read() gives {type(content).__name__} instead of bytes")
    if not content and _position(file):
        raise PhotoError("nothing to read: the file is at its end; call seek(0) first")
    if len(content) > MAX_BYTES:
        raise PhotoError(f"the file has more than the {MAX_BYTES:,} bytes allowed")
    return content


def _position(file: BinaryIO) -> int:
    """Return how many bytes have been read from a file; 0 if it does not say."""
    try:
        return file.tell()
    except (AttributeError, OSError, ValueError):
        return 0

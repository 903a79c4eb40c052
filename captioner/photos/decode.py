"""Decode photo files of common formats to upright RGB pictures, or raise a clear error.

Real folders contain CMYK scans, 16-bit grey pictures, transparency, rotation flags, partial
downloads, text files named .jpg, and sometimes a file crafted to exhaust memory. Every caller
(`prepare`, `caption`, the predictor) reads photos here. So all of them handle such a file alike: as
a picture like in a viewer, or as a `PhotoError`.
"""

from __future__ import annotations

import errno
import io
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from PIL import Image, ImageFile, TiffImagePlugin

from captioner.errors import CaptionerError
from captioner.photos.colours import to_rgb
from captioner.photos.formats import FIRST_BYTES, identify
from captioner.photos.jpeg import QUALITY, Frame, image_quality, read_frame
from captioner.photos.limits import (
    DECODING,
    MAX_BYTES,
    MAX_MEMORY,
    MAX_PIXELS,
    MAX_READS,
    Metered,
    PhotoError,
)
from captioner.photos.png import picture_only
from captioner.photos.tiff import BlackIsZero, Layout, read_layout, unread
from captioner.photos.webp import canvas_size

__all__ = [
    "PhotoError",
    "convert_image",
    "decode_photo",
    "open_content",
    "open_photo",
    "read_photo",
]

_BYTES_A_PIXEL = 16
"""Peak memory per pixel: decoded, as RGB, and a copy for transparency or rotation."""

_WEBP_BYTES_A_PIXEL = 24
"""Peak memory per pixel for WebP, whose reader also holds two canvases and a copy."""

_UNKNOWN_TIFF = (
    "unknown pixel mode",
    "unknown raw mode for given image mode",
    "string index out of range",  # planes are looked up by the letters of a mode
)
"""Pillow's errors for a valid TIFF with an unsupported layout."""

_TRUNCATED = (
    "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is True in this process, so damaged photos would not be"
    " detected; set it to False"
)


def read_photo(
    path: Path, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Image.Image:
    """Read one picture file as a viewer would show it: upright, opaque, 8-bit RGB.

    Supported formats are JPEG, PNG, GIF, WebP, BMP, TIFF, PPM/PGM/PBM and, if Pillow supports it,
    AVIF. They are detected by their first bytes, regardless of the file's extension. No other
    Pillow reader is used. HEIC and HEIF need the package pillow-heif (`captioner[heic]`).

    The first frame of an animation is read, transparency is placed on white, and the EXIF
    orientation is applied. Sixteen-bit greys are scaled, not clipped (see
    `captioner.photos.colours`). Colour profiles are ignored, as in the preprocessing with which
    pretrained encoders were trained.

    A JPEG with more than `max_pixels` and up to four times as many is decoded at half its width and
    height. All threads of a process share a budget of `captioner.photos.limits.MAX_MEMORY` bytes
    and wait until it suffices.

    Any exception of Pillow on a damaged or crafted file becomes a `PhotoError`. The size is checked
    in the header before decoding. The function is thread-safe. Pillow itself, from version 13 on,
    limits TIFF or EXIF tags that all point at one block.

    Args:
        path: The file, or a link to one.
        max_pixels: Maximum number of pixels (width x height). Peak memory is 8 bytes per pixel, up
            to 16 for transparency or rotation and 24 for WebP.
        max_bytes: Maximum size of the file, in bytes.

    Returns:
        A picture in mode `RGB` without open file and without metadata, except `QUALITY`.

    Raises:
        PhotoError: The file is missing, has an unsupported format, or is truncated, damaged or too
            large.
        CaptionerError: `PIL.ImageFile.LOAD_TRUNCATED_IMAGES` is set in this process, so truncated
            files could not be detected.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "grey.png")
        ...     Image.new("L", (4, 3), 128).save(path)
        ...     photo = read_photo(path)
        >>> photo.mode, photo.size, photo.getpixel((0, 0))
        ('RGB', (4, 3), (128, 128, 128))
    """
    with open_photo(path, max_pixels=max_pixels, max_bytes=max_bytes) as photo:
        return photo


def decode_photo(content: bytes, *, max_pixels: int = MAX_PIXELS, name: str = "") -> Image.Image:
    """Decode a picture from the bytes of its file, otherwise like `read_photo`.

    Raises:
        PhotoError: As in `read_photo`.
    """
    with open_content(content, max_pixels=max_pixels, name=name) as photo:
        return photo


@contextmanager
def open_photo(
    path: Path, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Iterator[Image.Image]:
    """Read a photo like `read_photo`, and hold its memory budget during the `with` block."""
    _prepare()
    with ExitStack() as held:
        try:
            _check_file(path, max_bytes)
            with path.open("rb") as file:
                photo = _decode(file, path.name, max_pixels, held)
        except PhotoError:
            raise
        except OSError as error:  # from the file system; what Pillow raises is dealt with below
            raise PhotoError(_file_reason(path, error)) from error
        except ValueError as error:  # a null byte in the path
            raise PhotoError(f"not a possible file name: {error}") from error
        yield photo


@contextmanager
def open_content(
    content: bytes, *, max_pixels: int = MAX_PIXELS, name: str = ""
) -> Iterator[Image.Image]:
    """Decode a photo like `decode_photo`, and hold its memory budget during the `with` block."""
    _prepare()
    if not content:
        raise PhotoError("the file is empty")
    with ExitStack() as held:
        yield _decode(io.BytesIO(content), name, max_pixels, held)


def convert_image(image: Image.Image) -> Image.Image:
    """Convert a PIL image to the form returned by `read_photo`.

    Raises:
        PhotoError: It has too many pixels, or its file is damaged.
    """
    _prepare()
    try:
        _check_pixels(image.size, MAX_PIXELS)
        image.load()
        return _upright(to_rgb(image), image)
    except PhotoError:
        raise
    except MemoryError as error:
        raise PhotoError("not enough memory to decode this image") from error
    except Exception as error:  # as in _decode
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PhotoError(f"truncated or damaged image: {reason}") from error


def _prepare() -> None:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise CaptionerError(_TRUNCATED)
    _silence_pillow()


def _check_file(path: Path, max_bytes: int) -> None:
    """Check for a regular file of allowed size without opening it: a FIFO would block."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise PhotoError("a folder, not a photo")
    if not stat.S_ISREG(status.st_mode):
        raise PhotoError("not a regular file (a pipe, socket or device)")
    if status.st_size == 0:
        raise PhotoError("the file is empty")
    if status.st_size > max_bytes:
        raise PhotoError(
            f"the file has {status.st_size:,} bytes: more than the {max_bytes:,} allowed"
        )


def _file_reason(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return f"broken link to {path.readlink()}" if path.is_symlink() else "no such file"
    if error.errno == errno.EACCES:
        return "no permission to read the file"
    return f"the file cannot be read: {error.strerror or error}"


def _decode(file: BinaryIO, file_name: str, max_pixels: int, held: ExitStack) -> Image.Image:
    """Decode an open file; `held` reserves its memory until closed."""
    name, reader = identify(file.read(FIRST_BYTES), file_name)
    # Catch any exception: Pillow's readers raise many types for malformed headers (SyntaxError,
    # struct.error, KeyError, OverflowError, zlib.error, MemoryError ...).
    try:
        frame: Frame | None = None
        layout: Layout | None = None
        source = file
        if name == "JPEG":
            frame = read_frame(file)
        elif name == "PNG":
            source = cast("BinaryIO", picture_only(file))
        elif name == "TIFF":
            layout = read_layout(file)
            if layout is not None and layout.is_deep_white_is_zero:
                source = cast("BinaryIO", BlackIsZero(file, layout))
        elif name == "WebP":  # its reader allocates memory when it opens the file
            size = canvas_size(file)
            _check_pixels(size, max_pixels)
            held.enter_context(DECODING.hold(size[0] * size[1] * _WEBP_BYTES_A_PIXEL))
        source.seek(0)
        metered = Metered(source)
        # Use the format's own reader. Image.open hides the reason of an error, tries other formats,
        # and uses a size limit that is global to the process.
        with reader(cast("BinaryIO", metered)) as image:
            _halve_if_huge(image, name, max_pixels)
            _check_size(image, max_pixels)
            if name != "WebP":
                held.enter_context(DECODING.hold(_memory(image, frame, max_pixels)))
            metered.left = MAX_READS
            image.load()
            _check_size(image, max_pixels)
            if name == "JPEG" and image.mode == "RGB":
                # A picture of the same pixels without the file. `to_rgb` would copy them: 48 MB
                # for a photo of 12 million pixels.
                return _upright(image._new(image.im), image)
            return _upright(to_rgb(image, layout), image)
    except PhotoError:
        raise
    except MemoryError as error:
        raise PhotoError(f"not enough memory to decode this {name} file") from error
    except Exception as error:
        if layout is not None and str(error) in _UNKNOWN_TIFF:
            raise unread(layout) from error
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PhotoError(f"truncated or damaged {name} file: {reason}") from error


def _halve_if_huge(image: ImageFile.ImageFile, name: str, max_pixels: int) -> None:
    """Decode a JPEG of up to four times the allowed pixels at half its width and height.

    The decoder averages 2 x 2 pixels. At least 30 million pixels remain, far more than a transform
    keeps, so captions do not change noticeably.
    """
    width, height = image.size
    if name == "JPEG" and max_pixels < width * height <= 4 * max_pixels:
        image.draft(None, (max(1, width // 2), max(1, height // 2)))


def _memory(image: ImageFile.ImageFile, frame: Frame | None, max_pixels: int) -> int:
    """Return the maximum memory of decoding in bytes, by the header.

    Raises:
        PhotoError: A photo decoded at half its size needs more than the whole budget.
    """
    pixels = image.size[0] * image.size[1]
    if frame is None or not frame.buffer:
        return pixels * _BYTES_A_PIXEL
    if frame.pixels > max_pixels and frame.buffer + 4 * pixels > MAX_MEMORY:
        raise PhotoError(
            f"a progressive JPEG of {frame.pixels:,} pixels: it takes more than the "
            f"{MAX_MEMORY:,} bytes of memory allowed"
        )
    return max(pixels * _BYTES_A_PIXEL, frame.buffer + 4 * pixels)


def _check_size(image: ImageFile.ImageFile, max_pixels: int) -> None:
    """Check the size in the header; call it again after loading, when a GIF or TIFF may differ."""
    sizes = [image.size]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # libtiff allocates a whole tile, which may be larger than the picture.
        tile = image.tag_v2.get(322), image.tag_v2.get(323)
        if isinstance(tile[0], int) and isinstance(tile[1], int):
            sizes.append((tile[0], tile[1]))
    for size in sizes:
        _check_pixels(size, max_pixels)


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise PhotoError(
            f"{width:,} x {height:,} pixels: more than the {max_pixels:,} allowed in all"
        )


def _upright(photo: Image.Image, source: Image.Image) -> Image.Image:
    """Apply the EXIF orientation, ignoring a damaged EXIF block.

    A TIFF is already rotated by its reader, which then sets its orientation to 1. Of the metadata,
    only the quality of a JPEG is kept, under `QUALITY`: some transforms depend on it.
    """
    try:
        orientation = source.getexif().get(0x0112, 1)
    except Exception:
        orientation = 1
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation if isinstance(orientation, int) else 1)
    upright = photo if turn is None else photo.transpose(turn)
    upright.info.clear()
    quality = image_quality(source)
    if quality is not None:
        upright.info[QUALITY] = quality
    return upright


_IGNORE = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def _silence_pillow() -> None:
    """Silence Pillow's warnings about odd metadata for the whole process.

    `warnings.catch_warnings` replaces a list shared by all threads and would lose the filters of
    other threads. So the filter is inserted first once, and again only if another filter was
    inserted before it. Pillow's deprecation warnings are attributed to the caller's module and stay
    visible.
    """
    if warnings.filters[:1] != [_IGNORE]:
        warnings.filterwarnings("ignore", module=r"PIL\.")

"""Photo files: any common picture file in, an upright RGB picture out, or one clear reason why not.

People's folders hold more than tidy JPEGs: CMYK scans, 16-bit greys, transparency, phones' rotation
flags, half a download, a text file named .jpg, and now and then a file crafted to fill the memory.
Every caller (``prepare``, ``caption``, the predictor) reads its photos here, so that each of them
treats such a file alike: a picture drawn as a viewer would draw it, or a :class:`PhotoError`.
"""

from __future__ import annotations

import errno
import io
import re
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from captioner.errors import CaptionerError

# Pillow has it from release 11.3 on.
try:
    from PIL import AvifImagePlugin
except ImportError:  # pragma: no cover
    AvifImagePlugin = None  # type: ignore[assignment]

MAX_PIXELS = 2**27
"""134 million: past the largest cameras (102 and 108 million); 0.5 GiB at Pillow's 4 bytes each."""

MAX_BYTES = 2**29
"""512 MiB: an uncompressed 8-bit TIFF of `MAX_PIXELS` fits."""

_TRUNCATED = (
    "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is True in this process, so a damaged photo would pass for"
    " a whole one: set it to False"
)

_Plugin = Callable[[BinaryIO], ImageFile.ImageFile]


class PhotoError(CaptionerError):
    """A file that cannot be read as a photo.

    The message is the bare reason ("the file is empty"), without the path: it is the ``error`` of
    a caption record or of the feature store, both of which hold the path beside it.
    """


def read_photo(
    path: Path, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Image.Image:
    """Read one picture file as a viewer would show it: upright, opaque, 8-bit RGB.

    JPEG, PNG, GIF, WebP, BMP, TIFF, PPM/PGM/PBM and, where Pillow has it, AVIF are told apart by
    their first bytes, whatever the file is called; no other of Pillow's readers is ever tried. Of
    an animation the first frame counts; transparency lies over white; the EXIF orientation is
    applied. Sixteen-bit greys are scaled, not clipped (see :func:`_to_8_bits`). Colour profiles are
    ignored, as they are in the preprocessing that pretrained encoders were trained with.

    Whatever Pillow raises on a damaged or crafted file becomes a :class:`PhotoError`, and the size
    is checked in the header before any pixel is decoded. May be called from many threads at once.
    (Tags that all point at one block of a TIFF or EXIF are bounded by Pillow itself, from 13 on.)

    Args:
        path: the file; it may be a link to one.
        max_pixels: the most pixels (width x height) to decode. Peak memory is 8 bytes a
            pixel, up to 16 for transparency or a turned photo.
        max_bytes: the largest file to open, in bytes.

    Returns:
        A picture in mode ``RGB`` that holds no open file and no metadata.

    Raises:
        PhotoError: with the reason, if the file is missing, not a picture of those formats, cut
            short, damaged or too large.
        CaptionerError: if ``PIL.ImageFile.LOAD_TRUNCATED_IMAGES`` has been switched on in this
            process, since half a picture could then not be told from a whole one.

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
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise CaptionerError(_TRUNCATED)
    _silence_pillow()
    try:
        _check_file(path, max_bytes)
        with path.open("rb") as file:
            return _decode(file, max_pixels)
    except PhotoError:
        raise
    except OSError as error:  # from the file system; what Pillow raises is dealt with in _decode
        raise PhotoError(_file_reason(path, error)) from error
    except ValueError as error:  # a null byte in the path
        raise PhotoError(f"not a possible file name: {error}") from error


def decode_photo(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A picture from the bytes of its file, as `read_photo` reads it from the file itself.

    Raises:
        PhotoError: as `read_photo` does.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise CaptionerError(_TRUNCATED)
    _silence_pillow()
    if not content:
        raise PhotoError("the file is empty")
    return _decode(io.BytesIO(content), max_pixels)


def _check_file(path: Path, max_bytes: int) -> None:
    """Refuse what is not a file of a sensible size, without opening it: a FIFO would block."""
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


def _decode(file: BinaryIO, max_pixels: int) -> Image.Image:
    name, plugin = _identify(file.read(64))
    file.seek(0)
    # Any exception: Pillow's readers let through whatever a malformed header makes them stumble
    # over (SyntaxError, struct.error, KeyError, OverflowError, zlib.error, MemoryError ...).
    try:
        # The format's own reader rather than Image.open, which swallows the reason, falls back on
        # other formats, and judges the size by a limit that is global to the process.
        with plugin(file) as image:
            _check_size(image, max_pixels)
            image.load()
            _check_size(image, max_pixels)
            return _upright(_to_rgb(image), image)
    except PhotoError:
        raise
    except MemoryError as error:
        raise PhotoError(f"not enough memory to decode this {name} file") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PhotoError(f"truncated or damaged {name} file: {reason}") from error


def _identify(first: bytes) -> tuple[str, _Plugin]:
    """Format name and Pillow's reader for a file that begins with these 64 bytes."""
    if first.startswith(b"\xff\xd8\xff"):
        # A stereo or burst file (MPO) is a JPEG with more of them behind it: the first one counts.
        return "JPEG", JpegImagePlugin.JpegImageFile
    if first.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG", PngImagePlugin.PngImageFile
    if first.startswith((b"GIF87a", b"GIF89a")):
        return "GIF", GifImagePlugin.GifImageFile
    if first.startswith(b"RIFF") and first[8:12] == b"WEBP":
        return "WebP", WebPImagePlugin.WebPImageFile
    if first.startswith(b"BM"):
        return "BMP", BmpImagePlugin.BmpImageFile
    if first.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF", TiffImagePlugin.TiffImageFile
    if re.match(rb"P[456]\s", first):  # not P1 to P3: the plain forms decode a hundred times slower
        return "PPM", PpmImagePlugin.PpmImageFile
    if AvifImagePlugin is not None and re.match(rb".{4}ftyp.{0,48}avi[fs]", first, re.DOTALL):
        return "AVIF", AvifImagePlugin.AvifImageFile
    raise PhotoError("not a picture in a known format (JPEG, PNG, GIF, WebP, BMP, TIFF, PPM, AVIF)")


def _check_size(image: ImageFile.ImageFile, max_pixels: int) -> None:
    """Refuse by the header alone; a GIF or TIFF may correct its size while loading."""
    sizes = [image.size]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # libtiff sets aside a whole tile, which may be larger than the picture that it covers.
        tile = image.tag_v2.get(322), image.tag_v2.get(323)
        if isinstance(tile[0], int) and isinstance(tile[1], int):
            sizes.append((tile[0], tile[1]))
    for width, height in sizes:
        if width * height > max_pixels:
            raise PhotoError(
                f"{width:,} x {height:,} pixels: more than the {max_pixels:,} allowed in all"
            )


def _upright(photo: Image.Image, source: ImageFile.ImageFile) -> Image.Image:
    """Apply the EXIF orientation; a damaged EXIF block does not make a photo unreadable.

    (A TIFF has been turned while it was loaded, and its orientation then reads as 1.)
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
    return upright


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return _to_8_bits(image).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image.convert("RGB")  # a copy when it is RGB already: the metadata stays behind


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale a grey picture of deeper levels to 8 bits.

    Sixteen bits are scaled by 255/65535. Pillow's modes ``I`` and ``F`` do not say which value is
    white, so the values must: 0 to 65,535 in ``I`` is taken as 16 bits, 0 to 1 in ``F`` as black to
    white, 0 to 255 in ``F`` as 8 bits; any other range is stretched from its least value to its
    greatest. What is not finite counts as black.
    """
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    else:
        finite = np.isfinite(values)
        if not finite.all():
            values = np.where(finite, values, values.min(where=finite, initial=0.0))
        low, high = float(values.min()), float(values.max())
        whites = (65535.0,) if image.mode == "I" else (1.0, 255.0)
        if low >= 0:
            low, high = 0.0, next((white for white in whites if high <= white), high)
    scale = 255.0 / (high - low) if high > low else 0.0
    grey = np.empty(values.shape, np.uint8)
    for row, line in enumerate(values):  # by rows: no second picture at 8 bytes a pixel
        grey[row] = np.rint((line.astype(np.float64) - low) * scale)
    return Image.fromarray(grey)


_IGNORE = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def _silence_pillow() -> None:
    """Keep Pillow's own warnings about odd metadata off the user's screen, and from being raised.

    ``warnings.catch_warnings`` swaps a list that all threads share and would lose another thread's
    filters. So the filter is put in once for the process, in front of the others, and again only if
    somebody has put theirs in front since; Pillow's warnings about a *caller's* mistake (its
    deprecations) are attributed to the caller's module and stay visible.
    """
    if warnings.filters[:1] != [_IGNORE]:
        warnings.filterwarnings("ignore", module=r"PIL\.")

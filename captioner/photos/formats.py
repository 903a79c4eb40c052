"""Detect the picture format of a file by its first bytes, and select Pillow's reader.

Unsupported formats are also recognised, so that the error can name them and the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import PurePath
from typing import BinaryIO, cast

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from captioner.photos.limits import PhotoError

# Available from Pillow 11.3 on.
try:
    from PIL import AvifImagePlugin
except ImportError:  # pragma: no cover
    AvifImagePlugin = None  # type: ignore[assignment]

Reader = Callable[[BinaryIO], ImageFile.ImageFile]

KNOWN = "JPEG, PNG, GIF, WebP, BMP, TIFF, PPM, AVIF"

FIRST_BYTES = 64
"""Number of bytes used by `identify`."""

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".k25"}
    | {".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2"}
    | {".rwl", ".sr2", ".srf", ".srw", ".x3f"}
)
"""Extensions of raw files, in lower case. Many are TIFFs whose first picture is a thumbnail."""

RAW = "a raw camera file, which is not read: export it as JPEG first"

_CONVERT = "which is not read: convert it to JPEG or PNG first"
_HEIC = "install the reader with pip install 'captioner[heic]', or convert it to JPEG"
_FOREIGN = (
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", f"a JPEG XL file, {_CONVERT}"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", f"a JPEG 2000 file, {_CONVERT}"),
    (rb"II\xbc", f"a JPEG XR file, {_CONVERT}"),
    (rb"8BP[SB]", f"a Photoshop file, {_CONVERT}"),
    (rb"gimp xcf", f"a GIMP file, {_CONVERT}"),
    (rb"DDS ", f"a DirectDraw texture (DDS), {_CONVERT}"),
    (rb"\0\0[\1\2]\0[^\0]\0", f"a Windows icon (ICO), {_CONVERT}"),
    (rb"icns", f"a macOS icon (ICNS), {_CONVERT}"),
    (rb"v/1\x01", f"an OpenEXR file, {_CONVERT}"),
    (rb"#\?R", f"a Radiance HDR file, {_CONVERT}"),
    (rb"P[1237]\s", f"a plain PBM, PGM or PPM file (P1 to P3) or a PAM file (P7), {_CONVERT}"),
    (rb"%PDF", f"a PDF document, {_CONVERT}"),
    (rb"\s*(<\?xml[^>]*>\s*)?<svg", f"an SVG drawing, {_CONVERT}"),
    (rb"(?i)\s*<(!doctype html|html)", "a web page, not a photo: download the photo again"),
    (rb"\0\x05\x16[\0\x07]", "a macOS AppleDouble file (metadata only), not a photo"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the photo: run git lfs pull"),
    (rb"FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|FOVb|\0MRM|II\x1a\0\0\0HEAPCCDR", RAW),
    (rb"II\*\0.{4}CR|.{4}ftypcrx ", RAW),
    (rb".{4}ftyp(qt  |mp4|isom|M4V|3gp)|\x1aE\xdf\xa3", "a video, not a photo"),
)
_AVIF = re.compile(rb".{4}ftyp.{0,48}avi[fs]", re.DOTALL)
_HEIF = re.compile(rb".{4}ftyp.{0,48}(hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)


def identify(first: bytes, name: str = "") -> tuple[str, Reader]:
    """Return the format name and the reader of a file.

    Args:
        first: Its first `FIRST_BYTES` bytes.
        name: Its name, used only to distinguish raw files from other TIFFs.

    Raises:
        PhotoError: The format is unsupported. The message names it and the remedy.
    """
    if first.startswith(b"\xff\xd8\xff"):
        # A stereo or burst file (MPO) is a sequence of JPEGs; read the first.
        return "JPEG", JpegImagePlugin.JpegImageFile
    if first.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG", PngImagePlugin.PngImageFile
    if first.startswith((b"GIF87a", b"GIF89a")):
        return "GIF", GifImagePlugin.GifImageFile
    if first.startswith(b"RIFF") and first[8:12] == b"WEBP":
        return "WebP", WebPImagePlugin.WebPImageFile
    if first.startswith(b"BM"):
        return "BMP", BmpImagePlugin.BmpImageFile
    if re.match(rb"P[456]\s", first):  # not P1 to P3: plain formats decode a hundred times slower
        return "PPM", PpmImagePlugin.PpmImageFile
    for signature, reason in _FOREIGN:
        if re.match(signature, first, re.DOTALL):
            raise PhotoError(reason)
    if first.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        if PurePath(name).suffix.lower() in RAW_SUFFIXES:
            raise PhotoError(RAW)
        return "TIFF", TiffImagePlugin.TiffImageFile
    if _AVIF.match(first):
        if AvifImagePlugin is None:
            raise PhotoError("an AVIF file: Pillow reads it from release 11.3 on; upgrade Pillow")
        return "AVIF", AvifImagePlugin.AvifImageFile
    if _HEIF.match(first):
        return "HEIF", _heif_reader()
    raise PhotoError(f"not a picture in a known format ({KNOWN})")


@cache
def heif_is_read() -> bool:
    """Return whether the optional package for HEIC and HEIF is installed."""
    return find_spec("pillow_heif") is not None


def _heif_reader() -> Reader:
    if not heif_is_read():
        raise PhotoError(f"a HEIC or HEIF file: {_HEIC}")
    from pillow_heif import HeifImageFile

    return cast("Reader", HeifImageFile)

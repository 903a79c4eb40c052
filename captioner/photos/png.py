"""Reduce PNG files to the chunks of the picture, without text, profiles and animation.

Pillow refuses a photo with more than a megabyte of text or profile, or with a wrong checksum in
metadata, while viewers skip these. So it gets an excerpt of the file: the chunks of the picture,
its transparency and its orientation.
"""

import io
import struct
import zlib
from typing import BinaryIO

from captioner.photos.excerpt import Excerpt
from captioner.photos.limits import MAX_PARTS, PhotoError

_PIXELS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_ORIENTATION = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
_MAX_KEPT = 2**16
"""Maximum size of a metadata chunk kept for the photo's orientation, in bytes."""

_MAX_UNFOLDED = 2**20
"""Maximum uncompressed size of its text in bytes: Pillow's own limit."""


def picture_only(file: BinaryIO) -> Excerpt:
    """Return the chunks of a PNG's picture; damaged data is kept for the decoder to report.

    Raises:
        PhotoError: It has more than `MAX_PARTS` chunks.
    """
    end = file.seek(0, io.SEEK_END)
    at = 8
    parts = [(0, at)]
    for _ in range(MAX_PARTS):
        file.seek(at)
        head = file.read(8)
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
        behind = at + length + 12
        if behind > end or not kind.isalpha():
            _add(parts, at, end)  # truncated or damaged; the decoder reports it
            return Excerpt(file, parts)
        if kind in _PIXELS or _is_kept(file, kind, length):
            _add(parts, at, behind)
        if kind == b"IEND":
            return Excerpt(file, parts)
        at = behind
    raise PhotoError(f"a PNG of more than {MAX_PARTS:,} chunks")


def _add(parts: list[tuple[int, int]], first: int, behind: int) -> None:
    if parts[-1][1] == first:
        parts[-1] = (parts[-1][0], behind)
    else:
        parts.append((first, behind))


def _is_kept(file: BinaryIO, kind: bytes, length: int) -> bool:
    """Return whether a chunk is valid and has transparency or orientation."""
    if kind not in (b"tRNS", b"eXIf", b"iTXt", b"zTXt", b"tEXt") or length > _MAX_KEPT:
        return False
    content = file.read(length)
    if zlib.crc32(kind + content) != int.from_bytes(file.read(4), "big"):
        return False
    if kind in (b"tRNS", b"eXIf"):
        return True
    return content.startswith(_ORIENTATION) and _unfolds(kind, content)


def _unfolds(kind: bytes, content: bytes) -> bool:
    """Return whether a text is uncompressed or expands within the limit."""
    text = content.partition(b"\0")[2]
    if kind == b"zTXt":
        packed = text[1:]
    elif kind == b"iTXt" and text[:1] == b"\1":
        packed = text[2:].split(b"\0", 2)[-1]
    else:
        return True
    unpacking = zlib.decompressobj()
    try:
        return len(unpacking.decompress(packed, _MAX_UNFOLDED)) < _MAX_UNFOLDED
    except zlib.error:
        return False

"""The cost of decoding a JPEG, from its markers: libjpeg limits neither time nor memory.

A progressive JPEG is decoded in scans over the whole picture, so a small file with many empty scans
takes hours. The file format is ITU T.81.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from captioner.files.regular import open_regular
from captioner.photos.limits import MAX_PARTS, MAX_SCANNED, MAX_SCANS, PhotoError

_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without content
_START_OF_SCAN, _END = 0xDA, 0xD9
_BLOCK = 2**13
# In scan data, FF 00 encodes a byte FF, and FF D0 to FF D7 restart the decoder.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


@dataclass(frozen=True)
class Frame:
    """The frame of a JPEG before decoding.

    Attributes:
        pixels: Width times height.
        components: 1 for grey, 3 for colour, 4 for CMYK.
        scans: Number of passes over all pixels. A single scan needs no buffer.
    """

    pixels: int
    components: int
    scans: int

    @property
    def buffer(self) -> int:
        """Memory in bytes that libjpeg holds between scans: two per pixel and component."""
        return 0 if self.scans == 1 else 2 * self.pixels * self.components


QUALITY = "jpeg_quality"
"""Key of a decoded JPEG's quality in Pillow's `Image.info`."""

_LUMINANCE_AT_50 = 3688
"""Sum of libjpeg's quantisation table of luminance at quality 50 (ITU T.81, table K.1)."""


def quality_of(path: Path) -> int | None:
    """Return the quality of a JPEG file as `image_quality` does; None if it is no JPEG.

    Raises:
        OSError: the file cannot be read.
    """
    with open_regular(path) as file, Image.open(file) as photo:
        return image_quality(photo)


def image_quality(photo: Image.Image) -> int | None:
    """Return the quality, from 1 to 95, at which libjpeg quantises like an opened JPEG file.

    libjpeg scales a standard table by a percentage that follows from the quality; other programs
    have tables of their own, and get the quality of a table as coarse.

    Returns:
        The quality; None for pictures that were not opened from a JPEG file.
    """
    tables = getattr(photo, "quantization", None)
    if photo.format not in ("JPEG", "MPO") or not tables:
        return None
    percent = 100 * sum(min(tables.items())[1]) / _LUMINANCE_AT_50
    quality = 5000 / percent if percent > 100 else 100 - percent / 2
    return max(1, min(95, round(quality)))


def read_frame(file: BinaryIO) -> Frame | None:
    """Read the frame of a JPEG, or None if there is no picture, which the decoder will report.

    Raises:
        PhotoError: It has too many segments, scans, or pixels times scans.
    """
    file.seek(2)
    frame: Frame | None = None
    scans = 0
    whole = False  # all components in one scan, and not progressive
    for _ in range(MAX_PARTS):
        marker = _next_marker(file)
        if marker is None or marker == _END:
            return None if frame is None else Frame(frame.pixels, frame.components, max(scans, 2))
        if marker in _ALONE:
            continue
        length = max(2, int.from_bytes(file.read(2), "big")) - 2
        if marker in _FRAMES and frame is None:
            content = file.read(length)
            height, width = (int.from_bytes(content[i : i + 2], "big") for i in (1, 3))
            frame = Frame(width * height, content[5] if len(content) > 5 else 1, 1)
            whole = marker not in _PROGRESSIVE
        elif marker == _START_OF_SCAN:
            if frame is None:
                return None
            scans += 1
            together = file.read(1)
            file.seek(max(0, length - 1), 1)
            if scans == 1 and whole and together and together[0] == frame.components:
                return frame
            _check_scans(frame, scans)
        else:
            file.seek(length, 1)
    raise PhotoError(f"a JPEG of more than {MAX_PARTS:,} segments")


def _check_scans(frame: Frame, scans: int) -> None:
    if scans > MAX_SCANS:
        raise PhotoError(f"a JPEG of more than {MAX_SCANS:,} scans")
    if scans * frame.pixels > MAX_SCANNED:
        raise PhotoError(
            f"a JPEG of {frame.pixels:,} pixels in {scans:,} scans or more: more than the "
            f"{MAX_SCANNED:,} pixels allowed in all scans"
        )


def _next_marker(file: BinaryIO) -> int | None:
    """Return the next marker, skipping other bytes as libjpeg does."""
    pair = file.read(2)
    if _MARKER.fullmatch(pair):
        return pair[1]
    file.seek(-len(pair), 1)
    while block := file.read(_BLOCK):
        found = _MARKER.search(block)
        if found is not None:
            file.seek(found.end() - len(block), 1)
            return block[found.start() + 1]
        if len(block) == 1:
            return None
        file.seek(-1, 1)  # the last byte may begin a marker
    return None

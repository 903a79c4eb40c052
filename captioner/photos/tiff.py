"""The layout of a TIFF from its first directory, to detect variants that Pillow decodes wrongly.

The file formats are TIFF 6.0 and BigTIFF. Unsupported variants are refused with a description;
Pillow decodes all others. Grey pictures with more than 8 bits and white as 0 are presented to
Pillow as black-is-zero (`BlackIsZero`) and inverted afterwards.
"""

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO, cast

from captioner.photos.excerpt import Excerpt
from captioner.photos.formats import RAW
from captioner.photos.jpeg import read_frame
from captioner.photos.limits import MAX_PARTS, MAX_SCANNED, PhotoError

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 16: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_NEW_SUBFILE_TYPE, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 258, 259, 262
_OFFSETS, _SAMPLES, _COUNTS, _PLANAR, _SUB_IFDS = 273, 277, 279, 284, 330
_TILE_OFFSETS, _TILE_COUNTS, _SAMPLE_FORMAT, _SUBSAMPLING = 324, 325, 339, 530
_DNG_VERSION, _CFA = 50706, 32803
_UNCOMPRESSED, _JPEG = 1, 7
_WANTED = frozenset(
    {_NEW_SUBFILE_TYPE, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _SAMPLES, _COUNTS, _PLANAR}
    | {_SUB_IFDS, _TILE_OFFSETS, _TILE_COUNTS, _SAMPLE_FORMAT, _SUBSAMPLING, _DNG_VERSION}
)


@dataclass(frozen=True)
class Layout:
    """The layout of the first picture of a TIFF.

    Attributes:
        order: Byte order, "<" or ">" as in `struct`.
        values: Integer values of the relevant tags.
        photometric_at: Offset of the photometric tag's value in the file.
    """

    order: str
    values: dict[int, tuple[int, ...]]
    photometric_at: int | None

    def first(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag."""
        return (self.values.get(tag) or (default,))[0]

    @property
    def bits(self) -> int:
        """Bits per sample."""
        return self.first(_BITS, 1)

    @property
    def is_deep_white_is_zero(self) -> bool:
        """Whether it is grey with more than 8 bits and the maximum value is black."""
        return self.values.get(_PHOTOMETRIC) == (0,) and self.bits > 8

    @property
    def is_unsigned(self) -> bool:
        """Whether samples are unsigned integers."""
        return self.first(_SAMPLE_FORMAT, 1) == 1

    def description(self) -> str:
        """Describe the pixel format, for an error message."""
        kind = {1: "", 2: " signed", 3: " floating-point"}.get(
            self.first(_SAMPLE_FORMAT, 1), " odd"
        )
        planes = " in separate planes" if self.first(_PLANAR, 1) == 2 else ""
        order = "little" if self.order == "<" else "big"
        return (
            f"a TIFF of {self.first(_SAMPLES, 1)} x {self.bits}-bit{kind} samples{planes} "
            f"(photometric {self.first(_PHOTOMETRIC)}, compression "
            f"{self.first(_COMPRESSION, 1)}, {order}-endian)"
        )


def read_layout(file: BinaryIO) -> Layout | None:
    """Read the layout of a TIFF, or None if its directory is damaged, which the decoder reports.

    Raises:
        PhotoError: It is a raw camera file, has more than `MAX_PARTS` strips, or an unsupported
            layout.
    """
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:1] == b"I" else ">"
    try:
        if head[2:4] in (b"+\0", b"\0+"):
            (at,) = struct.unpack(order + "Q", head[8:16])
            layout = _read_directory(file, order, at, "Q", 20)
        else:
            (at,) = struct.unpack(order + "I", head[4:8])
            layout = _read_directory(file, order, at, "H", 12)
    except (struct.error, OSError, OverflowError, ValueError):
        return None
    _check(layout)
    if layout.first(_COMPRESSION, 1) == _JPEG:
        _check_jpegs(file, layout)
    return layout


def _read_directory(file: BinaryIO, order: str, at: int, count: str, entry: int) -> Layout:
    file.seek(at)
    (number,) = struct.unpack(order + count, file.read(struct.calcsize(count)))
    start = file.tell()
    content = file.read(min(number, MAX_PARTS) * entry)
    inline = (entry - 4) // 2  # bytes of a value or of its offset
    values: dict[int, tuple[int, ...]] = {}
    photometric_at = None
    for place in range(0, len(content) - entry + 1, entry):
        tag, kind = struct.unpack_from(order + "HH", content, place)
        (length,) = struct.unpack_from(order + ("I" if inline == 4 else "Q"), content, place + 4)
        if length > 2**20 and kind in _INTEGERS and kind != 1:
            raise PhotoError(f"a TIFF whose tag {tag} has {length:,} numbers")
        if tag not in _WANTED or kind not in _INTEGERS:
            continue
        if length > MAX_PARTS:
            raise PhotoError(f"a TIFF of more than {MAX_PARTS:,} strips or tiles")
        field = content[place + entry - inline : place + entry]
        if tag == _PHOTOMETRIC and kind == 3:
            photometric_at = start + place + entry - inline
        size = length * _SIZES[kind]
        if size > inline:
            file.seek(int.from_bytes(field, "little" if order == "<" else "big"))
            field = file.read(size)
        values[tag] = struct.unpack_from(f"{order}{length}{_INTEGERS[kind]}", field)
    return Layout(order, values, photometric_at)


def _check(layout: Layout) -> None:
    """Refuse raw files and layouts that Pillow decodes to wrong colours."""
    is_thumbnail = layout.first(_NEW_SUBFILE_TYPE) & 1 and _SUB_IFDS in layout.values
    if layout.first(_PHOTOMETRIC) == _CFA or (_DNG_VERSION in layout.values and is_thumbnail):
        raise PhotoError(RAW)
    bits, sampling = layout.bits, layout.values.get(_SUBSAMPLING, (1, 1))
    compressed = layout.first(_COMPRESSION, 1) != _UNCOMPRESSED
    planes = layout.first(_PLANAR, 1) == 2 and layout.first(_SAMPLES, 1) > 1
    wrong = (
        (bits == 8 and not layout.is_unsigned)
        or (planes and bits == 16 and not compressed)
        or (planes and layout.first(_PHOTOMETRIC) in (0, 1))
        or (layout.order == ">" and compressed and bits > 8 and not layout.is_unsigned)
        or (layout.order == ">" and compressed and bits > 16)
        or (layout.first(_PHOTOMETRIC) == 6 and not compressed and sampling != (1, 1))
    )
    if wrong:
        raise unread(layout)


def unread(layout: Layout) -> PhotoError:
    """Return the error for an unsupported layout."""
    return PhotoError(
        f"{layout.description()}, which is not read: convert it to 8 bits, or to PNG or JPEG"
    )


def _check_jpegs(file: BinaryIO, layout: Layout) -> None:
    """Limit the total scans of JPEG-compressed strips, which may be progressive."""
    starts = layout.values.get(_OFFSETS) or layout.values.get(_TILE_OFFSETS, ())
    counts = layout.values.get(_COUNTS) or layout.values.get(_TILE_COUNTS, ())
    scanned = 0
    for start, count in zip(starts, counts, strict=False):
        frame = read_frame(cast("BinaryIO", Excerpt(file, [(start, start + count)])))
        scanned += 0 if frame is None else frame.pixels * frame.scans
        if scanned > MAX_SCANNED:
            raise PhotoError(
                f"a TIFF of JPEGs with more than the {MAX_SCANNED:,} pixels allowed in all scans"
            )


class BlackIsZero(io.RawIOBase):
    """A TIFF file with its photometric tag changed to black-is-zero.

    Args:
        file: The file, whose tag is white-is-zero.
        layout: Its layout.
    """

    def __init__(self, file: BinaryIO, layout: Layout) -> None:
        super().__init__()
        self._file = file
        self._at = layout.photometric_at or 0
        self._one = struct.pack(layout.order + "H", 1)

    def read(self, size: int | None = -1) -> bytes:
        """Read like `BinaryIO.read`."""
        start = self._file.tell()
        content = self._file.read(-1 if size is None else size)
        place = self._at - start
        for i, byte in enumerate(self._one):
            if 0 <= place + i < len(content):
                content = content[: place + i] + bytes([byte]) + content[place + i + 1 :]
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek like `BinaryIO.seek`."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position, like `BinaryIO.tell`."""
        return self._file.tell()

    def fileno(self) -> int:
        """Return the file's own descriptor; libtiff returns samples as stored, ignoring the tag."""
        return self._file.fileno()

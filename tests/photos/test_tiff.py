"""TIFFs as cameras, scanners and microscopes write them: right colours or one clear reason."""

import itertools
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from captioner.photos.decode import PhotoError, read_photo

HEIGHT, WIDTH = 6, 10
GREY = np.linspace(0, 1, WIDTH)[None, :, None].repeat(HEIGHT, 0)
COLOUR = np.concatenate([GREY, 1 - GREY, np.full_like(GREY, 0.25)], -1)
SHORT, LONG = 3, 4


def tiff(
    samples: np.ndarray,
    photometric: int,
    *,
    bits: int | None = None,
    kind: int = 1,
    planar: int = 1,
    compression: int = 1,
    extra: int | None = None,
    more: dict[int, tuple[int, list[int]]] | None = None,
) -> bytes:
    """A TIFF of (H, W, C) samples, in their own byte order."""
    order = ">" if samples.dtype.byteorder == ">" else "<"
    channels = samples.shape[2]
    planes = [samples] if planar == 1 else [samples[..., c] for c in range(channels)]
    strips = [np.ascontiguousarray(plane).tobytes() for plane in planes]
    if compression == 8:
        strips = [zlib.compress(strip) for strip in strips]
    depth = bits or samples.dtype.itemsize * 8
    tags = {
        256: (SHORT, [samples.shape[1]]),
        257: (SHORT, [samples.shape[0]]),
        258: (SHORT, [depth] * channels),
        259: (SHORT, [compression]),
        262: (SHORT, [photometric]),
        273: (LONG, list(itertools.accumulate(map(len, strips), initial=1000))[:-1]),
        277: (SHORT, [channels]),
        278: (SHORT, [samples.shape[0]]),
        279: (LONG, [len(strip) for strip in strips]),
        284: (SHORT, [planar]),
        339: (SHORT, [kind] * channels),
    } | (more or {})
    if extra is not None:
        tags[338] = (SHORT, [extra])
    entries, behind = b"", b""
    for tag, (form, values) in sorted(tags.items()):
        content = struct.pack(f"{order}{len(values)}{'H' if form == SHORT else 'I'}", *values)
        field = content.ljust(4, b"\0")
        if len(content) > 4:
            field = struct.pack(order + "I", 8 + 2 + 12 * len(tags) + 4 + len(behind))
            behind += content
        entries += struct.pack(order + "HHI", tag, form, len(values)) + field
    head = b"II*\0" if order == "<" else b"MM\0*"
    head += struct.pack(order + "IH", 8, len(tags)) + entries + bytes(4) + behind
    assert len(head) <= 1000
    return head.ljust(1000, b"\0") + b"".join(strips)


def read(path: Path, content: bytes) -> np.ndarray:
    path.write_bytes(content)
    return np.asarray(read_photo(path)).astype(float) / 255


def read_or_reason(path: Path) -> np.ndarray | str:
    try:
        return np.asarray(read_photo(path)).astype(float) / 255
    except PhotoError as error:
        return str(error)


def whole(values: np.ndarray, kind: str) -> np.ndarray:
    return np.rint(values * np.iinfo(kind).max).astype(kind)


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2"])
def test_white_is_zero(tmp_path: Path, kind: str, compression: int) -> None:
    black = read(tmp_path / "b.tif", tiff(whole(GREY, kind), 1, compression=compression))
    white = read(tmp_path / "w.tif", tiff(whole(1 - GREY, kind), 0, compression=compression))
    assert np.abs(black - GREY).max() < 0.005
    assert np.abs(white - black).max() < 0.005


def test_white_is_zero_of_floats_and_of_12_bits(tmp_path: Path) -> None:
    for order in "<>":
        floats = tiff((1 - GREY).astype(order + "f4"), 0, kind=3)
        assert np.abs(read(tmp_path / "f.tif", floats) - GREY).max() < 0.005
    values = np.rint(GREY[..., 0] * 4095).astype(np.uint16)
    even, odd = values[:, ::2], values[:, 1::2]
    packed = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], -1).astype(np.uint8)
    content = tiff(packed.reshape(HEIGHT, -1, 1), 1, bits=12, more={256: (SHORT, [WIDTH])})
    assert np.abs(read(tmp_path / "12.tif", content) - GREY).max() < 0.005


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2"])
@pytest.mark.parametrize("compression", [1, 8])
def test_colours_are_right_or_the_reason_names_the_form(
    tmp_path: Path, kind: str, planar: int, compression: int
) -> None:
    opaque = np.ones_like(GREY)
    forms = {
        "rgb": (COLOUR, COLOUR, 2, None),
        "rgba": (np.concatenate([COLOUR, opaque], -1), COLOUR, 2, 2),
        "unused": (np.concatenate([COLOUR, 0 * opaque], -1), COLOUR, 2, 0),
        "premultiplied": (
            np.concatenate([COLOUR / 2, opaque / 2], -1), COLOUR / 2 + 0.5, 2, 1
        ),
        "cmyk": (np.concatenate([1 - COLOUR, 0 * opaque], -1), COLOUR, 5, None),
    }  # fmt: skip
    for name, (samples, wanted, photometric, extra) in forms.items():
        content = tiff(
            whole(samples, kind), photometric, planar=planar, compression=compression, extra=extra
        )
        path = tmp_path / "a.tif"
        path.write_bytes(content)
        found = read_or_reason(path)
        if isinstance(found, str):
            assert planar == 2, name
            assert "-bit samples in separate planes" in found
            assert "convert it to 8 bits" in found
        else:
            assert np.abs(found - wanted).max() < 0.015, name


@pytest.mark.parametrize(
    ("samples", "options"),
    [
        (COLOUR.astype("<f2"), {"kind": 3}),
        (COLOUR.astype("<f4"), {"kind": 3}),
        (GREY.astype(">f4"), {"kind": 3, "compression": 8}),
        (GREY.astype("<f8"), {"kind": 3}),
        ((GREY * 100).astype("i1"), {"kind": 2}),
        ((GREY * 100).astype(">i2"), {"kind": 2, "compression": 8}),
    ],
)
def test_forms_that_are_not_read_say_which(
    tmp_path: Path, samples: np.ndarray, options: dict[str, int]
) -> None:
    photometric = 2 if samples.shape[2] == 3 else 1
    with pytest.raises(PhotoError, match=r"a TIFF of \d x \d+-bit (signed|floating-point) samples"):
        read(tmp_path / "a.tif", tiff(samples, photometric, **options))


def test_unsigned_32_bits(tmp_path: Path) -> None:
    values = np.array([[[0], [2**31], [2**32 - 1]]], dtype="<u4")
    assert np.abs(read(tmp_path / "a.tif", tiff(values, 1))[0, :, 0] - [0, 0.5, 1]).max() < 0.01


def test_raw_files_are_named_not_read_as_thumbnails(tmp_path: Path) -> None:
    picture = whole(COLOUR, "u1")
    dng = tiff(
        picture, 2, more={254: (LONG, [1]), 330: (LONG, [900]), 50706: (SHORT, [1, 4, 0, 0])}
    )
    for name, content in (("a.tif", dng), ("b.NEF", tiff(picture, 2)), ("c.dng", tiff(picture, 2))):
        with pytest.raises(PhotoError, match="a raw camera file"):
            read(tmp_path / name, content)


def test_strips_without_number(tmp_path: Path) -> None:
    picture = whole(GREY, "u1")
    content = bytearray(tiff(picture, 1))
    at = content.index(struct.pack("<HHI", 273, LONG, 1)) + 4
    content[at : at + 4] = struct.pack("<I", 2**24)
    with pytest.raises(PhotoError, match="16,777,216 numbers"):
        read(tmp_path / "a.tif", bytes(content))

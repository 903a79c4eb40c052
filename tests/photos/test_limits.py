"""Every budget of a photo, reached by a file made for that, in little time and memory."""

import io
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from test_decode import chunk, needs_proc, peak_kib

from captioner.photos import decode, jpeg, limits
from captioner.photos.decode import PhotoError, decode_photo, read_photo
from captioner.photos.excerpt import Excerpt
from captioner.photos.limits import Memory, Metered


def picture(**options: object) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def png_with(*chunks: bytes, behind: bool = False) -> bytes:
    content = picture(format="PNG")
    at = len(content) - 12 if behind else 33
    return content[:at] + b"".join(chunks) + content[at:]


# PNG


@pytest.mark.parametrize("behind", [False, True])
def test_png_metadata_of_any_size_and_state(behind: bool) -> None:
    wanted = decode_photo(picture(format="PNG")).tobytes()
    big = bytes(range(256)) * 8000
    broken = chunk(b"tEXt", b"key\0text")[:-1] + b"x"
    for extra in (
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(big)),
        chunk(b"zTXt", b"workflow\0\0" + zlib.compress(big)),
        chunk(b"tEXt", b"prompt\0" + big),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + big),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2**22))),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(2**22))),
        chunk(b"eXIf", big),
        chunk(b"acTL", b"odd"),
        chunk(b"gAMA", b""),
        broken,
        *(chunk(kind, b"x" * 9)[:-2] + b"??" for kind in (b"tRNS", b"eXIf", b"pHYs", b"tIME")),
    ):
        assert decode_photo(png_with(extra, behind=behind)).tobytes() == wanted


def test_png_headers_must_be_sound() -> None:
    content = bytearray(picture(format="PNG"))
    content[30] ^= 1  # its checksum
    with pytest.raises(PhotoError, match="truncated or damaged PNG"):
        decode_photo(bytes(content))


def test_png_orientation_in_each_place() -> None:
    tall = Image.new("RGB", (4, 9))
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = PngImagePlugin.PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=True)
    for options in ({"exif": exif}, {"pnginfo": xmp}):
        buffer = io.BytesIO()
        tall.save(buffer, "PNG", **options)  # type: ignore[arg-type]
        assert decode_photo(buffer.getvalue()).size == (9, 4)


def test_png_of_many_chunks() -> None:
    began = time.perf_counter()
    with pytest.raises(PhotoError, match="more than 65,536 chunks"):
        decode_photo(png_with(chunk(b"tEXt", b"") * 400_000))
    assert decode_photo(png_with(chunk(b"tEXt", b"") * 60_000)).size == (256, 256)
    assert time.perf_counter() - began < 5


@given(st.binary(max_size=60), st.lists(st.integers(0, 60)), st.lists(st.integers(-1, 20)))
def test_an_excerpt_reads_as_its_parts_joined(
    content: bytes, cuts: list[int], sizes: list[int]
) -> None:
    ends = sorted(min(cut, len(content)) for cut in cuts)
    parts = list(zip(ends[::2], ends[1::2], strict=False))
    joined = io.BytesIO(b"".join(content[first:behind] for first, behind in parts))
    excerpt = Excerpt(io.BytesIO(content), parts)
    for size in sizes:
        assert excerpt.read(size) == joined.read(size)
        assert excerpt.tell() == joined.tell()
    assert excerpt.seek(0) == 0
    assert excerpt.read() == joined.getvalue()


# JPEG


def scans(width: int, height: int, number: int, between: bytes = b"") -> bytes:
    """A grey progressive JPEG of scans without data, as small as can be."""
    table = bytes([1]) + bytes(15)
    return (
        b"\xff\xd8\xff\xdb" + struct.pack(">HB", 67, 0) + bytes([1] * 64)
        + b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes([1, 0x11, 0])
        + b"\xff\xc4" + struct.pack(">H", 20) + bytes([0]) + table + bytes([0])
        + b"\xff\xc4" + struct.pack(">H", 20) + bytes([16]) + table + bytes([0xE0])
        + b"\xff\xda" + struct.pack(">HB", 8, 1) + bytes([1, 0, 0, 0, 0, 0])
        + b"".join(
            between + b"\xff\xda" + struct.pack(">HB", 8, 1)
            + bytes([1, 0, 1 + i % 63, 1 + i % 63, 0, 0])
            for i in range(number - 1)
        )
        + b"\xff\xd9"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("width", "height", "number", "between", "message"),
    [
        (65_500, 2048, 1500, b"", "134,144,000 pixels in 17 scans or more"),
        (3000, 3000, 12_000, b"", "9,000,000 pixels in 239 scans or more"),
        (8, 8, 200_000, b"", "a JPEG of more than 1,000 scans"),
        (8, 8, 900, b"\xff\xfe\0\2" * 100, "a JPEG of more than 65,536 segments"),
        (8, 8, 900, b"junk" * 9 + b"\xff\xfe\0\2" * 100, "a JPEG of more than 65,536 segments"),
    ],
)
def test_jpegs_of_many_scans_are_refused_at_once(
    tmp_path: Path, width: int, height: int, number: int, between: bytes, message: str
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(scans(width, height, number, between))
    began = time.perf_counter()
    with pytest.raises(PhotoError, match=message):
        read_photo(path)
    assert time.perf_counter() - began < 1


def test_scans_are_counted_as_libjpeg_finds_them() -> None:
    for number in (1, 2, 30):
        frame = jpeg.read_frame(io.BytesIO(scans(64, 48, number, b"ab\xff\0c\xff\xd0")))
        assert frame == jpeg.Frame(64 * 48, 1, max(2, number))
        assert decode_photo(scans(64, 48, number)).size == (64, 48)
    for progressive in (False, True):
        content = picture(format="JPEG", progressive=progressive)
        frame = jpeg.read_frame(io.BytesIO(content))
        assert frame is not None
        assert (frame.pixels, frame.components) == (256 * 256, 3)
        assert (frame.scans > 1) == progressive
    assert jpeg.read_frame(io.BytesIO(b"\xff\xd8\xff\xe0")) is None


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_beyond_the_limit_are_halved(tmp_path: Path, mode: str, progressive: bool) -> None:
    path = tmp_path / "a.jpg"
    whole = Image.radial_gradient("L").resize((301, 200)).convert(mode)
    whole.save(path, quality=95, progressive=progressive)
    pixels = 301 * 200
    assert read_photo(path, max_pixels=pixels).size == (301, 200)
    halved = read_photo(path, max_pixels=pixels - 1)
    assert halved.size == (151, 100)
    wanted = np.asarray(read_photo(path).resize((151, 100), Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(halved).astype(int) - wanted).mean() < 3
    with pytest.raises(PhotoError, match="more than the"):
        read_photo(path, max_pixels=pixels // 4 - 100)


def test_a_huge_progressive_jpeg_must_fit_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (400, 300)).save(path, progressive=True)
    monkeypatch.setattr(decode, "MAX_MEMORY", 400 * 300 * 6)
    with pytest.raises(PhotoError, match="a progressive JPEG of 120,000 pixels"):
        read_photo(path, max_pixels=100_000)
    assert read_photo(path, max_pixels=120_000).size == (400, 300)


# Other formats


def test_bmps_with_unused_and_with_real_alpha(tmp_path: Path) -> None:
    def bmp(alpha: int) -> bytes:
        pixels = np.zeros((4, 4, 4), np.uint8)
        pixels[..., 1], pixels[..., 3] = 200, alpha
        pixels[0, 0, 3] = max(alpha, 0)
        head = struct.pack("<IiiHHIIiiII", 108, 4, 4, 1, 32, 3, pixels.size, 0, 0, 0, 0)
        masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
        start = 14 + len(head) + len(masks)
        front = b"BM" + struct.pack("<IHHI", start + pixels.size, 0, 0, start)
        return front + head + masks + pixels.tobytes()

    assert decode_photo(bmp(0)).getpixel((1, 1)) == (0, 200, 0)
    assert decode_photo(bmp(255)).getpixel((1, 1)) == (0, 200, 0)
    assert decode_photo(bmp(51)).getpixel((1, 1)) == (204, 244, 204)


@needs_proc
@pytest.mark.parametrize("kind", ["VP8X", "VP8 ", "VP8L"])
@pytest.mark.parametrize(("width", "height"), [(16_383, 16_383), (11_000, 12_000)])
def test_a_tiny_webp_takes_no_more_than_it_may(
    tmp_path: Path, kind: str, width: int, height: int
) -> None:
    """Above the limit it takes nothing; below, its reader clears a canvas, which is counted."""
    sides = [(side - 1).to_bytes(3, "little") for side in (width, height)]
    content = {
        "VP8X": bytes(4) + b"".join(sides),
        "VP8 ": b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height),
        "VP8L": b"\x2f" + (width - 1 | height - 1 << 14).to_bytes(4, "little") + bytes(5),
    }[kind]
    body = b"WEBP" + kind.encode() + struct.pack("<I", len(content)) + content
    path = tmp_path / "a.webp"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    added, text = peak_kib(path)
    if width * height > limits.MAX_PIXELS:
        assert text.startswith("16,383 x 16,383 pixels")
        assert added < 20 * 1024
    else:
        assert "damaged WebP" in text
        assert added * 1024 < 8 * width * height


def test_ppm_comments_and_gif_blocks_without_end() -> None:
    began = time.perf_counter()
    with pytest.raises(PhotoError, match="too many small parts"):
        decode_photo(b"P6\n" + b"# comment\n" * 500_000 + b"1 1\n255\nabc")
    with pytest.raises(PhotoError, match="too many small parts"):
        decode_photo(b"GIF89a\1\0\1\0\0\0\0!\xfe" + b"\1x" * 1_000_000)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", r"HEIC or HEIF file: .*captioner\[heic\]"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0heix", "HEIC or HEIF"),
        (b"\xff\x0a\1\2\3", "a JPEG XL file"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL file"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 file"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"DDS |\0\0\0", "DDS"),
        (b"\0\0\1\0\1\0\x10\x10", "a Windows icon"),
        (b"\0\0\0\x18ftypcrx \0", "a raw camera file"),
        (b"II*\0\x10\0\0\0CR\2\0", "a raw camera file"),
        (b"FUJIFILMCCD-RAW 0201", "a raw camera file"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "AppleDouble"),
        (b"<!DOCTYPE html><html>404", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", "a video"),
    ],
)
def test_foreign_formats_say_what_they_are(
    monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str
) -> None:
    monkeypatch.setattr("captioner.photos.formats.heif_is_read", lambda: False)
    with pytest.raises(PhotoError, match=reason):
        decode_photo(content + bytes(100))


# Shared memory


def test_threads_share_the_memory_and_none_starves() -> None:
    memory, held, most = Memory(100), 0, 0
    lock = threading.Lock()
    order: list[int] = []

    def work(amount: int) -> None:
        nonlocal held, most
        with memory.hold(amount):
            with lock:
                order.append(amount)
                held += min(amount, 100)
                most = max(most, held)
            time.sleep(0.002)
            with lock:
                held -= min(amount, 100)

    threads = [threading.Thread(target=work, args=(n,)) for n in [30, 100, 7, 5000, 60, 41] * 10]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(order) == 60
    assert most <= 100
    assert held == 0


def test_memory_is_given_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(10**9)
    monkeypatch.setattr(decode, "DECODING", memory)
    with pytest.raises(PhotoError):
        decode_photo(picture(format="PNG")[:-200])
    with decode.open_content(picture(format="WEBP")):
        assert memory._free < 10**9
    assert memory._free == 10**9


def test_a_metered_file_ends() -> None:
    file = Metered(io.BytesIO(b"abc"), 2)
    assert file.read(1) + file.read() == b"abc"
    with pytest.raises(PhotoError):
        file.read()
    assert limits.MAX_HEADER_READS < limits.MAX_READS

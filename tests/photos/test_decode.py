"""read_photo on every kind of picture and every kind of file that only looks like one."""

import io
import os
import re
import resource
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageFile, features

from captioner.errors import CaptionerError
from captioner.photos.decode import PhotoError, read_photo

HAS_AVIF = "avif" in features.get_supported()
PHOTOS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "photos"


@pytest.fixture
def scene() -> Image.Image:
    """A smooth colour picture whose corners differ: red, green, blue, yellow."""
    corners = Image.new("RGB", (2, 2))
    corners.putdata([(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)])
    return corners.resize((48, 32), Image.Resampling.BICUBIC)


def array(photo: Image.Image) -> np.ndarray:
    assert photo.mode == "RGB"
    return np.asarray(photo).astype(int)


def saved(folder: Path, picture: Image.Image, name: str, **options: object) -> Path:
    path = folder / name
    picture.save(path, **options)
    return path


def reason(path: Path, **limits: int) -> str:
    with pytest.raises(PhotoError) as error:
        read_photo(path, **limits)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 300
    return text


# What can be read


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp", "gif", "jpg", "avif"])
def test_formats(tmp_path, scene, suffix):
    if suffix == "avif" and not HAS_AVIF:
        pytest.skip("this Pillow has no AVIF")
    options = {"lossless": True} if suffix == "webp" else {"quality": 95} if suffix == "jpg" else {}
    photo = read_photo(saved(tmp_path, scene, f"a.{suffix}", **options))
    lossy = {"gif": 24, "jpg": 12, "avif": 20}
    assert np.abs(array(photo) - array(scene)).max() <= lossy.get(suffix, 0)
    assert photo.info == ({"jpeg_quality": 95} if suffix == "jpg" else {})
    assert type(photo) is Image.Image


def test_the_name_says_nothing_about_the_format(tmp_path, scene):
    path = saved(tmp_path, scene, "a.jpg", format="PNG")
    assert (array(read_photo(path)) == array(scene)).all()


@pytest.mark.parametrize("name", ["a b c.png", "süß 犬.png", "no suffix", "\udcff.png"])
def test_names(tmp_path, scene, name):
    path = tmp_path / name
    with path.open("wb") as file:
        scene.save(file, "PNG")
    assert read_photo(path).size == (48, 32)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_palette_and_bilevel(tmp_path, scene, mode):
    picture = scene.convert(mode)
    photo = read_photo(saved(tmp_path, picture, "a.png"))
    assert (array(photo) == array(picture.convert("RGB"))).all()


def test_cmyk_tiff_and_inverted_adobe_jpeg_show_the_same_colours(tmp_path, scene):
    cmyk = scene.convert("CMYK")
    tiff = array(read_photo(saved(tmp_path, cmyk, "a.tiff")))
    # Pillow writes CMYK JPEGs as Adobe's programs do: inverted, with their marker.
    path = saved(tmp_path, cmyk, "a.jpg", quality=98, subsampling=0)
    assert b"Adobe" in path.read_bytes()
    assert np.abs(tiff - array(scene)).max() <= 2
    assert np.abs(array(read_photo(path)) - array(scene)).max() <= 16


def test_lab(tmp_path):
    lab = Image.merge("LAB", [Image.new("L", (2, 2), value) for value in (255, 128, 128)])
    assert np.abs(array(read_photo(saved(tmp_path, lab, "a.tiff"))) - 255).max() <= 3


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix):
    levels = np.arange(256, dtype=np.uint16)[None] * 257
    path = saved(tmp_path, Image.fromarray(levels), f"a.{suffix}")
    assert (array(read_photo(path))[0, :, 0] == np.arange(256)).all()


def test_big_endian_sixteen_bits(tmp_path):
    levels = np.linspace(0, 65535, 300).round().astype(">u2")[None]
    picture = Image.frombytes("I;16B", (300, 1), levels.tobytes())
    photo = array(read_photo(saved(tmp_path, picture, "a.tiff")))
    assert (photo[0, :, 1] == np.rint(levels[0] / 257.0)).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 257, 65535], [0, 1, 255]),  # 16 bits in an I picture
        ([0, 50_000, 100_000], [0, 128, 255]),  # deeper: stretched
        ([-10, 0, 10], [0, 128, 255]),
        ([7, 7, 7], [0, 0, 0]),
    ],
)
def test_integers_of_32_bits(tmp_path, values, expected):
    picture = Image.fromarray(np.array([values], dtype=np.int32))
    assert picture.mode == "I"
    assert array(read_photo(saved(tmp_path, picture, "a.tiff")))[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([float("nan"), 0.2, 1.0], [0, 51, 255]),
        ([float("inf"), 0.0, 1.0], [0, 0, 255]),
        ([float("nan")] * 3, [0, 0, 0]),
    ],
)
def test_floats(tmp_path, values, expected):
    picture = Image.fromarray(np.array([values], dtype=np.float32))
    assert array(read_photo(saved(tmp_path, picture, "a.tiff")))[0, :, 0].tolist() == expected


def test_transparency_lies_over_white(tmp_path):
    white, red = [255, 255, 255], [255, 0, 0]
    rgba = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    rgba.putpixel((1, 0), (0, 0, 0, 0))
    for suffix in ("png", "webp", "tiff"):
        options = {"lossless": True} if suffix == "webp" else {}
        path = saved(tmp_path, rgba, f"a.{suffix}", **options)
        assert array(read_photo(path))[0].tolist() == [red, white]
    half = Image.new("LA", (1, 1), (0, 128))
    assert array(read_photo(saved(tmp_path, half, "la.png")))[0, 0].tolist() == [127] * 3
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([255, 0, 0, 0, 0, 0])
    palette.putpixel((1, 0), 1)
    for suffix in ("png", "gif"):
        path = saved(tmp_path, palette, f"p.{suffix}", transparency=1)
        assert array(read_photo(path))[0].tolist() == [red, white]
    path = saved(tmp_path, palette, "bytes.png", transparency=b"\xff\x00")
    assert array(read_photo(path))[0].tolist() == [red, white]
    key = Image.new("RGB", (2, 1), (255, 0, 0))
    key.putpixel((1, 0), (0, 0, 7))
    path = saved(tmp_path, key, "key.png", transparency=(0, 0, 7))
    assert array(read_photo(path))[0].tolist() == [red, white]


TURNED_BACK = {  # how a camera held that way has stored the scene
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "avif"])
@pytest.mark.parametrize("orientation", TURNED_BACK)
def test_exif_orientation_is_applied_once(tmp_path, scene, suffix, orientation):
    if suffix == "avif" and not HAS_AVIF:
        pytest.skip("this Pillow has no AVIF")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = Image.fromarray(np.ascontiguousarray(TURNED_BACK[orientation](np.asarray(scene))))
    options = {"lossless": True} if suffix == "webp" else {"quality": 95, "subsampling": 0}
    if suffix == "avif":
        options = {"quality": 95}
    photo = read_photo(saved(tmp_path, stored, f"a.{suffix}", exif=exif, **options))
    assert photo.size == scene.size
    assert np.abs(array(photo) - array(scene)).max() <= 12


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(
        tmp_path, frames[0], f"a.{suffix}", save_all=True, append_images=frames[1:], **options
    )
    with Image.open(path) as picture:
        assert picture.n_frames == 3
    assert (array(read_photo(path)) == [255, 0, 0]).all()


@pytest.mark.parametrize("size", [(1, 1), (4000, 3), (3, 4000)])
def test_odd_sizes(tmp_path, size):
    assert read_photo(saved(tmp_path, Image.new("RGB", size), "a.png")).size == size


def test_first_picture_of_a_stereo_file(tmp_path, scene):
    path = tmp_path / "a.mpo"
    scene.save(path, "MPO", save_all=True, append_images=[Image.new("RGB", (48, 32))], quality=95)
    assert np.abs(array(read_photo(path)) - array(scene)).max() <= 20


@pytest.mark.skipif(not PHOTOS.exists(), reason="no real photos here")
def test_real_photos_equal_pillows_own_decoding():
    for path in sorted(PHOTOS.iterdir())[:5]:
        with Image.open(path) as picture:
            assert (array(read_photo(path)) == array(picture.convert("RGB"))).all()


# What cannot


def test_what_is_no_file(tmp_path, scene):
    assert reason(tmp_path / "none.jpg") == "no such file"
    assert reason(tmp_path) == "a folder, not a photo"
    link = tmp_path / "link.jpg"
    link.symlink_to("gone.jpg")
    assert reason(link) == "broken link to gone.jpg"
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    assert "the file cannot be read" in reason(loop)
    os.mkfifo(tmp_path / "fifo.jpg")
    assert "not a regular file" in reason(tmp_path / "fifo.jpg")
    assert "not a regular file" in reason(Path("/dev/zero"))
    assert "not a possible file name" in reason(Path("a\0b.jpg"))
    assert "the file cannot be read" in reason(tmp_path / ("x" * 300))
    (tmp_path / "good link.png").symlink_to(saved(tmp_path, scene, "a.png"))
    assert read_photo(tmp_path / "good link.png").size == scene.size


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path, scene):
    path = saved(tmp_path, scene, "a.png")
    path.chmod(0)
    assert reason(path) == "no permission to read the file"


def test_permission_denied_by_the_system(tmp_path, scene, monkeypatch):
    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    path = saved(tmp_path, scene, "a.png")
    monkeypatch.setattr(Path, "open", refuse)
    assert reason(path) == "no permission to read the file"


def test_what_is_no_picture(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"")
    assert reason(path) == "the file is empty"
    for content in (b"x", b"Dear diary, today I saw a dog.\n" * 9, b"\0" * 4096):
        path.write_bytes(content)
        assert reason(path).startswith("not a picture in a known format (JPEG, PNG")


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch /tmp/owned) (w) file\n",
        b"%PDF-1.4\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"P3\n1 1\n255\n0 0 0\n",
    ],
)
def test_formats_not_on_the_list_are_never_tried(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert re.search("not a picture in a known format|, which is not read", reason(path))


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp", "tiff", "ppm", "avif"])
def test_cut_short_at_many_places_is_an_error_never_half_a_picture(tmp_path, scene, suffix):
    if suffix == "avif" and not HAS_AVIF:
        pytest.skip("this Pillow has no AVIF")
    whole = saved(tmp_path, scene, f"whole.{suffix}")
    content, expected = whole.read_bytes(), array(read_photo(whole))
    path = tmp_path / f"cut.{suffix}"
    refused = 0
    for length in {*range(1, len(content), max(1, len(content) // 60)), len(content) - 40}:
        path.write_bytes(content[:length])
        try:
            photo = read_photo(path)
        except PhotoError:
            refused += 1
        else:  # only something behind the last pixel is missing
            assert (array(photo) == expected).all()
            assert length > len(content) * 0.5
    assert refused >= 30


def test_cut_short_real_size(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    for suffix, options in (("jpg", {}), ("jpg", {"progressive": True}), ("png", {})):
        path = saved(tmp_path, Image.fromarray(noise), f"a.{suffix}", **options)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
        assert reason(path).startswith("truncated or damaged " + ("JPEG", "PNG")[suffix == "png"])


def test_pillows_switch_for_half_pictures_is_not_trusted(tmp_path, scene, monkeypatch):
    path = saved(tmp_path, scene, "a.jpg")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(CaptionerError, match="LOAD_TRUNCATED_IMAGES is True") as error:
        read_photo(path)
    assert not isinstance(error.value, PhotoError)


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width: int, height: int, body: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")


def peak_kib(path: Path) -> tuple[int, str]:
    """Peak memory in KiB that one read_photo adds in a fresh process, and what it printed."""
    code = (
        "import sys; from pathlib import Path\n"
        "from captioner.photos.decode import read_photo, PhotoError\n"
        # Not getrusage, whose peak a child process inherits from its parent.
        "status = Path('/proc/self/status')\n"
        "peak = lambda: int(status.read_text().split('VmHWM:')[1].split()[0])\n"
        "before = peak()\n"
        "try: text = str(read_photo(Path(sys.argv[1])).size)\n"
        "except PhotoError as error: text = str(error)\n"
        "print(peak() - before, text)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    added, text = done.stdout.split(maxsplit=1)
    return int(added), text.strip()


@needs_proc
def test_sixty_thousand_square_is_refused_from_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(
        png(60_000, 60_000, chunk(b"IDAT", zlib.compress(bytes(2**20)) + bytes(2**22)))
    )
    added, text = peak_kib(path)
    assert text == "60,000 x 60,000 pixels: more than the 134,217,728 allowed in all"
    assert added < 10 * 1024


def test_limits_are_the_callers(tmp_path, scene):
    path = saved(tmp_path, scene, "a.png")
    assert reason(path, max_pixels=1535) == "48 x 32 pixels: more than the 1,535 allowed in all"
    assert read_photo(path, max_pixels=1536).size == (48, 32)
    size = path.stat().st_size
    assert reason(path, max_bytes=size - 1).endswith(f"more than the {size - 1:,} allowed")


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A hundred kilobytes that unfold to a hundred megabytes."""
    return zlib.compress(bytes(100 * 2**20))


@needs_proc
@pytest.mark.parametrize("kind", ["iTXt", "zTXt", "iCCP"])
def test_compressed_metadata_does_not_unfold(tmp_path, bomb, kind):
    content = {
        "iTXt": b"key\0\1\0\0\0" + bomb,
        "zTXt": b"key\0\0" + bomb,
        "iCCP": b"key\0\0" + bomb,
    }[kind]
    pixels = chunk(b"IDAT", zlib.compress(bytes(4)))
    path = tmp_path / "bomb.png"
    path.write_bytes(png(1, 1, chunk(kind.encode(), content) + pixels))
    added, text = peak_kib(path)
    assert text.startswith("truncated or damaged PNG file") or text == "(1, 1)"
    assert added < 20 * 1024


def tiff(tags: list[tuple[int, int, int, int]], data: bytes = b"") -> bytes:
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def with_exif(scene: Image.Image, block: bytes) -> bytes:
    """A JPEG that has this EXIF block instead of its JFIF one."""
    buffer = io.BytesIO()
    scene.save(buffer, "JPEG")
    content, segment = buffer.getvalue(), b"Exif\0\0" + block
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + content[20:]


GREY_4x4 = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]


@needs_proc
@pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13, reason="Pillow bounds this from release 13 on"
)
@pytest.mark.parametrize("suffix", ["tiff", "jpg"])
def test_tags_that_share_one_block_do_not_multiply_it(tmp_path, scene, suffix):
    path = tmp_path / f"bomb.{suffix}"
    if suffix == "tiff":  # 2,000 x 1 MiB, all the same bytes
        shared = [(30_000 + i, 1, 2**20, 8) for i in range(2000)]
        path.write_bytes(tiff(GREY_4x4 + shared, bytes(2**20)))
    else:  # 5,000 x 60,000 bytes out of one EXIF block
        block = tiff([(1000 + i, 1, 60_000, 8) for i in range(5000)])
        path.write_bytes(with_exif(scene, block))
    added, _ = peak_kib(path)
    assert added < 40 * 1024


@needs_proc
def test_tiff_tile_larger_than_the_limit(tmp_path):
    tile = [
        (259, 3, 1, 5),
        (322, 4, 1, 60_000),
        (323, 4, 1, 60_000),
        (324, 4, 1, 8),
        (325, 4, 1, 99),
    ]
    path = tmp_path / "bomb.tiff"
    path.write_bytes(tiff(GREY_4x4 + tile, bytes(200)))
    added, text = peak_kib(path)
    assert text.startswith("60,000 x 60,000 pixels")
    assert added < 10 * 1024


@needs_proc
def test_gif_frame_larger_than_its_canvas(tmp_path):
    path = tmp_path / "bomb.gif"
    path.write_bytes(
        b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0x80, 0, 0) + bytes(6)
        + b"," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x02\x02\x4c\x01\x00;"
    )  # fmt: skip
    added, text = peak_kib(path)
    assert "65,535 x 65,535 pixels" in text or "exceeds limit" in text
    assert added < 10 * 1024


@pytest.mark.parametrize(
    "leak",
    [
        SyntaxError("x"), struct.error("x"), ValueError("x"), OverflowError("x"), zlib.error("x"),
        IndexError("x"), KeyError("x"), TypeError("x"), RecursionError("x"), AttributeError("x"),
        EOFError("x"), OSError("x"), OSError(5, "x"), Image.DecompressionBombError("x"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_pillow_raises_is_a_photo_error(tmp_path, scene, monkeypatch, leak):
    def fail(*_: object) -> None:
        raise leak

    path = saved(tmp_path, scene, "a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    assert reason(path).startswith("truncated or damaged PNG file: ")


def test_out_of_memory(tmp_path, scene, monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    path = saved(tmp_path, scene, "a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    assert reason(path) == "not enough memory to decode this PNG file"


# Warnings and threads


def odd_exif(scene: Image.Image) -> bytes:
    """A good JPEG whose EXIF block claims more than it has: Pillow warns about it."""
    tags = [(0x010E, 2, 5000, 60_000), (0x0128, 3, 1, 2), (0x011A, 5, 1, 7000)]
    return with_exif(scene, tiff(tags))


def test_pillows_warnings_are_neither_shown_nor_raised(tmp_path, scene):
    path = tmp_path / "odd.jpg"
    path.write_bytes(odd_exif(scene))
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with Image.open(path):
            assert shown  # Pillow alone does warn
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("error")  # in front of our filter, as pytest's and -W error are
        assert read_photo(path).size == scene.size
        assert shown == []
        with pytest.raises(UserWarning, match="ours"):
            warnings.warn("ours", stacklevel=1)


@needs_proc
def test_nothing_is_printed(tmp_path, scene):
    path = tmp_path / "odd.jpg"
    path.write_bytes(odd_exif(scene))
    assert peak_kib(path)[1] == "(48, 32)"
    path = saved(tmp_path, scene, "a.tiff", compression="tiff_lzw")
    path.write_bytes(path.read_bytes()[:-300])
    assert "TIFF" in peak_kib(path)[1]  # libtiff has a voice of its own


def test_many_threads(tmp_path, scene):
    good = saved(tmp_path, scene, "a.png")
    odd, bad = tmp_path / "odd.jpg", tmp_path / "bad.png"
    odd.write_bytes(odd_exif(scene))
    bad.write_bytes(good.read_bytes()[:-60])
    expected = [array(read_photo(good)), array(read_photo(odd))]
    faults: list[object] = []

    def work() -> None:
        try:
            for _ in range(20):
                for path, picture in zip((good, odd), expected, strict=True):
                    assert (array(read_photo(path)) == picture).all()
                with pytest.raises(PhotoError):
                    read_photo(bad)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


# Mutants


def seeds() -> list[bytes]:
    picture = Image.linear_gradient("L").resize((24, 16)).convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    forms = [
        (picture, "JPEG", {"exif": exif}),
        (picture, "JPEG", {"progressive": True}),
        (picture.convert("CMYK"), "JPEG", {}),
        (picture, "PNG", {"exif": exif}),
        (picture.convert("P"), "PNG", {"transparency": 3}),
        (picture, "PNG", {"save_all": True, "append_images": [picture.rotate(180)]}),
        (Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)), "PNG", {}),
        (picture, "GIF", {"save_all": True, "append_images": [picture.rotate(180)]}),
        (picture, "WEBP", {"exif": exif}),
        (picture, "BMP", {}),
        (picture, "TIFF", {}),
        (picture, "TIFF", {"compression": "tiff_lzw"}),
        (picture, "TIFF", {"compression": "jpeg"}),
        (picture, "PPM", {}),
    ]
    if HAS_AVIF:
        forms.append((picture, "AVIF", {}))
    contents = []
    for form, name, options in forms:
        buffer = io.BytesIO()
        form.save(buffer, name, **options)
        contents.append(buffer.getvalue())
    return contents


SEEDS = seeds()


def mutant(generator: np.random.Generator) -> bytes:
    content = bytearray(SEEDS[generator.integers(len(SEEDS))])
    for _ in range(generator.integers(1, 9)):
        at = int(generator.integers(len(content)))
        match generator.integers(4):
            case 0:
                content[at] = generator.integers(256)
            case 1:
                content[at] ^= 1 << int(generator.integers(8))
            case 2:
                del content[at : at + int(generator.integers(1, 30))]
            case 3:
                content[at:at] = content[: int(generator.integers(30))]
        if len(content) < 20:
            break
    return bytes(content)


def try_mutant(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    try:
        photo = read_photo(path, max_pixels=10**6)
    except PhotoError as error:
        text = str(error)
    else:
        assert photo.mode == "RGB"
        return True
    assert text
    assert "\n" not in text
    return False


@settings(deadline=None, max_examples=60)
@given(number=st.integers(0, 2**32))
def test_mutants_are_photos_or_photo_errors(tmp_path_factory, number):
    path = tmp_path_factory.getbasetemp() / "mutant"
    try_mutant(path, mutant(np.random.default_rng(number)))


@pytest.mark.slow
def test_ten_thousand_mutants_in_bounded_memory(tmp_path):
    generator = np.random.default_rng(7)
    for _ in range(200):
        try_mutant(tmp_path / "mutant", mutant(generator))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = sum(try_mutant(tmp_path / "mutant", mutant(generator)) for _ in range(10_000))
    added = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert 1000 < read < 9000
    assert added < 200 * 1024  # KiB

"""Every kind of photo that a program may hand to `Predictor.caption`, and every wrong one."""

import io
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

import captioner.inference.reading as reading_module
from captioner.errors import UsageError
from captioner.inference.photo import Photo
from captioner.inference.predictor import Predictor
from captioner.inference.reading import Reading, caption_photos
from captioner.inference.result import PhotoCaptions
from captioner.photos.source import PhotoSource, Read


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photo(tmp_path_factory.mktemp("one") / "a.png", 5)


@pytest.fixture
def predictor(tiny_checkpoint: Path) -> Predictor:
    return Predictor.load(tiny_checkpoint, device="cpu")


def kinds(photo: Path) -> dict[str, Any]:
    with Image.open(photo) as image:
        pixels = np.asarray(image.convert("RGB"))
    content = photo.read_bytes()
    return {
        "text": str(photo),
        "path": photo,
        "source": PhotoSource(photo),
        "image": Image.open(io.BytesIO(content)),
        "transparent image": Image.fromarray(pixels).convert("RGBA"),
        "array": pixels,
        "array in another order": np.asfortranarray(pixels),
        "bytes": content,
        "bytearray": bytearray(content),
        "memoryview": memoryview(content),
        "stream": io.BytesIO(content),
    }


def test_each_kind_alone_and_together(predictor: Predictor, photo: Path) -> None:
    (wanted,) = predictor.caption([photo])
    assert wanted.caption
    for kind, value in kinds(photo).items():
        found = predictor.caption(value)
        assert isinstance(found, PhotoCaptions), kind
        assert found.caption == wanted.caption, kind
    several = list(predictor.caption(iter(kinds(photo).values()), batch_size=5))
    assert [found.caption for found in several] == [wanted.caption] * len(kinds(photo))


def test_names_of_what_has_no_path(predictor: Predictor, photo: Path) -> None:
    content = photo.read_bytes()
    with photo.open("rb") as file, Image.open(photo) as image:
        found = list(predictor.caption([content, file, image, np.zeros((9, 9, 3), np.uint8)]))
    assert [one.path for one in found] == [Path("photo-0"), photo, photo, Path("photo-3")]


def test_what_cannot_be_read_takes_its_place(predictor: Predictor, photo: Path) -> None:
    closed = photo.open("rb")
    closed.close()
    with Image.open(io.BytesIO(photo.read_bytes()[:-40])) as cut:
        found = list(predictor.caption([b"", b"text", closed, cut, photo]))
    assert [one.error is None for one in found] == [False] * 4 + [True]
    assert predictor.caption(b"").error == "the file is empty"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "not NoneType"),
        (7, "expected a path, a PIL image"),
        ({"a.jpg": 1}, "not dict"),
        (np.zeros((4, 4, 3)), r"an array of float64 and shape \(4, 4, 3\): expected uint8"),
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"shape \(2, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        (io.StringIO("text"), 'mode "rb"'),
        (Image.new("RGB", (0, 5)), "an image of 0 x 5 pixels"),
        (Image.new("L", (7, 0)), "an image of 7 x 0 pixels"),
        (np.array("a.jpg"), r"shape \(\)"),
    ],
)
def test_wrong_kinds_are_one_line(predictor: Predictor, wrong: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        predictor.caption(wrong)
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError):
        list(predictor.caption([wrong]))


def test_a_file_opened_for_writing(predictor: Predictor, tmp_path: Path) -> None:
    with (tmp_path / "new.jpg").open("wb") as file, pytest.raises(UsageError, match="for writing"):
        predictor.caption(file)


def test_a_file_at_its_end_says_so(predictor: Predictor, photo: Path) -> None:
    written = io.BytesIO()
    written.write(photo.read_bytes())
    assert "call seek(0) first" in str(predictor.caption(written).error)
    assert predictor.caption(io.BytesIO()).error == "the file is empty"


def test_a_column_of_a_table_is_many_photos(predictor: Predictor, photo: Path) -> None:
    (wanted,) = predictor.caption([photo])
    for column in (np.array([str(photo)] * 2), np.array([str(photo), photo], dtype=object)):
        assert [one.caption for one in predictor.caption(column)] == [wanted.caption] * 2
    assert list(predictor.caption(np.array([], dtype=str))) == []


def test_an_iterator_without_end(predictor: Predictor, photo: Path) -> None:
    endless = predictor.caption(itertools.repeat(photo), batch_size=4)
    assert all(found.caption for found in itertools.islice(endless, 20))


def test_what_waits_for_a_decoder_is_bounded_in_bytes(
    predictor: Predictor, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a slow photo decodes, no more than the budget is read ahead."""
    content = photo.read_bytes()
    monkeypatch.setattr(reading_module, "READ_AHEAD", 10 * len(content))
    handed: list[bytes] = []
    slow, most = threading.Event(), []
    read_pixels = reading_module.read_pixels

    def wait(source: PhotoSource, *how: Any) -> Any:
        slow.wait(5)
        return read_pixels(source, *how)

    monkeypatch.setattr(reading_module, "read_pixels", wait)

    def look() -> None:
        most.append(len(handed))
        slow.set()

    def photos() -> Iterator[bytes]:
        for _ in range(60):
            handed.append(content)
            if len(handed) == 10:
                threading.Timer(0.3, look).start()
            yield content

    assert len(list(predictor.caption(photos(), batch_size=32))) == 60
    assert most == [10]


@pytest.mark.slow
def test_workers_in_a_script_without_a_main_guard(tiny_checkpoint: Path, photo: Path) -> None:
    script = photo.with_name("script.py")
    body = (
        "from captioner import Predictor\n"
        f"predictor = Predictor.load({str(tiny_checkpoint)!r})\n"
        f"print([one.caption for one in predictor.caption([{str(photo)!r}], workers=1)])\n"
    )
    script.write_text(body)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") <= 2  # of the script alone, with its cause
    assert '`if __name__ == "__main__":`' in done.stderr.splitlines()[-1]
    guarded = body.replace("predictor =", 'if __name__ == "__main__":\n  predictor =')
    script.write_text(guarded.replace("print(", "  print("))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("['")


@pytest.mark.parametrize("batch_size", [1, 7])
def test_read_ahead_is_bounded_in_photos(
    predictor: Predictor, photo: Path, batch_size: int
) -> None:
    taken = 0

    def photos() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield photo

    for number, _ in enumerate(predictor.caption(photos(), batch_size=batch_size), 1):
        assert taken - number <= 3 * batch_size  # two batches ahead, and the one being written
        if number == 50:
            break


def resident() -> int:
    """Memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_flat_over_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of a million rows, each with bytes of its own; only decoding and search are cheap."""
    read = Read((np.zeros((3, 2, 2), np.uint8),), (2, 2))
    monkeypatch.setattr(reading_module, "read_pixels", lambda *how: read)

    def search(photos: Sequence[Photo]) -> list[PhotoCaptions]:
        return [PhotoCaptions(one.path, error="") for one in photos]

    rows = (b"%012d" % i * 1000 for i in range(200_000))  # 12 KB each: 2.4 GB in all
    found = caption_photos(rows, search, Reading([], batch_size=64))
    assert isinstance(found, Iterator)
    before = 0
    for number, result in enumerate(found):
        assert result.path.name == f"photo-{number}"
        if number == 10_000:
            before = resident()
    assert number == 199_999
    assert resident() - before < 2**23

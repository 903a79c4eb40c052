"""What counts as a usable photo, caption, id and split, for every source."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.datasets import records
from captioner.datasets.records import Collector, Kind, Record
from captioner.errors import UsageError

SOURCE = Path("list.txt")


def add(collector: Collector, folder: Path, name: object = "a.jpg", **changes: object) -> None:
    arguments = {
        "image_id": 1,
        "captions": ["a dog"],
        "split": "train",
        "file": SOURCE,
        "place": "line 1",
    }
    collector.add(folder=folder, name=name, **(arguments | changes))  # type: ignore[arg-type]


def messages(collector: Collector) -> list[str]:
    return [problem.message for problem in collector.loaded.problems]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "sub/c d.jpg", "sub/é.jpg"):
        (folder / name).touch()
    (tmp_path / "outside.jpg").touch()
    return folder


def test_a_good_photo_becomes_a_record(photos: Path) -> None:
    collector = Collector()
    add(collector, photos, "sub/c d.jpg", captions=[" two\u2028dogs\r\n run ", "a\x0bdog"])
    add(collector, photos, "sub/é.jpg", image_id="x", split="val")
    assert collector.loaded.records == [
        Record(1, photos / "sub/c d.jpg", ("two dogs run", "a dog"), "train"),
        Record("x", photos / "sub/é.jpg", ("a dog",), "val"),
    ]
    assert not collector.loaded.problems


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "z.jpg"}, "photo 'z.jpg' is missing from "),
        ({"name": "sub"}, "photo 'sub' is missing from "),
        ({"name": "nowhere/a.jpg"}, "photo 'nowhere/a.jpg' is missing from "),
        ({"name": "a.jpg/b.jpg"}, "photo 'a.jpg/b.jpg' is missing from "),
        ({"name": "../outside.jpg"}, "photo '../outside.jpg' is outside its folder "),
        ({"name": "sub/../a.jpg"}, "photo 'sub/../a.jpg' is outside its folder "),
        ({"name": "/etc/passwd"}, "photo '/etc/passwd' is outside its folder "),
        ({"name": ""}, "a photo's name must be a string, not ''"),
        ({"name": None}, "a photo's name must be a string, not None"),
        ({"name": 7}, "a photo's name must be a string, not 7"),
        ({"name": "a\0.jpg"}, "'a\\x00.jpg' is not a valid file name"),
        ({"name": "\ud800.jpg"}, "'\\ud800.jpg' is not a valid file name"),
        ({"image_id": 1.0}, "an image id must be an integer or a string, not 1.0"),
        ({"image_id": True}, "an image id must be an integer or a string, not True"),
        ({"image_id": []}, "an image id must be an integer or a string, not []"),
        ({"image_id": " "}, "an image id must be an integer or a string, not ' '"),
        ({"split": "dev"}, 'unknown split \'dev\'; choose "train", "val" or "test"'),
        ({"split": ["train"]}, "unknown split ['train']; choose"),
        ({"captions": []}, "photo 'a.jpg' has no caption; add at least one"),
    ],
)
def test_a_bad_photo_is_left_out_and_said(
    photos: Path, changes: dict[str, object], message: str
) -> None:
    collector = Collector()
    add(collector, photos, **changes)  # type: ignore[arg-type]
    (found,) = collector.loaded.problems
    assert found.message.startswith(message)
    assert (found.file, found.place) == (SOURCE, "line 1")
    assert not collector.loaded.records


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        (" \t\u2028", "empty caption; write one or remove it"),
        (3, "a caption must be a string, not 3"),
        (None, "a caption must be a string, not None"),
        (
            "a \ud83d dog",
            "caption 'a \\ud83d dog' is not valid Unicode: it has half a surrogate pair",
        ),
    ],
)
def test_a_bad_caption_is_left_out_alone(photos: Path, caption: object, message: str) -> None:
    collector = Collector()
    add(collector, photos, captions=["a dog", caption])
    [problem] = collector.loaded.problems
    assert (problem.file, problem.place, problem.message) == (SOURCE, "line 1, caption 2", message)
    assert (problem.kind is Kind.EMPTY_CAPTION) == message.startswith("empty")
    assert collector.loaded.records[0].captions == ("a dog",)


def test_a_photo_whose_captions_are_all_bad_is_left_out(photos: Path) -> None:
    collector = Collector()
    add(collector, photos, captions=["", 5], caption_place=lambda index: f"line {10 + index}")
    assert [problem.place for problem in collector.loaded.problems] == [
        "line 10",
        "line 11",
        "line 1",
    ]
    assert messages(collector)[-1] == "photo 'a.jpg' has no caption left; add at least one"
    assert not collector.loaded.records


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"name": "b.jpg"}, "image id 1 occurs twice; list a photo once, with all its captions"),
        ({"name": "b.jpg", "image_id": "1"}, "image id '1' occurs twice"),
        ({"name": "b.jpg", "split": "val"}, "image id 1 is also in train; a photo belongs to one"),
        ({"image_id": 2, "split": "test"}, "a.jpg' is also in train; a photo belongs to one split"),
        ({"image_id": 2, "name": "./a.jpg"}, "a.jpg' occurs twice; list a photo once"),
    ],
)
def test_the_second_of_two_is_left_out(
    photos: Path, second: dict[str, object], message: str
) -> None:
    collector = Collector()
    add(collector, photos)
    add(collector, photos, **second)  # type: ignore[arg-type]
    assert message in messages(collector)[0]
    assert len(collector.loaded.records) == 1


def test_each_folder_is_listed_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []
    real = records.os.scandir
    monkeypatch.setattr(records.os, "scandir", lambda path: listed.append(path) or real(path))
    collector = Collector()
    for number, name in enumerate(["a.jpg", "b.jpg", "sub/c d.jpg", "sub/é.jpg", "no.jpg"]):
        add(collector, photos, name, image_id=number)
    assert listed == [str(photos), str(photos / "sub")]
    assert len(collector.loaded.records) == 4


@given(st.text())
def test_captions_come_out_on_one_line(text: str) -> None:
    try:
        caption = records.check_caption(text)
    except ValueError:
        assert not text.strip() or any("\ud800" <= letter <= "\udfff" for letter in text)
        return
    assert len(caption.splitlines()) == 1
    assert caption == caption.strip()
    assert "".join(caption.split()) == "".join(text.split())
    assert records.check_caption(caption) == caption


def test_lines_end_in_lf_or_crlf_only(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_bytes("\ufeffone\r\n\n  \ntwo\u2028still two\x0c\r\n".encode() + b"b\xffd\nfive")
    collector = Collector()
    assert list(collector.lines(file)) == [
        ("line 1", "one"),
        ("line 4", "two\u2028still two\x0c"),
        ("line 6", "five"),
    ]
    assert [str(problem) for problem in collector.loaded.problems] == [
        f"{file}, line 5: not UTF-8 at byte 2 of the line"
    ]


def test_by_split(photos: Path) -> None:
    collector = Collector()
    add(collector, photos)
    add(collector, photos, "b.jpg", image_id=2, split="val")
    found = records.by_split(collector.loaded.records, "val")
    assert [record.image_id for record in found] == [2]
    assert records.by_split(collector.loaded.records, "test") == []
    with pytest.raises(UsageError, match="unknown split 'dev'; choose from train, val, test"):
        records.by_split([], "dev")


@pytest.mark.parametrize("listed", ["NFC", "NFD"])
def test_a_name_is_found_in_any_unicode_form(tmp_path: Path, listed: str) -> None:
    on_disk = unicodedata.normalize("NFD" if listed == "NFC" else "NFC", "Übung å.jpg")
    (tmp_path / on_disk).touch()
    collector = records.Collector()
    collector.add(
        image_id=1,
        folder=tmp_path,
        name=unicodedata.normalize(listed, on_disk),
        captions=["a dog"],
        split="train",
        file=tmp_path / "a.json",
        place="line 1",
    )
    assert [record.path.name for record in collector.loaded.records] == [on_disk]


def test_utf_16_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("ein Hündchen\r\n".encode("utf-16"))
    assert list(records.Collector().lines(tmp_path / "a.txt")) == [("line 1", "ein Hündchen")]

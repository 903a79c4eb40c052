"""Flickr8k: both caption files, the split lists, and what is said of bad lines."""

import csv
import io
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from captioner.datasets import flickr8k
from captioner.datasets.records import Collector, Record
from captioner.errors import CaptionerError, UsageError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "flickr8k"


def write(
    root: Path,
    captions: str,
    name: str = "Flickr8k.token.txt",
    photos: str = "Images",
    **lists: str,
) -> Path:
    (root / photos).mkdir(parents=True, exist_ok=True)
    for split, lines in lists.items():
        (root / f"Flickr_8k.{split}Images.txt").write_text(lines, encoding="utf-8")
        for line in lines.split():
            (root / photos / line).touch()
    (root / name).write_bytes(captions.encode())
    return root / name


TOKENS = "a.jpg#0\tA dog .\na.jpg#1\tThe dog , it runs .\nb.jpg#0\tA cat .\nc.jpg#0\tA cow .\n"


@pytest.mark.parametrize("photos", ["Images", "Flicker8k_Dataset"])
@pytest.mark.parametrize("prefix", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_official_files(tmp_path: Path, photos: str, prefix: str, end: str) -> None:
    captions = prefix + TOKENS.replace("\n", end)
    write(tmp_path, captions, photos=photos, train=f"b.jpg{end}a.jpg", dev=f"c.jpg{end}")
    folder = tmp_path / photos
    loaded = flickr8k.load(tmp_path)
    assert loaded.records == [
        Record("b.jpg", folder / "b.jpg", ("A cat .",), "train"),
        Record("a.jpg", folder / "a.jpg", ("A dog .", "The dog , it runs ."), "train"),
        Record("c.jpg", folder / "c.jpg", ("A cow .",), "val"),
    ]
    assert (loaded.problems, loaded.notes) == ([], [])


def test_captions_of_photos_in_no_list_are_noted(tmp_path: Path) -> None:
    # The official file has captions of a photo with a doubled name, which is not there.
    file = write(tmp_path, TOKENS + "x.jpg.1#0\tA boy .\n", train="a.jpg", test="b.jpg")
    loaded = flickr8k.load(tmp_path)
    assert [record.split for record in loaded.records] == ["train", "test"]
    assert loaded.notes == [f"2 photos with captions in {file} skipped: in no split list"]
    assert loaded.problems == []


@pytest.mark.parametrize(
    ("line", "place", "message"),
    [
        ("a.jpg#1 A dog .", "line 2", "expected NAME.jpg#0<TAB>caption, not 'a.jpg#1 A dog .'"),
        ("a.jpg\tA dog .", "line 2", "expected NAME.jpg#0<TAB>caption, not 'a.jpg\\tA dog .'"),
        ("#1\tA dog .", "line 2", "expected NAME.jpg#0<TAB>caption, not '#1\\tA dog .'"),
        ("a.jpg#x\tA dog .", "line 2", "expected NAME.jpg#0<TAB>caption, not 'a.jpg#x\\tA dog .'"),
        ("a.jpg#0\tA dog .", "line 2", "'a.jpg#0' occurs twice; number each caption differently"),
    ],
)
def test_bad_caption_lines(tmp_path: Path, line: str, place: str, message: str) -> None:
    file = write(tmp_path, f"a.jpg#0\tA cat .\n{line}\n", train="a.jpg")
    loaded = flickr8k.load(tmp_path)
    assert [str(problem) for problem in loaded.problems] == [f"{file}, {place}: {message}"]
    assert loaded.records[0].captions == ("A cat .",)


def test_an_empty_caption_is_placed_in_the_caption_file(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg#0\tA cat .\na.jpg#1\t \n", train="a.jpg")
    (problem,) = flickr8k.load(tmp_path).problems
    assert problem.place == "line 2 of Flickr8k.token.txt"
    assert problem.message == "empty caption; write one or remove it"


def test_bad_list_lines(tmp_path: Path) -> None:
    lists = {"train": "a.jpg\nd.jpg\na.jpg\n../c.jpg", "dev": "b.jpg\na.jpg\nc.jpg"}
    write(tmp_path, TOKENS.replace("c.jpg", "../c.jpg"), train="a.jpg d.jpg", dev="b.jpg")
    for split, lines in lists.items():
        (tmp_path / f"Flickr_8k.{split}Images.txt").write_text(lines, encoding="utf-8")
    loaded = flickr8k.load(tmp_path)
    assert [record.image_id for record in loaded.records] == ["a.jpg", "b.jpg"]
    folder = tmp_path / "Images"
    assert [str(problem).removeprefix(f"{tmp_path}/") for problem in loaded.problems] == [
        "Flickr_8k.trainImages.txt, line 2: photo 'd.jpg' has no caption; add at least one",
        "Flickr_8k.trainImages.txt, line 3: image id 'a.jpg' occurs twice; "
        "list a photo once, with all its captions",
        f"Flickr_8k.trainImages.txt, line 4: photo '../c.jpg' is outside its folder {folder}",
        "Flickr_8k.devImages.txt, line 2: image id 'a.jpg' is also in train; "
        "a photo belongs to one split",
        f"Flickr_8k.devImages.txt, line 3: photo 'c.jpg' is missing from {folder}",
    ]


def test_the_table(tmp_path: Path) -> None:
    table = (
        "image,caption\r\n"
        "a.jpg,A dog .\r\n"
        'a.jpg,"A dog , ""Rex"" , runs ."\r\n'
        'a.jpg,A dog, "Rex", runs\r\n'
        '"b,1.jpg",A cat\r\n'
    )
    write(tmp_path, table, "captions.txt", train="a.jpg\nb,1.jpg")
    loaded = flickr8k.load(tmp_path)
    assert not loaded.problems
    assert [record.captions for record in loaded.records] == [
        ("A dog .", 'A dog , "Rex" , runs .', 'A dog, "Rex", runs'),
        ("A cat",),
    ]


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8")), min_size=1))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_table_written_by_csv_is_read_back(tmp_path: Path, captions: list[str]) -> None:
    table = io.StringIO()
    csv.writer(table).writerows([["image", "caption"], *(["a.jpg", text] for text in captions)])
    file = tmp_path / "captions.txt"
    file.write_bytes(table.getvalue().encode())
    collector = Collector()
    read = flickr8k.read_captions(collector, file)
    assert [text for _, text in read["a.jpg"]] == captions
    assert not collector.loaded.problems


@pytest.mark.parametrize("row", ["a.jpg", 'a.jpg,"A dog', 'a.jpg,"A" dog', '"a.jpg",A,dog'])
def test_a_bad_row_costs_itself_only(tmp_path: Path, row: str) -> None:
    table = f"image,caption\na.jpg,one\n{row}\na.jpg,two\n"
    file = write(tmp_path, table, "captions.txt", train="a.jpg")
    loaded = flickr8k.load(tmp_path)
    assert [str(problem) for problem in loaded.problems] == [
        f'{file}, line 3: expected image,caption or image,"caption" with inner quotes doubled, '
        f"not {row!r}"
    ]
    assert loaded.records[0].captions == ("one", "two")


def test_a_line_that_is_not_utf8(tmp_path: Path) -> None:
    file = write(tmp_path, TOKENS, train="a.jpg")
    file.write_bytes(TOKENS.encode().replace(b"The", b"Th\xe9"))
    loaded = flickr8k.load(tmp_path)
    assert [str(problem) for problem in loaded.problems] == [
        f"{file}, line 2: not UTF-8 at byte 11 of the line"
    ]


def test_which_caption_file(tmp_path: Path) -> None:
    write(tmp_path, "image,caption\na.jpg,table\n", "captions.txt", train="a.jpg")
    assert flickr8k.load(tmp_path).records[0].captions == ("table",)
    write(tmp_path, "a.jpg#0\ttokens\n")
    assert flickr8k.load(tmp_path).records[0].captions == ("tokens",)
    chosen = flickr8k.load(tmp_path, annotations=tmp_path / "captions.txt")
    assert chosen.records[0].captions == ("table",)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        flickr8k.load(tmp_path)
    assert str(caught.value) == (
        f"no caption file in {tmp_path}: looked for Flickr8k.token.txt, captions.txt, "
        "results.csv, results_20130124.token; "
        "set data.annotations to another file"
    )
    file = write(tmp_path, TOKENS)
    with pytest.raises(UsageError, match=r"no split lists in .*: looked for Flickr_8k\.trainImag"):
        flickr8k.load(tmp_path)
    write(tmp_path, "picture|words\n", train="a.jpg")
    with pytest.raises(CaptionerError) as failed:
        flickr8k.load(tmp_path)
    assert str(failed.value) == (
        f"{file}, line 1: expected NAME.jpg#0<TAB>caption or the heading image,caption"
    )
    write(tmp_path, "\n")
    with pytest.raises(CaptionerError, match="no captions"):
        flickr8k.load(tmp_path)
    with pytest.raises(UsageError, match=r"no folder with photos: looked for .*/nowhere; name it"):
        flickr8k.load(tmp_path, images=tmp_path / "nowhere")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real photos are not here")
def test_the_real_photos() -> None:
    loaded = flickr8k.load(SHARED)
    assert not loaded.problems
    splits = Counter(record.split for record in loaded.records)
    assert splits == {"train": 6000, "val": 1000}
    assert {len(record.captions) for record in loaded.records} == {5}

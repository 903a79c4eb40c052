"""Formats for people's own photos: a table, text files beside photos, Hugging Face's folders."""

import json
from pathlib import Path

import pytest

from captioner.datasets.load import load_records
from captioner.datasets.records import Loaded
from captioner.errors import CaptionerError, UsageError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def told(loaded: Loaded) -> list[tuple[object, str, tuple[str, ...]]]:
    return [(record.image_id, record.split, record.captions) for record in loaded.records]


def test_a_table_with_splits(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "images/b.jpg")
    text = "id;file_name;caption;split\n1;a.jpg;A dog;train\n2;a.jpg;One dog;train\n"
    (tmp_path / "captions.csv").write_text(text + '3;b.jpg;"A; cat";validation\n')
    assert told(load_records(format="csv", root=tmp_path)) == [
        ("a.jpg", "train", ("A dog", "One dog")),
        ("b.jpg", "val", ("A; cat",)),
    ]


def test_a_table_without_splits_is_divided_only_if_asked(tmp_path: Path) -> None:
    names = [f"{n}.jpg" for n in range(10)]
    touch(tmp_path, *names)
    (tmp_path / "mine.csv").write_text(
        "bild\tsatz\n" + "".join(f"{name}\tein Hund\n" for name in names)
    )
    with pytest.raises(CaptionerError, match=r"no split; .* or set data\.split 80/10/10"):
        load_records(format="csv", root=tmp_path, columns="image=bild,caption=satz")
    loaded = load_records(
        format="csv", root=tmp_path, columns="image=bild,caption=satz", split="60/20/20"
    )
    assert {record.split for record in loaded.records} == {"train", "val", "test"}
    assert "divided by their names (seed 0)" in loaded.notes[-1]


def test_one_photo_of_two_splits_is_a_problem(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "t.csv").write_text("image,caption,split\na.jpg,x,train\na.jpg,y,test\n")
    with pytest.raises(CaptionerError, match=r"'a\.jpg' has rows in several splits"):
        load_records(format="csv", root=tmp_path)


def test_text_files_beside_photos(tmp_path: Path) -> None:
    touch(tmp_path, "train/x/a.jpg", "valid/b.png", "test/c.jpg", "test/d.jpg")
    (tmp_path / "train/x/a.txt").write_text("A dog\n\nOne dog\r\n")
    (tmp_path / "valid/b.png.txt").write_text("A cat")
    (tmp_path / "test/c.caption").write_text("\ufeffA cow\n")
    loaded = load_records(format="sidecar", root=tmp_path)
    assert told(loaded) == [
        ("test/c.jpg", "test", ("A cow",)),
        ("train/x/a.jpg", "train", ("A dog", "One dog")),
        ("valid/b.png", "val", ("A cat",)),
    ]
    assert loaded.notes == [f"1 photo in {tmp_path} skipped: no caption file beside"]
    (tmp_path / "bare").mkdir()
    touch(tmp_path, "bare/a.jpg")
    with pytest.raises(CaptionerError, match="no photo has a caption file beside it"):
        load_records(format="sidecar", root=tmp_path / "bare")


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_image_folders_of_hugging_face(tmp_path: Path, form: str) -> None:
    for folder in ("train", "validation"):
        touch(tmp_path, f"{folder}/0.jpg")
        if form == "csv":
            text = "file_name,text\n0.jpg,a dog\n"
        else:
            text = json.dumps({"file_name": "0.jpg", "text": "a dog", "license": 3}) + "\n"
        (tmp_path / folder / f"metadata.{form}").write_text(text)
    assert told(load_records(format=form, root=tmp_path)) == [
        ("train/0.jpg", "train", ("a dog",)),
        ("validation/0.jpg", "val", ("a dog",)),
    ]


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"file_name": "a.jpg", "captions": ["x", "y"]}, None),
        ({"filepath": "a.jpg", "sentences": ["x", "y"], "split": None}, None),
        ({"bild": "a.jpg", "words": ["x", "y"]}, "image=bild, caption=words"),
    ],
)
def test_keys_people_use(tmp_path: Path, row: dict[str, object], columns: str | None) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    loaded = load_records(format="jsonl", root=tmp_path, columns=columns, split="1/0/0")
    assert told(loaded) == [("a.jpg", "train", ("x", "y"))]


def test_captions_of_kaggle_without_split_lists(tmp_path: Path) -> None:
    touch(tmp_path, "Images/1.jpg", "Images/2.jpg", "Images/3.jpg")
    rows = "".join(f"{n}.jpg,A dog , it runs .\n" for n in (1, 2, 3))
    (tmp_path / "captions.txt").write_text("image,caption\n" + rows)
    with pytest.raises(UsageError, match=r"otherwise set data\.split 80/10/10"):
        load_records(format="flickr8k", root=tmp_path)
    loaded = load_records(format="flickr8k", root=tmp_path, split="80/10/10")
    assert {record.split for record in loaded.records} == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "karpathy", "split": "80/10/10"}, "karpathy has its own splits"),
        ({"format": "coco", "columns": "image=x"}, "data.columns requires format csv, flickr8k or"),
        ({"format": "sidecar", "annotations": Path("x")}, "data.annotations is not available for"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_records(root=tmp_path, **options)

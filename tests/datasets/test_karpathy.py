"""Karpathy's split files: splits, folders, ids, and what is said of bad entries."""

import json
from pathlib import Path
from typing import Any

import pytest

from captioner.datasets import karpathy
from captioner.datasets.records import Record
from captioner.errors import CaptionerError, UsageError


def entry(number: int, split: str, **changes: object) -> dict[str, Any]:
    sentences = [
        {"tokens": ["dog"], "raw": f"Dog {number}{letter}.", "imgid": number, "sentid": 10 + index}
        for index, letter in enumerate("ab")
    ]
    return {"filename": f"{number}.jpg", "split": split, "sentences": sentences} | changes


def write(root: Path, entries: list[Any], name: str = "dataset_flickr30k.json") -> Path:
    file = root / name
    file.write_text(json.dumps({"images": entries, "dataset": "x"}), encoding="utf-8")
    return file


def touch(*photos: Path) -> None:
    for photo in photos:
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.touch()


@pytest.mark.parametrize("below", ["", "images"])
def test_coco_with_its_folders_ids_and_restval(tmp_path: Path, below: str) -> None:
    entries = [
        entry(1, "train", filepath="train2014", cocoid=101),
        entry(2, "restval", filepath="val2014", cocoid=102),
        entry(3, "val", filepath="val2014", cocoid=103),
        entry(4, "test", filepath="val2014", cocoid=104),
    ]
    write(tmp_path, entries, "dataset_coco.json")
    folders = ["train2014", "val2014", "val2014", "val2014"]
    photos = [tmp_path / below / folder / f"{n}.jpg" for n, folder in enumerate(folders, start=1)]
    touch(*photos)
    loaded = karpathy.load(tmp_path)
    assert not loaded.problems
    assert loaded.records == [
        Record(101, photos[0], ("Dog 1a.", "Dog 1b."), "train"),
        Record(102, photos[1], ("Dog 2a.", "Dog 2b."), "train"),
        Record(103, photos[2], ("Dog 3a.", "Dog 3b."), "val"),
        Record(104, photos[3], ("Dog 4a.", "Dog 4b."), "test"),
    ]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("dataset_flickr8k.json", "Images"),
        ("dataset_flickr8k.json", "Flicker8k_Dataset"),
        ("dataset_flickr30k.json", "images"),
        ("dataset_flickr30k.json", "flickr30k-images"),
    ],
)
def test_flickr_with_file_names_as_ids(tmp_path: Path, name: str, folder: str) -> None:
    write(tmp_path, [entry(1, "test")], name)
    touch(tmp_path / folder / "1.jpg")
    (record,) = karpathy.load(tmp_path).records
    assert record == Record("1.jpg", tmp_path / folder / "1.jpg", ("Dog 1a.", "Dog 1b."), "test")


def test_file_and_folder_may_be_named(tmp_path: Path) -> None:
    write(tmp_path, [], "dataset_coco.json")
    write(tmp_path, [], "dataset_flickr8k.json")
    file = write(tmp_path, [entry(1, "val", filepath="val2014")], "mine.json")
    touch(tmp_path / "else" / "val2014" / "1.jpg")
    with pytest.raises(UsageError) as caught:
        karpathy.load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has dataset_coco.json, dataset_flickr8k.json; choose one with data.annotations"
    )
    loaded = karpathy.load(tmp_path, images=tmp_path / "else", annotations=file)
    assert loaded.records[0].path == tmp_path / "else/val2014/1.jpg"
    with pytest.raises(UsageError, match=r"no folder with photos: looked for .*nowhere"):
        karpathy.load(tmp_path, images=tmp_path / "nowhere", annotations=file)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        karpathy.load(tmp_path)
    assert str(caught.value) == (
        f"no Karpathy split file in {tmp_path}: looked for dataset_coco.json, "
        "dataset_flickr8k.json, dataset_flickr30k.json; set data.annotations to another file"
    )
    write(tmp_path, [entry(1, "train", filepath="train2014")])
    with pytest.raises(UsageError, match=r"no folder with photos: looked for .*train2014, .*imag"):
        karpathy.load(tmp_path)
    (tmp_path / "dataset_flickr30k.json").write_text('{"image": []}', encoding="utf-8")
    with pytest.raises(CaptionerError, match='must be an object with a list "images"'):
        karpathy.load(tmp_path)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("x", "images[1]: must be an object, not 'x'"),
        ({}, 'images[1]: "sentences" must be a list, not None'),
        (entry(2, "dev"), "image '2.jpg': unknown split 'dev'; choose"),
        (entry(3, "val"), "image '3.jpg': photo '3.jpg' is missing from "),
        (entry(1, "train"), "image '1.jpg': image id '1.jpg' occurs twice; "),
        (entry(1, "val"), "image '1.jpg': image id '1.jpg' is also in train; "),
        (entry(2, "val", filepath="../.."), "image '2.jpg': photo '../../2.jpg' is outside "),
        (entry(2, "val", cocoid=2.5), "image 2.5: an image id must be an integer or a string, "),
        (entry(2, "val", sentences=[]), "image '2.jpg': photo '2.jpg' has no caption; add"),
        (
            entry(2, "val", sentences=[{"raw": "a dog"}, {"raw": "", "sentid": 7}]),
            "image '2.jpg', sentence 7: empty caption",
        ),
        (
            entry(2, "val", sentences=[{"raw": "a dog"}, {"tokens": ["a"]}]),
            "image '2.jpg', sentences[1]: a caption must be a string, not None",
        ),
    ],
)
def test_what_is_bad_is_said(tmp_path: Path, bad: object, problem: str) -> None:
    touch(tmp_path / "images/1.jpg", tmp_path / "images/2.jpg")
    file = write(tmp_path, [entry(1, "train"), bad])
    (found,) = karpathy.load(tmp_path, images=tmp_path / "images").problems
    assert str(found).startswith(f"{file}, {problem}")

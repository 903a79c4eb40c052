"""COCO caption files: where they are looked for, what is read, what is said of bad ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from captioner.datasets import coco
from captioner.datasets.records import Loaded, Record
from captioner.errors import CaptionerError, UsageError

NONE: dict[str, Path | None] = {}


def write(
    root: Path,
    name: str,
    images: list[Any],
    annotations: list[Any],
    photos: str | None = None,
    **extra: object,
) -> Path:
    file = root / "annotations" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations} | extra
    file.write_text(json.dumps(content), encoding="utf-8")
    folder = root / (photos or name.removeprefix("captions_").removesuffix(".json"))
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        if isinstance(image, dict) and isinstance(image.get("file_name"), str):
            (folder / image["file_name"]).touch()
    return file


def image(image_id: object) -> dict[str, object]:
    return {"id": image_id, "file_name": f"{image_id}.jpg"}


def caption(annotation_id: object, image_id: object, text: object = "a dog") -> dict[str, object]:
    return {"id": annotation_id, "image_id": image_id, "caption": text}


def load(root: Path, **annotations: Path | None) -> Loaded:
    return coco.load(root, annotations=annotations)


@pytest.mark.parametrize("year", ["2014", "2017", ""])
def test_splits_are_found_by_name(
    tmp_path: Path, year: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = [caption(10, 2, "a cat"), caption(11, 1, "a dog"), caption(12, 1, "the dog")]
    write(tmp_path, f"captions_train{year}.json", [image(1), image(2)], first)
    write(tmp_path, f"captions_val{year}.json", [image(3)], [caption(10, 3)])
    loaded = load(tmp_path)
    assert loaded == Loaded(
        [
            Record(1, tmp_path / f"train{year}/1.jpg", ("a dog", "the dog"), "train"),
            Record(2, tmp_path / f"train{year}/2.jpg", ("a cat",), "train"),
            Record(3, tmp_path / f"val{year}/3.jpg", ("a dog",), "val"),
        ]
    )
    assert capsys.readouterr() == ("", "")  # pycocotools would print


def test_the_records_are_those_of_pycocotools_own_reading(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pycocotools.coco import COCO

    images = [image(number) for number in range(20)]
    annotations = [caption(number, number * 7 % 20, f"dog {number}") for number in range(60)]
    file = write(tmp_path, "captions_val.json", images, annotations, categories=[{"id": 1}])
    file.write_text(file.read_text().replace('"categories": [{"id": 1}]', '"info": {}'))
    index = COCO(str(file))
    for record in load(tmp_path).records:
        found = index.loadAnns(index.getAnnIds(imgIds=[record.image_id]))
        assert record.captions == tuple(annotation["caption"] for annotation in found)
    capsys.readouterr()


@pytest.mark.parametrize("photos", ["train2014", "images/train2014", "images"])
def test_where_photos_may_lie(tmp_path: Path, photos: str) -> None:
    write(tmp_path, "captions_train2014.json", [image(1)], [caption(1, 1)], photos=photos)
    assert load(tmp_path).records[0].path == tmp_path / photos / "1.jpg"


@pytest.mark.parametrize("below", ["", "train2014"])
def test_a_folder_of_photos_may_be_named(tmp_path: Path, below: str) -> None:
    folder = f"elsewhere/{below}"
    write(tmp_path, "captions_train2014.json", [image(1)], [caption(1, 1)], photos=folder)
    loaded = coco.load(tmp_path, images=tmp_path / "elsewhere", annotations=NONE)
    assert loaded.records[0].path == tmp_path / folder / "1.jpg"


def test_a_named_file_overrides_its_own_split(tmp_path: Path) -> None:
    write(tmp_path, "captions_train.json", [image(1)], [caption(1, 1)])
    write(tmp_path, "captions_val.json", [image(2)], [caption(1, 2)])
    other = write(tmp_path, "minival.json", [image(3)], [caption(1, 3)], photos="images")
    loaded = load(tmp_path, train=None, val=other)
    assert [(record.image_id, record.split) for record in loaded.records] == [
        (1, "train"),
        (3, "val"),
    ]


def test_files_of_two_years_must_be_chosen_from(tmp_path: Path) -> None:
    chosen = write(tmp_path, "captions_val2014.json", [image(1)], [caption(1, 1)])
    write(tmp_path, "captions_val2017.json", [image(1)], [caption(1, 1)])
    with pytest.raises(UsageError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'annotations'} has caption files of several years "
        "(captions_val2014.json, captions_val2017.json); choose with data.train_annotations, "
        "data.val_annotations, data.test_annotations"
    )
    assert load(tmp_path, val=chosen).records[0].path == tmp_path / "val2014/1.jpg"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"no COCO caption files in {tmp_path}: looked for "
        "annotations/captions_{train,val,test}{2014,2017,}.json; set "
        "data.train_annotations, data.val_annotations, data.test_annotations to other files"
    )
    with pytest.raises(UsageError, match=r"no annotation file .*mine\.json"):
        load(tmp_path, test=tmp_path / "mine.json")
    file = write(tmp_path, "captions_test.json", [image(1)], [caption(1, 1)])
    (tmp_path / "test" / "1.jpg").unlink()
    (tmp_path / "test").rmdir()
    with pytest.raises(UsageError) as caught:
        load(tmp_path, test=file)
    tried = ", ".join(str(tmp_path / name) for name in ("test", "images/test", "images"))
    assert str(caught.value) == (
        f"no folder with test photos: looked for {tried}; name it with data.images"
    )


@pytest.mark.parametrize(
    ("images", "annotations", "problem"),
    [
        ([image(1), "x"], [caption(5, 1)], "images[1]: must be an object, not 'x'"),
        ([image(1), {}], [caption(5, 1)], "images[1]: an image id must be an integer or a string"),
        ([image(1), image(2)], [caption(5, 1)], "image 2: photo '2.jpg' has no caption; add"),
        ([image(1), image(1)], [caption(5, 1)], "image 1: image id 1 occurs twice; list a photo"),
        (
            [image(1), {"id": 2}],
            [caption(5, 1)],
            "image 2: a photo's name must be a string, not None",
        ),
        ([image(1)], [caption(5, 1), 3], "annotations[1]: must be an object, not 3"),
        ([image(1)], [caption(5, 1), {}], "annotations[1]: image None is not listed"),
        ([image(1)], [caption(5, 1), caption([], 1)], 'annotations[1]: "id" must be an integer or'),
        ([image(1)], [caption(5, 1), caption(5, 1)], "annotation 5: this annotation id occurs"),
        ([image(1)], [caption(5, 1), caption(6, 9)], "annotation 6: image 9 is not listed"),
        (
            [image(1)],
            [caption(5, 1), caption(6, "1")],
            "annotation 6: image '1' is not listed (1 is; use the same type)",
        ),
        (
            [image("1")],
            [caption(5, "1"), caption(6, 1)],
            "annotation 6: image 1 is not listed ('1' is; use the same type)",
        ),
        ([image(1)], [caption(5, 1), caption(6, [])], "annotation 6: image [] is not listed"),
        ([image(1)], [caption(5, 1), caption(6, 1, " ")], "annotation 6: empty caption; write"),
        ([image(1)], [caption(5, 1), caption(6, 1, 3)], "annotation 6: a caption must be a string"),
        ([image(1)], [caption(5, 1), {"id": 6, "image_id": 1}], "annotation 6: a caption must be"),
    ],
)
def test_what_is_bad_is_left_out_and_said(
    tmp_path: Path, images: list[Any], annotations: list[Any], problem: str
) -> None:
    file = write(tmp_path, "captions_train.json", images, annotations)
    loaded = load(tmp_path)
    (found,) = loaded.problems
    assert str(found).startswith(f"{file}, {problem}")
    (record,) = loaded.records
    assert record.captions == ("a dog",)


def test_a_missing_photo_and_one_in_two_splits(tmp_path: Path) -> None:
    write(tmp_path, "captions_train.json", [image(1), image(2)], [caption(1, 1), caption(2, 2)])
    write(tmp_path, "captions_val.json", [image(2)], [caption(3, 2)])
    (tmp_path / "train/1.jpg").unlink()
    assert [problem.message for problem in load(tmp_path).problems] == [
        f"photo '1.jpg' is missing from {tmp_path / 'train'}",
        "image id 2 is also in train; a photo belongs to one split",
    ]


def test_annotations_need_no_ids_and_may_have_other_keys(tmp_path: Path) -> None:
    texts = [{"image_id": 1, "text": "a dog"}, {"image_id": 2, "text": " "}]
    file = write(tmp_path, "captions_train.json", [image(1), image(2)], texts, info=[])
    loaded = load(tmp_path)
    assert [record.captions for record in loaded.records] == [("a dog",)]
    assert str(loaded.problems[0]).startswith(f"{file}, annotations[1]: empty caption")


@pytest.mark.parametrize(
    ("images", "ids"), [((1, 2), ("1", "2")), (("1", "2"), (1, 2)), (("01", "2"), (1, 2))]
)
def test_ids_all_written_the_other_way_are_matched(
    tmp_path: Path, images: tuple[Any, ...], ids: tuple[Any, ...]
) -> None:
    entries = [caption(5 + number, image_id) for number, image_id in enumerate(ids)]
    write(tmp_path, "captions_train.json", [image(one) for one in images], entries)
    loaded = load(tmp_path)
    same = [one for one, other in zip(images, ids, strict=True) if str(one) == str(other)]
    assert [record.image_id for record in loaded.records] == same
    assert "image ids of annotations and images differ in type" in loaded.notes[0]


def test_flagged_annotations_are_no_captions(tmp_path: Path) -> None:
    entries = [
        caption(1, 1, "a mug"),
        caption(2, 1, "quality issues are too severe") | {"is_precanned": True},
        caption(3, 1, "spam") | {"is_rejected": True, "is_precanned": False},
        caption(4, 2, "spam") | {"is_rejected": True},
        caption(5, 1, "a red mug") | {"is_rejected": False, "is_precanned": False},
    ]
    file = write(tmp_path, "captions_train.json", [image(1), image(2)], entries)
    loaded = load(tmp_path)
    assert [record.captions for record in loaded.records] == [("a mug", "a red mug")]
    assert loaded.problems == []
    assert loaded.notes == [
        f"{file}: 3 annotations flagged is_rejected or is_precanned are skipped"
    ]


@pytest.mark.parametrize("below", ["", "images/"])
def test_file_names_may_hold_a_folder(tmp_path: Path, below: str) -> None:
    entries = [{"id": 1, "file_name": "x/1.jpg"}, {"id": 2, "file_name": "2.jpg"}]
    write(tmp_path, "captions_train.json", [], [], photos=f"{below}train")
    (tmp_path / f"{below}x").mkdir(parents=True)
    for name in ("x/1.jpg", "train/2.jpg"):
        (tmp_path / below / name).touch()
    file = tmp_path / "annotations/captions_train.json"
    file.write_text(json.dumps({"images": entries, "annotations": [caption(1, 1), caption(2, 2)]}))
    loaded = load(tmp_path)
    assert not loaded.problems
    assert [str(record.path.relative_to(tmp_path / below)) for record in loaded.records] == [
        "x/1.jpg",
        "train/2.jpg",
    ]


@pytest.mark.parametrize("same_names", [True, False])
def test_ids_that_restart_in_each_file(tmp_path: Path, same_names: bool) -> None:
    for split in ("train", "val"):
        name = "7.jpg" if same_names else f"{split}.jpg"
        entry = {"id": 7, "file_name": name}
        write(tmp_path, f"captions_{split}.json", [entry], [caption(1, 7)])
        (tmp_path / split / name).write_text(split)  # other bytes: another photo
    loaded = load(tmp_path)
    assert not loaded.problems
    assert [(record.image_id, record.split) for record in loaded.records] == [
        ("train/7", "train"),
        ("val/7", "val"),
    ]
    assert "image ids restart" in loaded.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], 'must be an object with a list "images"'),
        ({"images": []}, 'must be an object with a list "annotations"'),
        ({"images": {}, "annotations": []}, 'must be an object with a list "images"'),
        (
            {"images": [image(1)], "annotations": [{"id": 1, "image_id": 1, "bbox": []}]},
            'no annotation has a "caption"; expected a COCO caption file',
        ),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, content: object, message: str) -> None:
    file = write(tmp_path, "captions_train.json", [], [])
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CaptionerError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{file}: {message}"

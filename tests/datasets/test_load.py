"""The one way into every source: choices, relative paths, and what problems do."""

import json
from pathlib import Path

import pytest

from captioner.datasets import load as sources
from captioner.datasets import shapes
from captioner.datasets.load import load_records
from captioner.errors import CaptionerError, UsageError


def write_lines(root: Path, *photos: str) -> Path:
    """A JSON Lines data set that names photos, of which those called "good…" are there."""
    lines = []
    for photo in photos:
        if photo.startswith("good"):
            (root / photo).touch()
        lines.append(json.dumps({"image": photo, "captions": ["a dog"], "split": "train"}))
    (root / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return root / "captions.jsonl"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"format": "karpaty"},
            "data.format: unknown 'karpaty' (did you mean karpathy?); "
            "choose from shapes, coco, karpathy, flickr8k, jsonl",
        ),
        ({"format": "x"}, "data.format: unknown 'x'; choose from shapes, coco, karpathy, "),
        ({"on_problem": "ignore"}, "data.on_problem: unknown 'ignore'; choose from refuse, skip"),
        (
            {"train_annotations": Path("a")},
            "data.*_annotations require format coco, not jsonl",
        ),
        (
            {"format": "coco", "annotations": Path("a")},
            "data.annotations is not available for format coco; use data.train_annotations "
            "and so on",
        ),
        (
            {"format": "shapes", "annotations": Path("a")},
            "data.annotations is not available for format shapes",
        ),
        ({"root": Path("/nowhere")}, "data.root: no folder /nowhere"),
    ],
)
def test_a_wrong_call(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_records(**({"format": "jsonl", "root": tmp_path} | arguments))  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


def test_problems_are_refused_or_skipped(tmp_path: Path) -> None:
    file = write_lines(tmp_path, "bad1", "good", "bad2", "bad3", "bad4", "bad5")
    with pytest.raises(CaptionerError) as caught:
        load_records(format="jsonl", root=tmp_path)
    assert caught.value.exit_code == 1
    told = "; ".join(
        f"{file}, line {line}: photo {name!r} is missing from {tmp_path}"
        for line, name in ((1, "bad1"), (3, "bad2"), (4, "bad3"))
    )
    assert str(caught.value) == (
        f"5 problems: {told}; and 2 more; correct them or set data.on_problem=skip"
    )
    loaded = load_records(format="jsonl", root=tmp_path, on_problem="skip")
    assert [record.image_id for record in loaded.records] == ["good"]
    assert [problem.place for problem in loaded.problems] == [f"line {n}" for n in (1, 3, 4, 5, 6)]


def test_one_problem(tmp_path: Path) -> None:
    write_lines(tmp_path, "good", "bad\nname")
    with pytest.raises(
        CaptionerError, match=r"^1 problem: .*line 2: photo 'bad\\nname' is missing"
    ):
        load_records(format="jsonl", root=tmp_path)


@pytest.mark.parametrize("photos", [[], ["bad"]])
def test_nothing_usable(tmp_path: Path, photos: list[str]) -> None:
    write_lines(tmp_path, *photos)
    with pytest.raises(CaptionerError, match="has no usable photo with captions") as caught:
        load_records(format="jsonl", root=tmp_path, on_problem="skip")
    assert ("line 1: photo 'bad' is missing" in str(caught.value)) == bool(photos)


def test_paths_are_under_root_unless_absolute(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "photos").mkdir(parents=True)
    (root / "photos" / "good.jpg").touch()
    line = {"image": "good.jpg", "captions": ["a dog"], "split": "train"}
    for file in (root / "lists.txt", tmp_path / "other.txt"):
        file.write_text(json.dumps(line), encoding="utf-8")
    for annotations in (Path("lists.txt"), tmp_path / "other.txt"):
        loaded = load_records(
            format="jsonl", root=root, images=Path("photos"), annotations=annotations
        )
        assert loaded.records[0].path == root / "photos" / "good.jpg"
    with pytest.raises(UsageError, match=r"no annotation file .*root/none\.txt"):
        load_records(format="jsonl", root=root, annotations=Path("none.txt"))


def test_every_format_has_its_source(tmp_path: Path) -> None:
    looked_for = {
        "coco": r"captions_\{train,val,test\}",
        "karpathy": r"dataset_coco\.json",
        "flickr8k": r"Flickr8k\.token\.txt",
        "jsonl": r"captions\.jsonl",
        "csv": r"captions\.csv",
    }
    assert {*looked_for, "shapes", "sidecar"} == set(sources.FORMATS)
    for name, file in looked_for.items():
        with pytest.raises(UsageError, match=f"looked for .*{file}"):
            load_records(format=name, root=tmp_path)


def test_shapes_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "deep" / "shapes"
    real = shapes.render
    drawn = []

    def render_few(root: Path) -> None:
        drawn.append(root)
        real(root, train=9, val=4, test=3, size=32)

    monkeypatch.setattr(shapes, "render", render_few)
    first = load_records(format="shapes", root=root)
    assert [record.split for record in first.records] == ["train"] * 9 + ["val"] * 4 + ["test"] * 3
    assert not first.problems
    assert load_records(format="shapes", root=root) == first
    assert drawn == [root]

"""`captioner evaluate --describe` and `--instances`: what is told beside the scores."""

import json
import re
from pathlib import Path

import pytest

from captioner.cli import main

REFERENCES = {1: ["a dog runs", "the dog"], 2: ["a kite flies", "a red kite"], 3: ["two men"]}
CANDIDATES = {1: ["a dog runs", "a cat sits"], 2: ["a red kite", "a kite"], 3: ["a man on a"]}


def write(path: Path, content: object) -> str:
    path.write_text(json.dumps(content))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    annotations = [
        {"image_id": image, "caption": text}
        for image, group in REFERENCES.items()
        for text in group
    ]
    rows = [{"image_id": image, "caption": group[0]} for image, group in CANDIDATES.items()]
    return [
        "--results",
        write(tmp_path / "r.json", rows),
        "--references",
        write(tmp_path / "a.json", {"annotations": annotations}),
    ]


@pytest.fixture
def several(files, tmp_path: Path) -> list[str]:
    rows = [
        {"image_id": image, "caption": text}
        for image, group in CANDIDATES.items()
        for text in group
    ]
    return ["--results", write(tmp_path / "n.json", rows), *files[2:]]


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["evaluate", *arguments]) == 0
    return capsys.readouterr().out


def test_description(files, tmp_path, capsys) -> None:
    seen = [{"image_id": 7, "caption": "A dog runs!"}, {"image_id": 8, "caption": "a man"}]
    training = write(tmp_path / "t.json", {"annotations": seen})
    flags = ["--describe", "--training-captions", training]
    content = json.loads(told(capsys, *files, *flags, "--format", "json"))
    found = content["description"]
    assert found["n_captions"] == 3
    assert found["seen"] == pytest.approx(1 / 3)
    assert found["novel"] == pytest.approx(2 / 3)
    assert found["bad_endings"] == pytest.approx(1 / 3)
    assert found["vocabulary_used"] == 1  # a, dog, runs, man
    assert found["mean_self_cider"] is None
    assert content["recipe"]["training_captions"] == "t.json"
    text = told(capsys, *files, *flags)
    for line in ("novel captions, %", "bad endings, %", "mean length, words"):
        assert line in text
    assert "training_captions:t.json" in text
    assert "self-CIDEr" not in text
    for form in ("markdown", "latex"):
        text = told(capsys, *files, *flags, "--format", form).replace("\\%", "%")
        assert "novel captions, %" in text
        assert "66.7" in text


def test_without_training_captions_nothing_is_told_of_them(files, capsys) -> None:
    text = told(capsys, *files, "--describe")
    assert "distinct captions, %" in text
    assert "novel" not in text
    assert "vocabulary" not in text


def test_several_captions_an_image(several, capsys) -> None:
    """The first is scored, as if it were alone; how the others differ is told."""
    content = json.loads(told(capsys, *several, "--n-best", "2", "--describe", "--format", "json"))
    assert content["recipe"]["n_images"] == 3
    assert content["scores"]["BLEU-1"] == pytest.approx(6 / 10)
    assert content["description"]["images_with_several"] == 2
    assert 0 < content["description"]["mean_self_cider"] <= 1
    text = told(capsys, *several, "--n-best", "2", "--describe")
    assert "mean self-CIDEr x 100 (0: all alike)" in text


def test_several_captions_are_an_error_unless_asked_for(several, capsys) -> None:
    for flags in ([], ["--n-best", "1"]):
        assert main(["evaluate", *several, *flags]) == 1
        assert "2 of 3 images have more than one caption" in capsys.readouterr().err
    more = Path(several[1])
    rows = json.loads(more.read_text())
    more.write_text(json.dumps([*rows, rows[0]]))
    assert main(["evaluate", *several, "--n-best", "2"]) == 1
    assert (
        "1 of 3 images have more than 2 captions, for example image 1; at most 2"
        in capsys.readouterr().err
    )


def test_candidates_of_json_lines(files, tmp_path, capsys) -> None:
    results = tmp_path / "r.jsonl"
    rows = [
        {
            "image": f"photos/{image}.jpg",
            "caption": group[0],
            "candidates": [{"caption": text, "score": -1.0} for text in group],
        }
        for image, group in CANDIDATES.items()
    ]
    results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--results", str(results), *files[2:], "--describe", "--format", "json"]
    content = json.loads(told(capsys, *flags))
    assert content["description"]["mean_self_cider"] is None
    content = json.loads(told(capsys, *flags, "--n-best", "5"))
    assert content["description"]["images_with_several"] == 2


def test_instances(files, tmp_path, capsys) -> None:
    document = {
        "images": [{"id": n} for n in (1, 2, 3)],
        "categories": [{"id": 18, "name": "dog"}, {"id": 38, "name": "kite"}],
        "annotations": [
            {"image_id": 1, "category_id": 18},
            {"image_id": 2, "category_id": 38},
            {"image_id": 3, "category_id": 38},
        ],
    }
    instances = write(tmp_path / "i.json", document)
    content = json.loads(told(capsys, *files, "--instances", instances, "--format", "json"))
    assert content["objects"]["recall"] == pytest.approx(2 / 3)
    assert content["objects"]["chair_s"] == 0  # the man is not annotated, but a reference has men
    assert content["recipe"]["instances"] == "i.json"
    text = told(capsys, *files, "--instances", instances)
    assert re.search("recall of annotated objects, % +66.7\n", text)
    assert "instances:i.json" in text


def test_wrong_calls(files, capsys) -> None:
    compare = ["--compare", files[1], files[1], *files[2:]]
    for arguments, message in [
        ([*compare, "--describe"], "--describe describes one system; remove it or --compare"),
        ([*compare, "--n-best", "2"], "--n-best describes one system"),
        ([*files, "--instances", "no.json"], "--instances: no such file: no.json"),
        ([*files, "--training-captions", files[1]], "add --describe"),
        (
            [*files, "--describe", "--training-captions", "no.json"],
            "--training-captions: no such file: no.json",
        ),
    ]:
        assert main(["evaluate", *arguments]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert message in line


def test_a_checkpoint_knows_its_training_captions(
    tiny_checkpoint, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    from conftest import write_jsonl

    root = write_jsonl(tmp_path)
    content = json.loads(
        told(
            capsys,
            "--checkpoint",
            str(tiny_checkpoint),
            "--data.format",
            "jsonl",
            "--data.root",
            str(root),
            "--describe",
            "--n-best",
            "2",
            "--format",
            "json",
        )
    )
    found = content["description"]
    assert found["seen"] + found["novel"] == 1
    assert found["vocabulary_used"] == pytest.approx(found["words_used"] / 7)
    assert found["images_with_several"] == 2

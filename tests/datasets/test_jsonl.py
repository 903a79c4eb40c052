"""JSON Lines: people's own photos."""

import json
from pathlib import Path

import pytest

from captioner.datasets import jsonl
from captioner.datasets.records import Record
from captioner.errors import UsageError

GOOD = '{"image": "a/1.jpg", "captions": ["a dog", "the dog"], "split": "train"}'


def write(root: Path, *lines: str, name: str = "captions.jsonl") -> Path:
    (root / "a").mkdir(exist_ok=True)
    for photo in ("1.jpg", "2.jpg"):
        (root / "a" / photo).touch()
    (root / name).write_bytes("\n".join(lines).encode())
    return root / name


@pytest.mark.parametrize("prefix", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_good_lines(tmp_path: Path, prefix: str, end: str) -> None:
    second = {"image": "a/2.jpg", "captions": ["caf\u00e9\u2028au lait"], "split": "val", "id": 7}
    text = json.dumps(second | {"author": "me"}, ensure_ascii=False)
    write(tmp_path, f"{prefix}{GOOD}{end}{text}{end}")
    loaded = jsonl.load(tmp_path)
    assert not loaded.problems
    assert loaded.records == [
        Record("a/1.jpg", tmp_path / "a/1.jpg", ("a dog", "the dog"), "train"),
        Record(7, tmp_path / "a/2.jpg", ("caf\u00e9 au lait",), "val"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "a/2.jpg", }', "column 22: not JSON: "),
        ("a/2.jpg", "column 1: not JSON: "),
        ("[" * 100_000, "nested too deeply"),
        ("[1]", 'expected an object {"image": …, "captions": […], "split": …}, not [1]'),
        ('{"image": "a/2.jpg", "captions": ["a"]}', 'no "split"'),
        (
            '{"image": "a/2.jpg", "caption": ["a"], "split": "val"}',
            'no "captions" (found "caption")',
        ),
        (
            '{"image": "a/2.jpg", "captions": "a", "split": "val"}',
            "\"captions\" must be a list of strings, not 'a'",
        ),
        ('{"image": "a/2.jpg", "captions": [], "split": "val"}', "photo 'a/2.jpg' has no caption;"),
        ('{"image": "a/3.jpg", "captions": ["a"], "split": "val"}', "photo 'a/3.jpg' is missing "),
        ('{"image": "../2.jpg", "captions": ["a"], "split": "val"}', "photo '../2.jpg' is outside"),
        ('{"image": "a/2.jpg", "captions": ["a"], "split": "dev"}', "unknown split 'dev'; choose"),
        (
            '{"image": 5, "captions": ["a"], "split": "val"}',
            "a photo's name must be a string, not 5",
        ),
        ('{"image": null, "captions": ["a"], "split": "val"}', "an image id must be an integer or"),
        (GOOD, "image id 'a/1.jpg' occurs twice; list a photo once, with all its captions"),
        (GOOD.replace("train", "val"), "image id 'a/1.jpg' is also in train; a photo belongs"),
    ],
)
def test_bad_lines(tmp_path: Path, line: str, message: str) -> None:
    file = write(tmp_path, GOOD, "", line)
    loaded = jsonl.load(tmp_path)
    (problem,) = loaded.problems
    assert (problem.file, problem.place) == (file, "line 3")
    assert problem.message.startswith(message)
    assert len(loaded.records) == 1


def test_a_bad_caption_is_named(tmp_path: Path) -> None:
    write(tmp_path, '{"image": "a/1.jpg", "captions": ["a", 3, ""], "split": "val"}')
    loaded = jsonl.load(tmp_path)
    assert [(problem.place, problem.message) for problem in loaded.problems] == [
        ("line 1, caption 2", "a caption must be a string, not 3"),
        ("line 1, caption 3", "empty caption; write one or remove it"),
    ]
    assert loaded.records[0].captions == ("a",)


def test_which_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        jsonl.load(tmp_path)
    assert str(caught.value) == (
        f"no JSON Lines file in {tmp_path}: looked for captions.jsonl, metadata.jsonl and "
        "*.jsonl; set data.annotations to another file"
    )
    other = write(tmp_path, GOOD, name="x.jsonl")
    assert len(jsonl.load(tmp_path).records) == 1
    write(tmp_path, GOOD, name="y.jsonl")
    with pytest.raises(UsageError) as caught:
        jsonl.load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has x.jsonl, y.jsonl; choose one with data.annotations"
    )
    write(tmp_path, GOOD.replace("a/1", "a/2"))
    assert jsonl.load(tmp_path).records[0].image_id == "a/2.jpg"
    other.write_text(GOOD.replace("a/1", "1"), encoding="utf-8")
    loaded = jsonl.load(tmp_path, images=tmp_path / "a", annotations=other)
    assert loaded.records[0].path == tmp_path / "a/1.jpg"

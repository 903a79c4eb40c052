"""`captioner audit`: leaks are found, and what is broken is counted."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import make_photo
from PIL import Image

from captioner.cli import main
from captioner.datasets.audit import audit_vocabulary
from captioner.datasets.records import Record

LISTED = "photos listed in two splits"
SAME = "files with the same bytes in two splits"
ALIKE = "photos that look alike in two splits (radius 10)"
WORDS = "words of the vocabulary that occur only in held-out captions"
SETS = "photos with the same captions as a photo in another split"
SHARED = "held-out captions that also occur in the training split"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six tidy photos."""
    rows = []
    for number, split in enumerate(("train", "train", "train", "val", "test", "test")):
        make_photo(tmp_path / f"{number}.png", number)
        captions = [f"photo number {number} of {split}", f"this is the {number} one"]
        rows.append({"image": f"{number}.png", "captions": captions, "split": split})
    write(tmp_path, rows)
    return tmp_path


def write(root: Path, rows: list[dict[str, Any]]) -> None:
    (root / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def add(root: Path, **row: Any) -> None:
    with (root / "captions.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def found(root: Path, capsys: pytest.CaptureFixture[str], code: int, *more: str) -> dict[str, Any]:
    """What was found, by what it is."""
    flags = ["--data.format", "jsonl", "--data.root", str(root), "--format", "json"]
    assert main(["audit", *flags, *more]) == code
    content = json.loads(capsys.readouterr().out)
    assert content["leaks"] == sum(one["count"] for one in content["findings"] if one["leak"])
    return {one["what"]: one["where"] for one in content["findings"]}


def test_a_tidy_set(root, tmp_path, capsys) -> None:
    assert not any(found(root, capsys, 0).values())
    flags = ["--data.format", "jsonl", "--data.root", str(root)]
    assert main(["audit", *flags]) == 0
    text = capsys.readouterr().out
    assert "3 train, 1 val, 2 test photos with captions; no leak" in text
    assert LISTED in text
    assert "no runs/default/vocabulary.txt: `captioner prepare` writes it" in text


def test_one_file_under_two_names(root, capsys) -> None:
    (root / "copy.png").write_bytes((root / "0.png").read_bytes())
    add(root, image="copy.png", captions=["something else", "and so on"], split="test")
    assert found(root, capsys, 1)[SAME] == ["0.png (train) = copy.png (test)"]


def test_a_copy_at_another_size(root, capsys) -> None:
    rng = Image.effect_mandelbrot((300, 200), (-2, -1, 1, 1), 60).convert("RGB")
    rng.save(root / "large.png")
    rng.resize((120, 80)).save(root / "small.jpg", quality=60)
    add(root, image="large.png", captions=["a fractal"], split="train")
    add(root, image="small.jpg", captions=["an apple man"], split="val")
    findings = found(root, capsys, 1)
    [where] = findings[ALIKE]
    assert where.startswith("large.png (train) = small.jpg (val), ")
    assert where.endswith(" bits apart")
    assert findings[SAME] == []


def test_one_photo_in_two_splits(root, capsys) -> None:
    add(root, image="0.png", captions=["again"], split="test")
    [where] = found(root, capsys, 1)[LISTED]
    assert "'0.png'" in where
    assert "is also in train; a photo belongs to one split" in where


def test_held_out_words_in_the_vocabulary(root, tmp_path, capsys) -> None:
    file = tmp_path / "v.txt"
    file.write_text("\n".join(["<pad>", "<start>", "<end>", "<unk>", "photo", "number", "test"]))
    assert found(root, capsys, 1, "--vocabulary", str(file))[WORDS] == ["test"]
    file.write_text("\n".join(["<pad>", "<start>", "<end>", "<unk>", "photo", "train", "of"]))
    assert found(root, capsys, 0, "--vocabulary", str(file))[WORDS] == []
    (root / "run").mkdir()
    (root / "run" / "vocabulary.txt").write_text(file.read_text().replace("train", "val"))
    (root / "c.yaml").write_text(f"output: {root}/run\n")
    assert found(root, capsys, 1, "--config", str(root / "c.yaml"))[WORDS] == ["val"]


def test_a_caption_may_spell_out_a_special_word() -> None:
    records = [
        Record(1, Path("1.png"), ("a dog",), "train"),
        Record(2, Path("2.png"), ("an <unk> dog",), "test"),
    ]
    assert audit_vocabulary(records, ["<unk>", "a", "dog"]).where == ()


def test_captions_of_two_splits_are_noted_but_no_leak(root, capsys) -> None:
    make_photo(root / "7.png", 7)
    captions = ["Photo number 0 of train!", "this is the 0 one"]
    add(root, image="7.png", captions=captions, split="test")
    findings = found(root, capsys, 0)
    assert findings[SETS] == ["all captions of 0.png (train) = 7.png (test)"]
    assert findings[SHARED] == [
        "photo number 0 of train: 0.png (train) = 7.png (test)",
        "this is the 0 one: 0.png (train) = 7.png (test)",
    ]


def test_what_is_broken_is_counted(root, capsys) -> None:
    (root / "bad.png").write_text("no")
    make_photo(root / "8.png", 8)
    (root / "twin.png").write_bytes((root / "1.png").read_bytes())
    add(root, image="bad.png", captions=["not a photo"], split="train")
    add(root, image="gone.png", captions=["missing"], split="train")
    add(root, image="8.png", captions=["A dog.", "a dog", " "], split="train")
    add(root, image="8.png", captions=["again"], split="train")
    add(root, image="twin.png", captions=["a twin"], split="train")
    add(root, image="3.png", captions=[], split="val", id="empty")
    make_photo(root / "9.png", 9)
    add(root, image="9.png", captions=[], split="val")
    add(root, image="9.png", captions=["x"], split="nowhere")
    findings = found(root, capsys, 0)
    assert [(what, len(where)) for what, where in findings.items() if where] == [
        ("entries with a wrong format", 1),
        ("photos that are missing", 1),
        ("photos listed twice in one split", 2),
        ("photos without captions", 1),
        ("captions that are empty", 1),
        ("photos that cannot be read", 1),
        ("files with the same bytes in one split", 1),
        ("captions repeated for one photo", 1),
    ]
    assert "bad.png: not a picture in a known format" in findings["photos that cannot be read"][0]
    assert findings["captions repeated for one photo"] == ["8.png (train): a dog"]


def test_output_and_formats(root, tmp_path, capsys) -> None:
    (root / "copy.png").write_bytes((root / "0.png").read_bytes())
    add(root, image="copy.png", captions=["something"], split="val")
    flags = ["--data.format", "jsonl", "--data.root", str(root)]
    output = tmp_path / "audit.json"
    assert main(["audit", *flags, "--format", "markdown", "--output", str(output)]) == 1
    text = capsys.readouterr().out
    assert f"| leak | {SAME} | 1 | 0.png (train) = copy.png (val) |" in text
    assert "; 1 leak" in text
    assert json.loads(output.read_text())["leaks"] == 1


def test_wrong_calls(root, capsys) -> None:
    flags = ["--data.format", "jsonl", "--data.root", str(root)]
    for more, message in [
        (["--radius", "17"], "--radius 17: must be between 0 and 16"),
        (["--vocabulary", "none.txt"], "--vocabulary: no such file: none.txt"),
        (["--output", "/no/where.json"], "--output: no folder /no"),
        (["--data.rot", "x"], "did you mean data.root?"),
        (["--config", "none.yaml"], "--config: no file none.yaml"),
    ]:
        assert main(["audit", *flags, *more]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert message in line


def test_words_are_those_of_the_configured_tokenizer(root, tmp_path, capsys) -> None:
    """Of captions without spaces, PTB would make one word each, so that no word would be found."""
    rows = [json.loads(line) for line in (root / "captions.jsonl").read_text().splitlines()]
    for row in rows:
        row["captions"] = ["狗在跑。", "狗。"] if row["split"] == "train" else ["狗和猫", "狗在跑"]
    write(root, rows)
    file = tmp_path / "v.txt"
    file.write_text("\n".join(["<pad>", "<start>", "<end>", "<unk>", "狗", "在", "跑", "猫"]))
    cjk = ["--vocabulary", str(file), "--vocabulary.tokenizer", "cjk"]
    got = found(root, capsys, 1, *cjk)
    assert got[WORDS] == ["猫"]
    assert [line.partition(":")[0] for line in got[SHARED]] == ["狗 在 跑"] * 3

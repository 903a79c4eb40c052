"""From a folder of photos with text files to scores, in other languages."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from conftest import make_photo
from test_run import arguments

from captioner import checkpoint
from captioner.cli import main

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, of many kinds

LANGUAGES = {
    "german": ("toktok", ["ein roter Hund läuft", "ein Hund, z.B. dieser, schläft dort"]),
    "arabic": ("toktok", ["كلب أحمر يركض", "كلب بنيّ ينام على العشب الأخضر"]),
    "chinese": ("cjk", ["红狗在跑", "一只狗在草地上睡觉"]),
}


def folder(root: Path, captions: list[str], count: int = 12) -> Path:
    for i in range(count):
        photo = make_photo(root / "photos" / f"{i}.png", i)
        photo.with_suffix(".txt").write_text(captions[i % len(captions)] + "\n", "utf-8")
    return root / "photos"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_folder_in_another_language(
    tmp_path: Path, language: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer, captions = LANGUAGES[language]
    root = folder(tmp_path, captions)
    flags = arguments(root, "--data.format", "auto", "--data.split", "60/20/20")
    flags += ["--vocabulary.tokenizer", tokenizer, "--vocabulary.max_length", "4"]
    flags += ["--trainer.max_epochs", "1", "--output", str(tmp_path / "run")]
    flags += ["--data.features", str(tmp_path / "features")]
    assert main(["prepare", *flags]) == 0
    said = capsys.readouterr().err
    assert "12 photos without a split divided by their names (seed 0)" in said
    assert "vocabulary: 0.0% of the words of training captions are unknown" in said
    assert "training captions are truncated to vocabulary.max_length (4 words)" in said
    assert main(["train", *flags]) == 0

    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    stored = checkpoint.load(best).vocabulary
    assert stored.tokenizer == tokenizer
    known = stored.encode(captions[0])
    assert 3 not in known
    assert stored.encode(stored.decode(known)) == known

    with (tmp_path / "run" / "splits.csv").open(newline="") as file:
        splits = Counter(row["split"] for row in csv.DictReader(file))
    assert splits.keys() == {"train", "val", "test"}
    assert splits.total() == 12

    scores = tmp_path / "scores.json"
    assert main(["evaluate", "--checkpoint", str(best), "--output", str(scores)]) == 0
    recipe = json.loads(scores.read_text())["recipe"]
    assert recipe["tokenizer"].startswith(f"{tokenizer}, nltk ")
    assert recipe["n_images"] == splits["test"]


def test_only_a_seeded_division_is_stored(tmp_path: Path) -> None:
    root = folder(tmp_path, ["a dog", "a cat"])
    divided = []
    for seed in ("0", "0", "7"):
        run = tmp_path / f"run{len(divided)}"
        flags = arguments(root, "--data.format", "sidecar", "--output", str(run))
        flags += ["--data.split", "60/20/20", "--data.split_seed", seed]
        flags += ["--data.features", str(tmp_path / "features"), "--trainer.max_epochs", "1"]
        assert main(["prepare", *flags]) == 0
        assert main(["train", *flags]) == 0
        divided.append((run / "splits.csv").read_text())
    assert divided[0] == divided[1] != divided[2]

"""Checks of the data set and the network that `prepare` and `train` make before any work."""

from pathlib import Path

import pytest
import torch
from conftest import write_jsonl

from captioner.cli import main
from captioner.config.schema import VocabularyConfig
from captioner.errors import CaptionerError
from captioner.features.coverage import tell_coverage
from captioner.text.vocabulary import Vocabulary


def settings(root: Path, *more: str) -> list[str]:
    values = {
        "output": str(root / "run"),
        "data.format": "jsonl",
        "data.root": str(root),
        "data.features": str(root / "features"),
        "encoder.name": "squeezenet1_1",
        "encoder.weights": "none",
        "encoder.size": "48",
        "vocabulary.min_count": "1",
        "decoder.embedding_size": "8",
        "decoder.hidden_size": "8",
        "trainer.max_epochs": "1",
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "wandb.mode": "disabled",
    }
    return [part for k, v in values.items() for part in (f"--{k}", v)] + list(more)


@pytest.mark.filterwarnings("ignore")
def test_a_frozen_random_encoder_is_the_same_in_prepare_and_train(tmp_path: Path) -> None:
    root = write_jsonl(tmp_path)
    torch.manual_seed(1)
    assert main(["prepare", *settings(root)]) == 0
    torch.manual_seed(2)
    assert main(["train", *settings(root, "--seed", "5")]) == 0


@pytest.mark.parametrize("command", ["prepare", "train"])
def test_no_word_occurs_often_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    flags = settings(write_jsonl(tmp_path), "--vocabulary.min_count", "999")
    assert main([command, *flags]) == 1
    said = capsys.readouterr().err
    assert "vocabulary: no word occurs vocabulary.min_count (999) times or more in the " in said
    assert "Traceback" not in said


def test_coverage() -> None:
    captions = ["a dog runs", "a dog sleeps", "a dog and a cat", "the zebra"]
    known = Vocabulary.build(captions, min_count=2)  # a, dog: 7 of 13 words
    said = list(tell_coverage(known, captions, VocabularyConfig(min_count=2, max_length=4)))
    assert said[0] == "vocabulary: 46.2% of the words of training captions are unknown"
    assert said[1].startswith("warning: vocabulary: more than 20% of the words are unknown")
    assert said[2] == (
        "captions: 1 of 4 training captions are truncated to vocabulary.max_length (4 words)"
    )
    every = Vocabulary.build(captions, min_count=1)
    assert list(tell_coverage(every, captions, VocabularyConfig())) == [
        "vocabulary: 0.0% of the words of training captions are unknown"
    ]
    none = Vocabulary.build([], min_count=1)
    with pytest.raises(CaptionerError, match=r"there is no word in the 2 training captions"):
        list(tell_coverage(none, ["...", "!"], VocabularyConfig()))


@pytest.mark.parametrize(("name", "size"), [("squeezenet1_1", "8"), ("vit_b_16", "64")])
@pytest.mark.parametrize("tuned", [False, True])
def test_a_size_that_does_not_suit_the_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, size: str, tuned: bool
) -> None:
    flags = settings(write_jsonl(tmp_path), "--encoder.name", name, "--encoder.size", size)
    flags += ["--encoder.train_from", "all"] if tuned else []
    assert main(["train" if tuned else "prepare", *flags]) == 2
    said = capsys.readouterr().err
    assert f"encoder.size {size}: {name} does not support photos of {size} x {size} pix" in said
    assert "Traceback" not in said

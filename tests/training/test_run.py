"""Whole runs on a small data set: what a run writes, how it resumes, what it refuses."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import make_photo, write_jsonl

from captioner import checkpoint
from captioner.cli import main

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, of many kinds


def arguments(root: Path, *more: str) -> list[str]:
    settings = {
        "output": str(root / "run"),
        "data.format": "jsonl",
        "data.root": str(root),
        "data.features": str(root / "features"),
        "data.batch_size": "4",
        "vocabulary.min_count": "1",
        "encoder.name": "squeezenet1_1",
        "encoder.weights": "none",
        "encoder.size": "48",
        "encoder.fit": "squash",
        "decoder.cell": "gru",
        "decoder.embedding_size": "8",
        "decoder.hidden_size": "16",
        "decoder.dropout": "0",
        "search.beam_size": "2",
        "trainer.max_epochs": "2",
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "trainer.log_every_n_steps": "1",
        "wandb.mode": "disabled",
    }
    return [part for k, v in settings.items() for part in (f"--{k}", v)] + list(more)


def prepared_run(root: Path, settings: dict[str, str], *more: str) -> list[str]:
    """Prepare the data set in `root`, and return the flags of a run with these settings."""
    given = [part for name, value in settings.items() for part in (f"--{name}", value)]
    flags = arguments(root, *more, *given)
    assert main(["prepare", *flags]) == 0
    return flags


def trained_run(root: Path, flags: list[str]) -> Path:
    """Train a run without interruptions, and return its folder."""
    assert main(["train", *flags, "--output", str(root / "whole")]) == 0
    return root / "whole"


def save_weights(path: Path) -> str:
    """Save random weights of a small encoder, and return their path."""
    from torchvision import models

    torch.manual_seed(0)
    torch.save(models.squeezenet1_1().state_dict(), path)
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    torch.manual_seed(0)  # the random encoder must be the same in prepare and train
    return write_jsonl(tmp_path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_weights(tmp_path_factory.mktemp("weights") / "squeezenet.pth")


def test_prepare_train_evaluate_caption(
    data: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = arguments(data, "--encoder.weights", weights)
    assert main(["prepare", *flags]) == 0
    said = capsys.readouterr().err
    assert "data: 8 train, 3 val, 2 test photos" in said
    assert "computing 13 more (0.0 MB)" in said
    assert main(["prepare", *flags]) == 0
    assert "computing 0 more" in capsys.readouterr().err

    assert main(["train", *flags]) == 0
    run = data / "run"
    best, last = run / "checkpoints" / "best.ckpt", run / "checkpoints" / "last.ckpt"
    assert capsys.readouterr().out.strip() == str(best)
    assert last.is_file()
    assert yaml.safe_load((run / "config.yaml").read_text())["decoder"]["hidden_size"] == 16
    assert "dog" in (run / "vocabulary.txt").read_text().split()
    rows = list(csv.DictReader(io.StringIO((run / "metrics.csv").read_text())))
    for column in ("train/loss", "train/gradient_norm", "words_per_second", "lr-Adam/decoder"):
        assert [row for row in rows if row[column]], column
    for column in ("val/loss", "val/BLEU-4", "val/CIDEr-D"):
        assert len([row for row in rows if row[column]]) == 2, column

    scores, captions, per_image = (run / n for n in ("s.json", "c.json", "p.jsonl"))
    more = ["--output", scores, "--captions", captions, "--per-image", per_image]
    assert main(["evaluate", "--checkpoint", str(best), *map(str, more)]) == 0
    table = capsys.readouterr().out
    assert "BLEU-4" in table
    content = json.loads(scores.read_text())
    assert {"BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr-D"} <= set(content["scores"])
    assert content["recipe"]["split"] == "test"
    assert [row["image_id"] for row in json.loads(captions.read_text())] == [
        "test0.png",
        "test1.png",
    ]
    assert len(per_image.read_text().splitlines()) == 2
    assert main(["caption", str(data / "test0.png"), "--checkpoint", str(best)]) == 0
    written = capsys.readouterr().out.strip().split("\t")[1]
    assert written == json.loads(captions.read_text())[0]["caption"]


def test_resume_continues_where_the_run_ended(data: Path, weights: str) -> None:
    """Two epochs, then two more, give the weights and the log of four at once."""
    flags = arguments(data, "--encoder.weights", weights, "--trainer.max_epochs", "4")
    assert main(["prepare", *flags]) == 0
    whole = [*flags, "--output", str(data / "whole")]
    assert main(["train", *whole]) == 0
    halves = [*flags, "--output", str(data / "halves")]
    assert main(["train", *halves, "--trainer.max_epochs", "2"]) == 0
    last = data / "halves" / "checkpoints" / "last.ckpt"
    assert main(["train", *halves, "--resume", str(last)]) == 0
    states = [
        torch.load(data / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "halves")
    ]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
    logs = [
        [
            {k: v for k, v in row.items() if k != "words_per_second"}
            for row in csv.DictReader(io.StringIO((data / name / "metrics.csv").read_text()))
        ]
        for name in ("whole", "halves")
    ]
    assert logs[0] == logs[1]


def test_last_checkpoint_is_of_the_last_epoch_whatever_the_score(data: Path, weights: str) -> None:
    """With a tiny learning rate no epoch is better than the first."""
    flags = arguments(data, "--encoder.weights", weights, "--trainer.max_epochs", "3")
    assert main(["prepare", *flags]) == 0
    assert main(["train", *flags, "--optimization.learning_rate", "1e-12"]) == 0
    epochs = {
        name: torch.load(data / "run" / "checkpoints" / name, weights_only=True)["epoch"]
        for name in ("best.ckpt", "last.ckpt")
    }
    assert epochs == {"best.ckpt": 0, "last.ckpt": 2}


def test_a_run_is_not_overwritten(
    data: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = arguments(data, "--encoder.weights", weights, "--trainer.max_epochs", "1")
    assert main(["prepare", *flags]) == 0
    assert main(["train", *flags]) == 0
    assert main(["train", *flags]) == 2
    assert "already holds a run; resume it with --resume" in capsys.readouterr().err


def test_training_without_features_says_what_to_run(
    data: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = arguments(data, "--encoder.weights", weights)
    assert main(["train", *flags]) == 1
    assert "run captioner prepare" in capsys.readouterr().err
    assert main(["prepare", *flags]) == 0
    make_photo(data / "train3.png", 99)
    assert main(["train", *flags]) == 1
    message = capsys.readouterr().err
    assert "1 photos have no features or have changed since (first: 'train3.png')" in message


def test_an_unreadable_photo_does_not_end_prepare(
    data: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "train3.png").write_text("broken")
    flags = arguments(data, "--encoder.weights", weights, "--trainer.max_epochs", "1")
    assert main(["prepare", *flags]) == 0
    said = capsys.readouterr().err
    assert "train3.png: not a picture" in said
    assert "skipped 1 unreadable photos" in said
    assert main(["train", *flags]) == 0


def test_resume_with_another_vocabulary_is_refused(
    data: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = arguments(data, "--encoder.weights", weights, "--trainer.max_epochs", "1")
    assert main(["prepare", *flags]) == 0
    assert main(["train", *flags]) == 0
    last = str(data / "run" / "checkpoints" / "last.ckpt")
    assert main(["train", *flags, "--resume", last, "--vocabulary.max_size", "6"]) == 2
    assert "has a vocabulary of" in capsys.readouterr().err


def test_fine_tuned_encoder_is_trained_and_saved(data: Path, weights: str) -> None:
    flags = arguments(
        data,
        "--encoder.weights",
        weights,
        "--encoder.train_from",
        "features.12",
        "--encoder.learning_rate",
        "0.01",
        "--trainer.max_epochs",
        "1",
    )
    assert main(["prepare", *flags]) == 0
    assert main(["train", *flags]) == 0
    loaded = checkpoint.load(data / "run" / "checkpoints" / "last.ckpt")
    trained = loaded.captioner.encoder.trunk.state_dict()
    before = torch.load(weights, weights_only=True)
    changed = {name for name, tensor in trained.items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("features.12") for name in changed)


def test_empty_validation_split(
    tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_jsonl(tmp_path, val=0)
    flags = arguments(root, "--encoder.weights", weights)
    assert main(["prepare", *flags]) == 0
    assert main(["train", *flags]) == 1
    assert "the val split has no usable photo" in capsys.readouterr().err


def test_a_beam_of_too_many_scores(
    data: Path,
    weights: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Reported before the first epoch, not in its validation."""
    flags = arguments(data, "--encoder.weights", weights)
    assert main(["prepare", *flags]) == 0
    monkeypatch.setattr("captioner.inference.strategy.MOST_SCORES", 2**10)
    assert main(["train", *flags, "--search.beam_size", "5000"]) == 2
    assert (
        "beam_size: 5000 is too wide for a vocabulary" in capsys.readouterr().err.splitlines()[-1]
    )
    assert not (data / "run" / "metrics.csv").exists()


def test_watching_the_gradient_changes_nothing_else(data: Path, weights: str) -> None:
    """gradients.csv and its picture appear; the weights equal those of a run without it."""
    encoder = ("--encoder.weights", weights)
    plain, watched = data / "plain", data / "watched"
    assert main(["prepare", *arguments(data, *encoder)]) == 0
    assert main(["train", *arguments(data, *encoder, "--output", str(plain))]) == 0
    watch = ("--watch.gradient_every", "1", "--watch.gradient_steps", "2")
    assert main(["train", *arguments(data, *encoder, *watch, "--output", str(watched))]) == 0
    states = [
        checkpoint.read(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (plain, watched)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    rows = list(csv.DictReader((watched / "gradients.csv").open()))
    steps = {int(row["step"]) for row in rows}
    assert steps == set(range(len(steps)))
    assert {row["lag"] for row in rows} == {"1", "2"}
    assert all(float(row["norm"]) > 0 for row in rows)
    assert (watched / "gradients.png").stat().st_size > 1000
    metrics = list(csv.DictReader((watched / "metrics.csv").open()))
    for column in ("gates/update", "saturated/reset", "gradient/far_over_near", "train/clipped"):
        assert any(row[column] for row in metrics), column


def test_watching_needs_captions_that_are_long_enough(
    data: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = arguments(data, "--encoder.weights", weights, "--watch.gradient_every", "1")
    assert main(["prepare", *settings]) == 0
    assert main(["train", *settings, "--watch.gradient_steps", "99"]) == 1
    assert "no validation caption has that many words; choose fewer" in capsys.readouterr().err


def test_embeddings_start_from_a_file_of_vectors(
    data: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = ("--encoder.weights", weights)
    assert main(["prepare", *arguments(data, *encoder)]) == 0
    words = (data / "run" / "vocabulary.txt").read_text().split()
    vectors = data / "vectors.txt"
    vectors.write_text(f"{words[4]} {'2.5 ' * 8}\nelsewhere {'1 ' * 8}\n")
    slow = ("--optimization.learning_rate", "1e-9", "--decoder.vectors", str(vectors))
    assert main(["train", *arguments(data, *encoder, *slow)]) == 0
    assert f"word vectors: 1 of {len(words) - 4} words" in capsys.readouterr().err
    trained = checkpoint.load(data / "run" / "checkpoints" / "last.ckpt")
    embedding = trained.captioner.decoder.embedding.weight
    torch.testing.assert_close(embedding[4], torch.full((8,), 2.5))
    assert embedding[5].abs().max() < 1

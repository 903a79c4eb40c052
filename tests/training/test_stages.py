"""Two stages in one run: interrupted, resumed or run separately, the result is the same."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_jsonl
from test_resume import Interruption, check_same, interrupt_at, log_of
from test_run import prepared_run, save_weights, trained_run

from captioner.cli import main

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, of many kinds

SETTINGS = {
    "data.batch_size": "2",
    "decoder.dropout": "0.3",
    "trainer.max_epochs": "2",
    "optimization.learning_rate": "0.02",
    "optimization.schedule": "cosine",
    "watch.gradient_every": "4",
    "watch.gradient_steps": "2",
    "checkpoint.every_steps": "3",
    "trainer.log_every_n_steps": "1",
    "score.epochs": "2",
    "score.samples": "3",
    "score.learning_rate": "0.01",
    "score.schedule": "cosine",
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A prepared data set of eight training images; a run has 8 steps in each of two stages."""
    root = write_jsonl(tmp_path_factory.mktemp("data"))
    weights = save_weights(root / "squeezenet.pth")
    return root, prepared_run(root, SETTINGS, "--encoder.weights", weights)


@pytest.fixture(scope="module")
def whole(prepared: tuple[Path, list[str]]) -> Path:
    return trained_run(*prepared)


def read(run: Path, name: str = "last.ckpt") -> dict[str, Any]:
    return torch.load(run / "checkpoints" / name, weights_only=True)


def test_two_stages_in_one_log(whole: Path) -> None:
    raw = read(whole)
    assert raw["stage"] == {"name": "score", "first_epoch": 2}
    assert (raw["epoch"], raw["global_step"]) == (3, 16)
    rows = log_of(whole)
    validated = [row for row in rows if row["val/CIDEr-D"]]
    assert [row["epoch"] for row in validated] == ["0", "1", "2", "3"]
    for column in ("sampled_reward", "entropy", "length", "bad_endings"):
        assert all(row[f"val/{column}"] for row in validated), column
    trained = [row for row in rows if row["train/loss"]]
    assert [int(row["step"]) for row in trained] == list(range(16))
    assert [bool(row["train/sampled_reward"]) for row in trained] == [False] * 8 + [True] * 8
    rates = [float(row["lr-Adam/decoder"]) for row in rows if row["lr-Adam/decoder"]]
    assert rates[0] == 0.02
    assert rates[8] == 0.01
    assert rates[15] < 0.001


@pytest.mark.parametrize(
    "interruptions",
    [[(5, "step")], [(8, "validation"), (8, "step")], [(10, "step"), (13, "step")]],
    ids=str,
)
def test_an_interrupted_run_resumes_exactly(
    prepared: tuple[Path, list[str]],
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruptions: list[tuple[int, str]],
) -> None:
    flags = [*prepared[1], "--output", str(tmp_path / "run"), "--resume", "auto"]
    for step, then in interruptions:
        with monkeypatch.context() as patch:
            interrupt_at(patch, step, then)
            with pytest.raises(Interruption):
                main(["train", *flags])
    assert main(["train", *flags]) == 0
    check_same(whole, tmp_path / "run")


def test_killed_between_the_stages(
    prepared: tuple[Path, list[str]],
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(*given: Any) -> None:
        raise Interruption

    flags = [*prepared[1], "--output", str(tmp_path / "run"), "--resume", "auto"]
    for place in ("captioner.training.run.begin_score", "captioner.training.stages.move"):
        with monkeypatch.context() as patch:
            patch.setattr(place, killed)
            with pytest.raises(Interruption):
                main(["train", *flags])
    assert main(["train", *flags]) == 0
    check_same(whole, tmp_path / "run")


def test_the_score_stage_alone(
    prepared: tuple[Path, list[str]], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts from `--initial`; step 0 is validated and saved as the best."""
    flags = [*prepared[1], "--objective.name", "self_critical"]
    flags += ["--initial", str(whole / "checkpoints" / "best.ckpt")]
    assert main(["train", *flags, "--output", str(tmp_path / "apart")]) == 0
    rows = log_of(tmp_path / "apart")
    assert rows[0]["step"] == "0"
    assert rows[0]["val/CIDEr-D"]
    best = max(float(row["val/CIDEr-D"]) for row in rows if row["val/CIDEr-D"])
    assert read(tmp_path / "apart")["callbacks"]["RunCheckpoints"]["best_score"] == pytest.approx(
        best
    )
    again = [*flags, "--output", str(tmp_path / "again"), "--resume", "auto"]
    for step in (0, 3):
        with monkeypatch.context() as patch:
            interrupt_at(patch, step)
            with pytest.raises(Interruption):
                main(["train", *again])
    assert main(["train", *again]) == 0
    check_same(tmp_path / "apart", tmp_path / "again")


def test_the_best_of_both_stages_is_kept(prepared: tuple[Path, list[str]], tmp_path: Path) -> None:
    """The first stage's best is kept even if the second stage breaks the network."""
    for rate in ("0.01", "1000"):
        run = tmp_path / rate
        flags = [*prepared[1], "--output", str(run), "--score.learning_rate", rate]
        assert main(["train", *flags, "--trainer.max_epochs", "24"]) == 0
        scores = [float(row["val/CIDEr-D"]) for row in log_of(run) if row["val/CIDEr-D"]]
        best = read(run, "best.ckpt")
        assert best["epoch"] == scores.index(max(scores))
        assert best["callbacks"]["RunCheckpoints"]["best_score"] == pytest.approx(max(scores))
    assert best["stage"]["name"] == "cross_entropy"


def test_the_second_stage_begins_from_the_sharpened_best(
    prepared: tuple[Path, list[str]], tmp_path: Path
) -> None:
    slow = ["--score.learning_rate", "1e-12", "--score.sharpen", "3"]
    assert main(["train", *prepared[1], *slow, "--output", str(tmp_path / "run")]) == 0
    best, last = (read(tmp_path / "run", f"{name}.ckpt")["state_dict"] for name in ("best", "last"))
    for name, weights in best.items():
        factor = 3.0 if "decoder.projection." in name else 1.0
        torch.testing.assert_close(last[name], factor * weights, msg=name)


@pytest.mark.slow
def test_two_processes_train_on_the_score_as_one(
    prepared: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """Both processes see the same photos and samples; the transition happens once."""
    command = [sys.executable, "-m", "captioner", "train", *prepared[1], "--decoder.dropout", "0"]
    runs = {"one": ["--data.batch_size", "4"], "two": ["--data.batch_size", "2"]}
    runs["two"] += ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    for name, more in runs.items():
        output = ["--output", str(tmp_path / name)]
        subprocess.run([*command, *output, *more], check=True, timeout=300)
    one, two = (read(tmp_path / name) for name in runs)
    assert one["global_step"] == two["global_step"] == 8
    for name, weights in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], weights, atol=1e-4, rtol=1e-3, msg=name)
    validated = [[row for row in log_of(tmp_path / run) if row["val/loss"]] for run in runs]
    for a, b in zip(*validated, strict=True):
        for column in ("val/CIDEr-D", "val/sampled_reward", "val/entropy", "val/length"):
            assert float(a[column]) == pytest.approx(float(b[column]), abs=1e-3)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_mistakes_are_reported_in_one_line(
    prepared: tuple[Path, list[str]],
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [*prepared[1], "--output", str(tmp_path / "run")]
    assert main(["train", *flags, "--objective.name", "self_critical"]) == 2
    assert "name its checkpoint with --initial" in said(capsys)
    best = str(whole / "checkpoints" / "best.ckpt")
    assert main(["train", *flags, "--initial", best, "--decoder.hidden_size", "9"]) == 2
    assert "--initial: " in said(capsys)
    assert main(["train", *flags, "--initial", best, "--vocabulary.max_size", "6"]) == 2
    assert "has a vocabulary of" in said(capsys)
    assert main(["train", *flags, "--initial", "nowhere.ckpt"]) == 2
    assert "nowhere.ckpt: no such checkpoint" in said(capsys)
    assert main(["train", *flags, "--score.samples", "1"]) == 2
    assert "score.samples: 1 is out of range; it must be at least 2" in said(capsys)
    assert main(["train", *flags, "--optimization.monitor", "loss"]) == 2
    assert "the loss rises while training on the score" in said(capsys)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_scheduled_sampling_by_epoch(prepared: tuple[Path, list[str]], tmp_path: Path) -> None:
    """At probability 0 it equals teacher forcing bit for bit; later it does not."""
    states = []
    for probability in ("0", "0.9"):
        run = tmp_path / probability
        flags = [*prepared[1], "--output", str(run), "--score.epochs", "0"]
        flags += ["--objective.sampling_probability", probability]
        flags += ["--objective.sampling_epochs", "1"]
        assert main(["train", *flags]) == 0
        with (run / "metrics.csv").open(newline="") as file:
            states.append([row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]])
    assert states[0][:4] == states[1][:4]
    assert states[0][4:] != states[1][4:]

"""Progress of training: one line per epoch on standard error, results on standard output."""

import re
from pathlib import Path

import pytest
import torch
from conftest import write_jsonl
from test_run import arguments
from torchvision import models

from captioner.cli import main

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, of many kinds


def train(root: Path, *more: str) -> Path:
    """Train for two epochs; returns the best checkpoint."""
    weights = root / "squeezenet.pth"
    torch.manual_seed(0)
    torch.save(models.squeezenet1_1().state_dict(), weights)
    flags = arguments(root, "--encoder.weights", str(weights), *more)
    flags += ["--trainer.enable_progress_bar", "true"]
    assert main(["prepare", *flags, "--quiet"]) == 0
    assert main(["train", *flags]) == 0
    return root / "run" / "checkpoints" / "best.ckpt"


def test_a_line_for_each_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = train(write_jsonl(tmp_path))
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == str(best)
    lines = [line for line in said.err.splitlines() if line.startswith("epoch ")]
    number = r"\d+\.\d{3}"
    pattern = (
        rf"epoch (\d) of 2: loss {number}, validation loss {number}, CIDEr-D {number}, "
        rf"BLEU-4 {number}, \d+:\d\d(, \d+:\d\d left)?"
    )
    found = [re.fullmatch(pattern, line) for line in lines]
    assert [match and match[1] for match in found] == ["1", "2"]
    assert [bool(match and match[2]) for match in found] == [True, False]


def test_the_loss_is_the_mean_of_the_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Accumulated steps report the loss of their batches, not a share of it."""
    losses = []
    for batches in ("1", "2"):
        root = write_jsonl(tmp_path / batches)
        more = ("--trainer.accumulate_grad_batches", batches, "--optimization.learning_rate")
        train(root, *more, "1e-9", "--data.batch_size", "2")
        text = capsys.readouterr().err
        losses.append(re.findall(r"epoch \d of 2: loss ([\d.]+)", text))
    assert losses[0] == losses[1]


def test_quiet_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(write_jsonl(tmp_path), "--quiet")
    assert "epoch" not in capsys.readouterr().err

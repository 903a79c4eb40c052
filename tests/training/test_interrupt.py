"""Ctrl-C, scores that cannot choose, runs shorter than the logging interval."""

import csv
import json
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_jsonl
from test_run import arguments

from captioner.cli import main
from captioner.training.lightning_module import TrainingModule

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, of many kinds


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    """A prepared run of three epochs of four steps; one validation photo is left of three."""
    root = write_jsonl(tmp_path)
    rows = [json.loads(line) for line in (root / "captions.jsonl").read_text().splitlines()]
    vals = [row for row in rows if row["split"] == "val"]
    kept = [row for row in rows if row["split"] != "val" or row is vals[0]]
    (root / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    more = ("--data.batch_size", "2", "--trainer.max_epochs", "3")
    flags = arguments(root, *more, "--trainer.log_every_n_steps", "50")
    assert main(["prepare", *flags]) == 0
    return flags


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, times: int = 1) -> None:
    before = TrainingModule.training_step

    def interrupted(self: TrainingModule, *given: Any) -> Any:
        if self.trainer.global_step == step:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return before(self, *given)

    monkeypatch.setattr(TrainingModule, "training_step", interrupted)


def test_ctrl_c_writes_a_checkpoint_and_prints_the_command(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        assert main(["train", *flags]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("captioner: error: interrupted after step 3; resume with: ")
    last = Path(flags[flags.index("--output") + 1]) / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 3
    program, *command = shlex.split(said.split("resume with: ")[1])
    assert program == "captioner"
    assert main(command) == 0
    assert torch.load(last, weights_only=True)["global_step"] == 12


def test_a_second_ctrl_c_ends_at_once(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if started by `command &`
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5, times=2)
        assert main(["train", *flags]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("captioner: error: interrupted; resume with: captioner train --config ")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_one_validation_photo_and_few_steps(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """CIDEr-D is 0 for one photo: the validation loss chooses; the training loss is logged."""
    assert main(["train", *flags]) == 0
    assert "CIDEr-D is 0 so far; the epoch with the lowest val/loss" in capsys.readouterr().err
    run = Path(flags[flags.index("--output") + 1])
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["val/loss"]) for row in rows if row["val/loss"]]
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["epoch"]
    assert {float(row["val/CIDEr-D"]) for row in rows if row["val/CIDEr-D"]} == {0.0}
    assert best == losses.index(min(losses)) > 0
    assert len([row for row in rows if row["train/loss"]]) == 3

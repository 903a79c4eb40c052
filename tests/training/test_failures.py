"""Errors that end a run: one line, exit code 1, and the last good checkpoint stays intact."""

import csv
import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_jsonl
from test_run import arguments
from torch import Tensor

from captioner import checkpoint
from captioner.cli import main
from captioner.errors import CaptionerError
from captioner.files.csv_rows import append_rows, whole_rows
from captioner.training.failures import explained, named
from captioner.training.lightning_module import TrainingModule

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, of many kinds


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    """Prepare a run of two epochs of four steps, with a checkpoint every two."""
    from torchvision import models

    torch.manual_seed(0)
    root = write_jsonl(tmp_path)
    weights = root / "squeezenet.pth"
    torch.save(models.squeezenet1_1().state_dict(), weights)
    settings = ("--data.batch_size", "2", "--checkpoint.every_steps", "2")
    flags = arguments(root, "--encoder.weights", str(weights), *settings)
    assert main(["prepare", *flags]) == 0
    return flags


def last_of(flags: list[str]) -> Path:
    return Path(flags[flags.index("--output") + 1]) / "checkpoints" / "last.ckpt"


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, change: Any) -> None:
    """Replace the loss of one training step by the result of `change`."""
    before = TrainingModule._loss

    def changed(self: TrainingModule, *given: Any) -> Tensor:
        loss = before(self, *given)
        if self.trainer.training and self.trainer.global_step == step:
            return change(loss, self)
        return loss

    monkeypatch.setattr(TrainingModule, "_loss", changed)


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one error line."""
    said = capsys.readouterr().err
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("captioner: error:")]
    assert len(lines) == 1, said
    return lines[0]


def not_a_number(loss: Tensor, module: TrainingModule) -> Tensor:
    return loss * float("nan")


def steep(loss: Tensor, module: TrainingModule) -> Tensor:
    """Return a finite loss whose gradient is not finite."""
    return loss + (module.captioner.decoder.embedding.weight * 0).sqrt().sum()


@pytest.mark.parametrize("change", [not_a_number, steep])
def test_a_loss_that_is_not_finite_ends_the_run(
    flags: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Any,
) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, 3, change)
        assert main(["train", *flags]) == 1
    line = error_line(capsys)
    what = "the loss is not finite" if change is not_a_number else "the gradient is not"
    assert f"step 3: {what}" in line
    assert "images 'train" in line
    assert "optimization.on_nonfinite to skip" in line
    assert line.endswith(f"the last good checkpoint is {last_of(flags)} (step 2)")
    assert checkpoint.read(last_of(flags))["global_step"] == 2
    assert main(["train", *flags, "--resume", "auto"]) == 0


@pytest.mark.parametrize("change", [not_a_number, steep])
def test_such_a_step_can_be_skipped(
    flags: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Any,
) -> None:
    states: list[dict[str, Tensor]] = []
    before = TrainingModule.training_step

    def noted(self: TrainingModule, *given: Any) -> Tensor | None:
        states.append({n: w.detach().clone() for n, w in self.captioner.decoder.named_parameters()})
        return before(self, *given)

    monkeypatch.setattr(TrainingModule, "training_step", noted)
    at_step(monkeypatch, 3, change)
    assert main(["train", *flags, "--optimization.on_nonfinite", "skip"]) == 0
    assert "step 3: the " in capsys.readouterr().err
    assert all(torch.equal(states[3][name], states[4][name]) for name in states[3])
    assert not all(torch.equal(states[2][name], states[3][name]) for name in states[3])
    with (last_of(flags).parents[1] / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["train/skipped"]) for row in rows if row["train/skipped"]] == [1, 1]
    final = checkpoint.read(last_of(flags))["state_dict"]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in final.values())


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_photo_that_vanishes(
    flags: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    workers: int,
) -> None:
    photos = last_of(flags).parents[2]

    def vanish(loss: Tensor, module: TrainingModule) -> Tensor:
        for i in range(8):
            (photos / f"train{i}.png").unlink()
        return loss

    at_step(monkeypatch, 5, vanish)
    more = ("--encoder.train_from", "features.12", "--data.workers", str(workers))
    assert main(["train", *flags, *more, "--trainer.max_epochs", "9"]) == 1
    line = error_line(capsys)
    assert f"captioner: error: {photos}/train" in line
    assert f"the last good checkpoint is {last_of(flags)} (step" in line
    assert checkpoint.read(last_of(flags))["global_step"] >= 4


@pytest.mark.slow
def test_a_data_worker_that_dies(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill(loss: Tensor, module: TrainingModule) -> Tensor:
        for child in multiprocessing.active_children():
            child.kill()
        return loss

    at_step(monkeypatch, 5, kill)
    assert main(["train", *flags, "--data.workers", "1", "--trainer.max_epochs", "9"]) == 1
    line = error_line(capsys)
    assert "a process that loads batches died" in line
    assert f"the last good checkpoint is {last_of(flags)} (step 4)" in line


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Simulate a full disk: writing more than `size` bytes to a file fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def fill_the_disk(size: int) -> Any:
    def fill(loss: Tensor, module: TrainingModule) -> Tensor:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        return loss

    return fill


def test_a_full_disk_while_a_checkpoint_is_written(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with files_of_at_most(10**9):
        at_step(monkeypatch, 3, fill_the_disk(100_000))
        assert main(["train", *flags]) == 1
    line = error_line(capsys)
    assert "a checkpoint cannot be written: " + os.strerror(errno.EFBIG) in line
    assert f"the last good checkpoint is {last_of(flags)} (step 2)" in line
    assert checkpoint.read(last_of(flags))["global_step"] == 2
    assert [path.name for path in last_of(flags).parent.iterdir()] == ["last.ckpt"]
    monkeypatch.undo()
    assert main(["train", *flags, "--resume", "auto"]) == 0


def test_a_full_disk_while_logging(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with files_of_at_most(10**9):
        at_step(monkeypatch, 3, fill_the_disk(300))
        assert main(["train", *flags]) == 1
    line = error_line(capsys)
    assert "metrics.csv: cannot be written: " + os.strerror(errno.EFBIG) in line
    assert f"the last good checkpoint is {last_of(flags)} (step 2)" in line
    text = (last_of(flags).parents[1] / "metrics.csv").read_text()
    assert text.endswith("\n")
    assert not list(last_of(flags).parents[1].glob("*.part"))


def test_rows_are_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    append_rows(path, [["a", "b"], [1, 2]])
    before = path.read_bytes()
    with (
        files_of_at_most(len(before) + 5),
        pytest.raises(CaptionerError, match=r"rows\.csv: cannot be written: File too large"),
    ):
        append_rows(path, [[3, 4], [5, 6]])
    assert path.read_bytes() == before
    path.write_bytes(before + b"12,3")  # cut short by a power failure: 12,34
    assert whole_rows(path) == [["a", "b"], ["1", "2"]]


def test_bugs_keep_their_traceback(tmp_path: Path) -> None:
    assert explained(ValueError("no"), tmp_path / "last.ckpt", 0) is None
    error = explained(OSError(errno.ENOSPC, "No space left on device"), tmp_path / "last.ckpt", 0)
    assert str(error) == "No space left on device; there is no checkpoint yet"
    gone = explained(RuntimeError("[gloo/pair.cc] Connection closed by peer"), tmp_path / "x", 0)
    assert "another process of this run ended or lost its connection" in str(gone)


def test_many_ids_are_not_all_named() -> None:
    assert named([1, "a"]) == "1, 'a'"
    assert named(list(range(20))).endswith("7 and 12 more")


def test_a_wrong_call_fails_before_heavy_imports(tmp_path: Path) -> None:
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    program = (
        "import sys; from captioner.cli import main; "
        f"code = main(['train', '--output', {str(tmp_path / 'run')!r}]); "
        "assert 'torch' not in sys.modules and 'lightning' not in sys.modules; sys.exit(code)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert f"already holds a run; resume it with --resume {last}" in result.stderr


@pytest.mark.slow
def test_unreachable_wandb(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "3")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert main(["train", *flags, "--wandb.mode", "online"]) == 0
    said = capsys.readouterr().err
    assert said.count("W&B is unreachable") == 1
    assert "Traceback" not in said
    assert list((last_of(flags).parents[1] / "wandb").glob("offline-run-*"))

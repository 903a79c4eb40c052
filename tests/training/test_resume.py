"""A run interrupted anywhere and resumed is bit-identical to an uninterrupted one."""

import csv
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_jsonl
from test_run import prepared_run, save_weights, trained_run

from captioner.cli import main
from captioner.model.kernels.linear import faster_library, use_library
from captioner.training import random_states
from captioner.training.checkpoints import RunCheckpoints
from captioner.training.lightning_module import TrainingModule

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, of many kinds

STEPS = 12
SETTINGS = {
    "data.batch_size": "2",
    "decoder.dropout": "0.3",
    "trainer.max_epochs": "3",
    "optimization.schedule": "plateau",
    "optimization.plateau_patience": "0",
    "optimization.warmup_steps": "5",
    "optimization.patience": "5",
    "trainer.gradient_clip_val": "0.5",
    "watch.gradient_every": "2",
    "watch.gradient_steps": "2",
    "checkpoint.every_steps": "3",
}


class Interruption(BaseException):
    """Acts like a kill: nothing catches it."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A prepared data set of eight training images, and the flags of a run of twelve steps."""
    root = write_jsonl(tmp_path_factory.mktemp("data"))
    weights = save_weights(root / "squeezenet.pth")
    flags = prepared_run(root, SETTINGS, "--encoder.weights", weights)
    assert main(["prepare", *flags, "--encoder.views", "2"]) == 0
    return root, flags


@pytest.fixture(scope="module")
def undisturbed(prepared: tuple[Path, list[str]]) -> Path:
    return trained_run(*prepared)


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Return every tensor and number of nested states by name."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{name}/{key}")
    elif isinstance(value, (list, tuple)):
        for key, part in enumerate(value):
            yield from leaves(part, f"{name}/{key}")
    else:
        yield name, value


def check_same(one: Path, two: Path) -> None:
    """Check that both runs wrote equal states and rows, apart from clocks."""
    for name in ("last.ckpt", "best.ckpt"):
        states = []
        for run in (one, two):
            raw = torch.load(run / "checkpoints" / name, weights_only=True)
            for part in ("captioner", "pytorch-lightning_version"):  # the output's name is in it
                del raw[part]
            del raw["callbacks"]["Throughput"]
            states.append(dict(leaves(raw)))
        assert states[0].keys() == states[1].keys()
        for key, value in states[0].items():
            other = states[1][key]
            same = torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
            assert same, f"{name}: {key}: {value} is not {other}"
    assert log_of(one) == log_of(two)
    assert (one / "gradients.csv").read_text() == (two / "gradients.csv").read_text()


def log_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "words_per_second"} for row in rows]


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, then: str = "step") -> None:
    """Interrupt the first training step, or the first validation, once `step` steps are done."""
    name = "training_step" if then == "step" else "on_validation_epoch_end"
    before = getattr(TrainingModule, name)

    def interrupted(self: TrainingModule, *given: Any) -> Any:
        if self.trainer.global_step == step:
            raise Interruption
        return before(self, *given)

    monkeypatch.setattr(TrainingModule, name, interrupted)


def resume_after(
    prepared: tuple[Path, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    output: Path,
    interruptions: Sequence[tuple[int, str]],
    *more: str,
) -> None:
    flags = [*prepared[1], "--output", str(output), "--resume", "auto", *more]
    for step, then in interruptions:
        with monkeypatch.context() as patch:
            interrupt_at(patch, step, then)
            with pytest.raises(Interruption):
                main(["train", *flags])
    assert main(["train", *flags]) == 0


@pytest.mark.parametrize(
    "interruptions",
    [
        [(1, "step")],  # before there is a checkpoint
        [(3, "step")],  # with a checkpoint just written
        [(5, "step")],  # within an epoch
        [(4, "validation"), (4, "step"), (8, "step")],
        [(11, "step"), (12, "validation")],
    ],
    ids=str,
)
def test_an_interrupted_run_resumes_exactly(
    prepared: tuple[Path, list[str]],
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruptions: list[tuple[int, str]],
) -> None:
    resume_after(prepared, monkeypatch, tmp_path / "run", interruptions)
    check_same(undisturbed, tmp_path / "run")


def test_no_batch_is_read_twice(
    prepared: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed epoch starts reading at the batch after the checkpoint."""
    read: list[str] = []
    before = TrainingModule.training_step

    def noted(self: TrainingModule, batch: Any, index: int) -> Any:
        read.append(f"{self.trainer.global_step}: {batch.image_ids}")
        return before(self, batch, index)

    monkeypatch.setattr(TrainingModule, "training_step", noted)
    resume_after(prepared, monkeypatch, tmp_path / "a", [])
    whole, read[:] = list(read), []
    resume_after(prepared, monkeypatch, tmp_path / "b", [(5, "step")])
    assert read == [*whole[:5], *whole[4:]], "a checkpoint is written after step 4, an epoch's last"


@pytest.mark.parametrize(
    "more",
    [
        ("--trainer.accumulate_grad_batches", "3", "--checkpoint.every_steps", "1"),
        ("--trainer.check_val_every_n_epoch", "2", "--data.batch_size", "3"),
        ("--trainer.limit_train_batches", "3", "--decoder.cell", "lstm"),
        ("--encoder.views", "2"),
        pytest.param(("--data.workers", "1"), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_resume_is_exact_with_every_loop_setting(
    prepared: tuple[Path, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
) -> None:
    resume_after(prepared, monkeypatch, tmp_path / "whole", [], *more)
    resume_after(prepared, monkeypatch, tmp_path / "run", [(2, "step"), (5, "step")], *more)
    check_same(tmp_path / "whole", tmp_path / "run")


def test_a_run_that_stopped_early_does_not_resume(
    prepared: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after its last checkpoint, it would otherwise train for another epoch."""
    slow = ("--optimization.patience", "1", "--optimization.learning_rate", "1e-12")
    resume_after(prepared, monkeypatch, tmp_path / "run", [], *slow)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 8
    before = log_of(tmp_path / "run")
    resume_after(prepared, monkeypatch, tmp_path / "run", [], *slow)
    assert torch.load(last, weights_only=True)["global_step"] == 8
    assert log_of(tmp_path / "run") == before


def test_the_best_checkpoint_can_be_resumed_from(
    prepared: tuple[Path, list[str]], undisturbed: Path, tmp_path: Path
) -> None:
    best = undisturbed / "checkpoints" / "best.ckpt"
    flags = [*prepared[1], "--output", str(tmp_path / "run"), "--resume", str(best)]
    assert main(["train", *flags]) == 0
    states = [
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in (undisturbed, tmp_path / "run")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_run_multiplies_with_the_library_that_it_began_with(
    undisturbed: Path, prepared: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """The two round differently; a checkpoint of a version that knew one only names none."""
    last = undisturbed / "checkpoints" / "last.ckpt"
    raw = torch.load(last, weights_only=True)
    assert raw["products"] == faster_library()
    for named, expected in (("mkl", "mkl"), ("onednn", "onednn"), (None, "onednn")):
        raw["products"] = named
        if named is None:
            del raw["products"]
        start = tmp_path / f"{named}.ckpt"
        torch.save(raw, start)
        run = tmp_path / str(named)
        flags = [*prepared[1], "--output", str(run), "--resume", str(start)]
        assert main(["train", *flags]) == 0
        resumed = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        assert resumed["products"] == expected
        use_library(None)


def test_other_batches_within_an_epoch_are_refused(
    prepared: tuple[Path, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [*prepared[1], "--output", str(tmp_path / "run"), "--resume", "auto"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(Interruption):
            main(["train", *flags])
    capsys.readouterr()
    assert main(["train", *flags, "--data.batch_size", "4"]) == 2
    assert (
        "--resume: the checkpoint was written within an epoch, after 3 batches of 2 images over "
        "all devices; this run has batches of 4; set data.batch_size"
    ) in capsys.readouterr().err


def test_random_states_are_restored() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    states = random_states.random_states()
    first = draw()
    assert draw() != first
    random_states.restore(states)
    assert draw() == first


def test_seeds_of_ranks_differ() -> None:
    seeds = {random_states.seed_of_rank(0, rank, step) for rank in range(64) for step in range(64)}
    assert len(seeds) == 64 * 64
    assert random_states.seed_of_rank(5, 0, 0) == 5


def test_sigterm_after_the_last_step_is_reported(
    prepared: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal arrives between the last step and the end of training."""
    real = RunCheckpoints.on_train_end

    def ask_and_end(self: RunCheckpoints, *given: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        real(self, *given)

    flags = [*prepared[1], "--output", str(tmp_path / "run"), "--trainer.max_epochs", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoints, "on_train_end", ask_and_end)
        assert main(["train", *flags]) == 143
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert main(["train", *flags, "--resume", str(last)]) == 0


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_and_says_so(
    prepared: tuple[Path, list[str]], tmp_path: Path
) -> None:
    flags = [*prepared[1], "--output", str(tmp_path / "run"), "--trainer.max_epochs", "100000"]
    command = [sys.executable, "-m", "captioner", "train", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        last = tmp_path / "run" / "checkpoints" / "last.ckpt"
        while not last.is_file():
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in said
    step = torch.load(last, weights_only=True)["global_step"]
    assert said.splitlines()[-1] == (
        f"captioner: error: stopped by SIGTERM after step {step}; resume with: captioner train "
        f"--config {tmp_path / 'run' / 'config.yaml'} --resume {last}"
    )

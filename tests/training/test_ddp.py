"""Several processes, by the scripts that users run: dry, and for real over gloo on the CPU."""

import csv
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import write_jsonl
from test_run import arguments

SCRIPTS = Path(__file__).parents[2] / "scripts"
CAPTIONER = Path(sys.executable).parent / "captioner"


def run_script(name: str, *given: str, **environment: str) -> str:
    result = subprocess.run(
        ["bash", str(SCRIPTS / name), *given],
        env={**os.environ, "CAPTIONER": str(CAPTIONER), **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_dry_run_on_one_machine() -> None:
    said = run_script("train_ddp.sh", "--config", "a b.yaml", DRY_RUN="1", DEVICES="3")
    assert shlex.split(said) == [
        *(str(CAPTIONER), "train", "--config", "a b.yaml"),
        *("--trainer.accelerator", "gpu"),
        *("--trainer.devices", "3"),
        *("--trainer.strategy", "ddp"),
    ]


def test_dry_run_under_slurm() -> None:
    said = run_script(
        "train_slurm.sh",
        "--output",
        "runs/x",
        DRY_RUN="1",
        SLURM_NNODES="4",
        SLURM_NTASKS_PER_NODE="8",
    )
    assert shlex.split(said) == [
        *("srun", str(CAPTIONER), "train", "--output", "runs/x", "--resume", "auto"),
        *("--trainer.accelerator", "gpu"),
        *("--trainer.num_nodes", "4"),
        *("--trainer.devices", "8"),
        *("--trainer.strategy", "ddp"),
    ]


def test_dry_run_under_torchrun() -> None:
    said = run_script(
        "train_elastic.sh",
        "--output",
        "runs/x",
        DRY_RUN="1",
        DEVICES="2",
        BIN=str(CAPTIONER.parent),
    )
    assert shlex.split(said) == [
        *(str(CAPTIONER.parent / "torchrun"), "--standalone"),
        *("--nproc-per-node", "2", "--max-restarts", "3", "-m", "captioner", "train"),
        *("--output", "runs/x", "--resume", "auto", "--trainer.accelerator", "gpu"),
        *("--trainer.devices", "2", "--trainer.strategy", "ddp"),
    ]


WRITES_CAPTIONS = """
import json, sys
from pathlib import Path
from captioner.cli import main
from captioner.training.lightning_module import TrainingModule

before = TrainingModule.on_validation_epoch_end

def and_write(self):
    before(self)
    if self.trainer.is_global_zero:
        backwards = sys.argv[::-1]
        output = backwards[backwards.index("--output") - 1]
        with Path(output + ".captions").open("a") as file:
            file.write(json.dumps(list(self.written.items())) + chr(10))

TrainingModule.on_validation_epoch_end = and_write
sys.exit(main())
"""
"""`captioner` that also writes the validation captions, a line a validation."""


def prepared(root: Path, **images: int) -> list[str]:
    """Flags of a run of three epochs over so many images, its features computed."""
    from torchvision import models

    from captioner.cli import main

    torch.manual_seed(0)
    weights = root / "squeezenet.pth"
    torch.save(models.squeezenet1_1().state_dict(), weights)
    write_jsonl(root, **images)
    flags = arguments(root, "--encoder.weights", str(weights), "--trainer.max_epochs", "3")
    assert main(["prepare", *flags]) == 0
    return flags


def check_equal(one: Path, other: Path) -> None:
    """Weights to 1e-5; each row of the log once, and the scores of written captions to the bit."""
    states = [
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in (one, other)
    ]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=1e-5, rtol=1e-4)
    logs = [
        list(csv.DictReader(io.StringIO((run / "metrics.csv").read_text()))) for run in (one, other)
    ]
    assert [row["step"] for row in logs[0]] == [row["step"] for row in logs[1]]
    rows = [[row for row in log if row["val/BLEU-4"]] for log in logs]
    assert len(rows[0]) == 3
    for a, b in zip(*rows, strict=True):
        assert float(a["val/loss"]) == pytest.approx(float(b["val/loss"]), abs=1e-5)
        for score in ("val/CIDEr-D", "val/BLEU-4", "val/ROUGE-L"):
            assert a[score] == b[score]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("processes", "train", "val"),
    [(2, 11, 5), (3, 10, 11), (3, 2, 1)],
    ids=["11-on-2", "10-on-3", "2-on-3"],
)
def test_several_processes_train_as_one(
    tmp_path: Path, processes: int, train: int, val: int
) -> None:
    """The same images a step, in one process or several, give the same weights and captions.

    The images cannot be shared evenly, and in the last case not every process gets one: none is
    lost and none is counted twice. Validation captions are those of one process to the bit.
    """
    flags = prepared(tmp_path, train=train, val=val)
    program = tmp_path / "writes_captions.py"
    program.write_text(WRITES_CAPTIONS)
    runs = {}
    for count in (1, processes):
        runs[count] = tmp_path / f"on{count}"
        more = {"output": runs[count], "data.batch_size": 6 // count, "trainer.devices": count}
        settings = [text for name, value in more.items() for text in (f"--{name}", str(value))]
        result = subprocess.run(
            [sys.executable, str(program), "train", *flags, *settings],
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
    check_equal(runs[1], runs[processes])
    captions = [(tmp_path / f"on{count}.captions").read_text() for count in runs]
    assert captions[0] == captions[1]
    assert len(json.loads(captions[0].splitlines()[0])) == val


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_training_survives_the_death_of_a_process(tmp_path: Path) -> None:
    """torchrun starts all again, they go on from the last checkpoint, and no row is lost."""
    from captioner.cli import main

    flags = prepared(tmp_path, train=12, val=3)
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["train", *flags, "--output", str(one), "--data.batch_size", "4"]) == 0
    slow = ("--checkpoint.every_steps", "1", "--data.batch_size", "2", "--output", str(two))
    with subprocess.Popen(
        ["bash", str(SCRIPTS / "train_elastic.sh"), *flags, *slow],
        env={**os.environ, "BIN": str(CAPTIONER.parent), "ACCELERATOR": "cpu", "DEVICES": "2"},
        stderr=subprocess.PIPE,
        text=True,
    ) as agent:
        while not (two / "checkpoints" / "last.ckpt").is_file():
            assert agent.poll() is None
            time.sleep(0.01)
        children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        _, said = agent.communicate(timeout=300)
    assert agent.returncode == 0, said
    assert "exitcode: -9" in said, "the process died too late to be missed"
    check_equal(one, two)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_sigterm_to_one_process_ends_all_with_a_checkpoint(tmp_path: Path) -> None:
    flags = prepared(tmp_path, train=12, val=3)
    more = ("--trainer.max_epochs", "100000", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with subprocess.Popen(
        [sys.executable, "-m", "captioner", "train", *flags, *more],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not last.is_file():
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    step = torch.load(last, weights_only=True)["global_step"]
    assert said.count("captioner: error:") == 1
    assert f"stopped by SIGTERM after step {step}; resume with: captioner train --config " in said
    assert f" --resume {last}" in said

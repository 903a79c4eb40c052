"""Several processes, by the scripts that users run: dry, and for real over gloo on the CPU."""

import csv
import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import write_jsonl
from test_trainer import arguments

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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """The same images a step, in one process or two, give the same weights to 1e-5.

    The validation split has an odd number of images: each is captioned by one process only, and
    the scores are those of one process.
    """
    from torchvision import models

    from captioner.cli import main

    torch.manual_seed(0)
    weights = tmp_path / "squeezenet.pth"
    torch.save(models.squeezenet1_1().state_dict(), weights)
    root = write_jsonl(tmp_path, train=16, val=5)
    flags = arguments(root, "--encoder.weights", str(weights), "--trainer.max_epochs", "3")
    assert main(["prepare", *flags]) == 0
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert main(["train", *flags, "--output", one, "--data.batch_size", "8"]) == 0
    more = ("--output", two, "--data.batch_size", "4")
    run_script("train_ddp.sh", *flags, *more, ACCELERATOR="cpu", DEVICES="2")
    states = [
        torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in (one, two)
    ]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=1e-5, rtol=1e-4)
    rows = [
        [
            row
            for row in csv.DictReader(io.StringIO(Path(f"{run}/metrics.csv").read_text()))
            if row["val/BLEU-4"]
        ]
        for run in (one, two)
    ]
    assert len(rows[0]) == len(rows[1]) == 3
    for a, b in zip(*rows, strict=True):
        assert float(a["val/loss"]) == pytest.approx(float(b["val/loss"]), abs=1e-5)
        assert a["val/CIDEr-D"] == b["val/CIDEr-D"]
        assert a["val/BLEU-4"] == b["val/BLEU-4"]

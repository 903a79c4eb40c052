"""A whole study through the command line, killed in its middle and gone on with."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import write_jsonl

STUDY = """
output: {root}/study
base: base.yaml
set: {{decoder.embedding_size: 8, data.root: {root}}}
grid: {{decoder.cell: [gru, lstm]}}
seeds: [0, 1]
"""
BASE = """
data: {{format: jsonl, features: {root}/features, batch_size: 4}}
vocabulary: {{min_count: 1}}
encoder: {{name: squeezenet1_1, weights: "{root}/weights.pth", size: 48, fit: squash}}
decoder: {{hidden_size: 16, dropout: 0}}
search: {{beam_size: 2}}
trainer: {{max_epochs: 3, accelerator: cpu, log_every_n_steps: 1}}
wandb: {{mode: disabled}}
"""


def write_study(root: Path) -> list[str]:
    """A data set, a network's weights and a study of four runs; returns the command."""
    import torch
    from torchvision import models

    write_jsonl(root)
    torch.manual_seed(0)
    torch.save(models.squeezenet1_1().state_dict(), root / "weights.pth")
    (root / "base.yaml").write_text(BASE.format(root=root))
    (root / "study.yaml").write_text(STUDY.format(root=root))
    return [sys.executable, "-m", "captioner", "study", "--config", str(root / "study.yaml")]


def wait_for(root: Path, pattern: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not list(root.glob(pattern)):
        assert time.monotonic() < until, f"no {pattern}"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_study_goes_on(tmp_path: Path, jobs: int) -> None:
    command = [*write_study(tmp_path), "--jobs", str(jobs)]
    study = tmp_path / "study"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        wait_for(study, "*/*/checkpoints/last.ckpt")
        process.kill()
    assert not list(study.glob("table.*"))
    # Processes of its own end with it; else they would write beside those of the next one.
    time.sleep(0.5)
    before = [path.stat().st_mtime_ns for path in study.glob("*/*/**/*")]
    time.sleep(2)
    assert before == [path.stat().st_mtime_ns for path in study.glob("*/*/**/*")]

    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "4 of 4 runs done" in result.stderr
    assert result.stdout.startswith("configuration  runs")
    assert "not distinguishable" in result.stdout or "better" in result.stdout
    for name in ("table.md", "table.csv", "table.json", "plots.png", "plots.svg"):
        assert (study / name).stat().st_size > 0
    for cell in ("gru", "lstm"):
        for seed in (0, 1):
            folder = study / f"cell={cell}" / f"seed-{seed}"
            assert len(json.loads((folder / "captions.json").read_text())) == 3
            assert len((folder / "per_image.jsonl").read_text().splitlines()) == 3
            with (folder / "metrics.csv").open() as file:
                rows = [row for row in csv.DictReader(file) if row["val/loss"]]
            assert [row["epoch"] for row in rows] == ["0", "1", "2"], "no epoch lost or doubled"
            summary = json.loads((folder / "summary.json").read_text())
            best = max(rows, key=rank)
            # The stored features gave the captions that training's validation gave.
            assert summary["scores"]["CIDEr-D"] == pytest.approx(
                float(best["val/CIDEr-D"]), abs=1e-6
            )
            assert summary["best_epoch"] == int(best["epoch"]) + 1

    times = {path: path.stat().st_mtime_ns for path in study.glob("*/*/*")}
    again = subprocess.run([*command, "--report"], capture_output=True, text=True, check=True)
    assert again.stdout == result.stdout
    assert times == {path: path.stat().st_mtime_ns for path in study.glob("*/*/*")}


def rank(row: dict[str, str]) -> tuple[float, float]:
    """The score; while it is 0 the validation loss decides."""
    score = float(row["val/CIDEr-D"])
    return score, -float(row["val/loss"]) if score == 0 else 0.0


@pytest.mark.slow
def test_interrupted_and_failing_runs(tmp_path: Path) -> None:
    command = write_study(tmp_path)
    study = tmp_path / "study"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(study, "*/*/checkpoints/last.ckpt")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
    assert process.returncode == 143
    assert said.splitlines()[-1] == (
        "captioner: error: stopped by SIGTERM; rerun the same command to resume"
    )
    assert not list(study.glob("*/*/failed"))

    # One run that cannot go on does not keep the others from their end.
    blocked = study / "cell=lstm" / "seed-1"
    blocked.mkdir(parents=True, exist_ok=True)
    (blocked / "checkpoints").write_text("a file where a folder should be")
    result = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"}
    )
    assert result.returncode == 1
    assert "3 of 4 runs" in result.stdout
    assert "missing: cell=lstm seed 1: " in result.stdout
    last = result.stderr.splitlines()[-1]
    assert last.startswith("captioner: 1 of 4 runs failed; see the table for the reasons")
    assert "Traceback" not in result.stderr
    assert "Traceback" in (blocked / "log.txt").read_text()

"""Logging to W&B: rows carry their step, resumed runs continue, and W&B errors end no run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_jsonl
from test_run import arguments

from captioner import checkpoint
from captioner.cli import main
from captioner.training.wandb_log import WandbLog, log_study, new_run_id, open_wandb_log

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, of many kinds


class Run:
    """Stands in for W&B's run."""

    def __init__(self, error: Exception | None = None) -> None:
        self.rows: list[tuple[dict[str, Any], int | None]] = []
        self.error = error

    def log(self, row: dict[str, Any], step: int | None = None) -> None:
        if self.error is not None:
            raise self.error
        self.rows.append((row, step))


def log_to(run: Run) -> WandbLog:
    log = WandbLog(offline=True)
    log._experiment = run  # type: ignore[assignment]
    return log


def test_rows_carry_their_step() -> None:
    run = Run()
    log_to(run).log_metrics({"loss": 2.0}, step=7)
    assert run.rows == [({"loss": 2.0, "trainer/global_step": 7}, 7)]


def test_an_error_is_reported_once_and_ends_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    import wandb

    log = log_to(Run(wandb.Error("the service\nis gone")))
    for step in range(3):
        log.log_metrics({"loss": 2.0}, step=step)
    assert capsys.readouterr().err.splitlines() == [
        "W&B: the service is gone; training continues, metrics.csv has all metrics"
    ]


def test_a_resumed_run_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    torch.manual_seed(0)
    root = write_jsonl(tmp_path)
    weights = root / "squeezenet.pth"
    torch.save(models.squeezenet1_1().state_dict(), weights)
    flags = arguments(root, "--encoder.weights", str(weights), "--trainer.max_epochs", "1")
    assert main(["prepare", *flags]) == 0
    opened: list[tuple[str, bool]] = []

    def note(output: Path, *, run_id: str, resumed: bool, **about: Any) -> None:
        opened.append((run_id, resumed))

    monkeypatch.setattr("captioner.training.parts.open_wandb_log", note)
    assert main(["train", *flags]) == 0
    last = str(root / "run" / "checkpoints" / "last.ckpt")
    assert main(["train", *flags, "--resume", last, "--trainer.max_epochs", "2"]) == 0
    run_id = checkpoint.read(Path(last))["captioner"]["wandb_run"]
    assert opened == [(run_id, False), (run_id, True)]


def test_disabled(tmp_path: Path) -> None:
    assert open_wandb_log(tmp_path, mode="disabled", run_id="a", resumed=False) is None


@pytest.fixture
def no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("no_key")
@pytest.mark.parametrize(("variable", "opened"), [(None, False), ("", False), ("offline", True)])
def test_auto_is_off_without_a_key(
    variable: str | None, opened: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("WANDB_MODE", variable)
    run = tmp_path / "run"
    log = open_wandb_log(run, mode="auto", run_id="a", resumed=False)
    assert (log is not None) == opened
    assert run.exists() == opened


@pytest.mark.slow
@pytest.mark.usefixtures("no_key")
@pytest.mark.parametrize("mode", ["auto", "offline"])
def test_a_run_is_silent_and_leaves_no_folder_behind(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_jsonl(tmp_path / "data")
    here = tmp_path / "here"
    here.mkdir()
    flags = arguments(root, "--wandb.mode", mode, "--trainer.max_epochs", "1")
    monkeypatch.chdir(here)
    assert main(["prepare", *flags]) == 0
    done = subprocess.run(
        [sys.executable, "-m", "captioner", "train", *flags], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{root / 'run' / 'checkpoints' / 'best.ckpt'}\n"
    about_wandb = [line for line in done.stderr.splitlines() if "W&B" in line or "wandb:" in line]
    command = f"wandb sync {root / 'run' / 'wandb'}/offline-run-*"
    said = f"W&B: the run is logged offline; `{command}` uploads it later"
    assert about_wandb == ([] if mode == "auto" else [said])
    assert not list(here.rglob("wandb"))
    assert (root / "run" / "wandb").is_dir() == (mode == "offline")


@pytest.mark.slow
@pytest.mark.usefixtures("no_key")
def test_a_study_logs_its_table_and_plots(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "plots.png")
    rows = [{"configuration": "cell=gru", "CIDEr-D": 0.5}, {"configuration": "cell=lstm"}]
    for _ in range(2):
        log_study(tmp_path, mode="offline", project="captioner", tags=[], rows=rows)
    run_id = (tmp_path / "wandb_run").read_text().strip()
    folders = list((tmp_path / "wandb").glob("offline-run-*"))
    assert {folder.name.rpartition("-")[2] for folder in folders} == {run_id}
    files = [file.name for folder in folders for file in folder.rglob("*.*")]
    assert any(name.startswith("study_") and name.endswith(".png") for name in files)
    assert any(name.startswith("runs_") and name.endswith(".table.json") for name in files)


def test_a_study_without_wandb_logs_nothing(tmp_path: Path) -> None:
    log_study(tmp_path, mode="disabled", project="captioner", tags=[], rows=[])
    assert list(tmp_path.iterdir()) == []


def test_the_sweep_fits_the_settings() -> None:
    """Every value of scripts/sweep.yaml is one that `captioner train` takes, as W&B passes it."""
    import yaml

    from captioner.config.checks import check
    from captioner.config.parser import config_parser, parse_config

    sweep = yaml.safe_load((ROOT / "scripts" / "sweep.yaml").read_text("utf-8"))
    command = sweep["command"][2].split()
    base = ROOT / command[command.index("--config") + 1]
    choices = {
        name: one.get("values") or [one["min"], one["max"]]
        for name, one in sweep["parameters"].items()
    }
    assert {"decoder.attention", "score.epochs"} <= set(choices)
    parser = config_parser("train", "")
    for i in range(max(map(len, choices.values()))):
        flags = [f"--{name}={values[i % len(values)]}" for name, values in choices.items()]
        config, _ = parse_config(parser, ["--config", str(base), *flags])
        check(config)
        assert config.decoder.attention == choices["decoder.attention"][i % 4]
    assert sweep["metric"]["name"] == "val/CIDEr-D"


def test_ids_differ() -> None:
    assert len({new_run_id() for _ in range(100)}) == 100

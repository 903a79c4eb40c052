"""The CSV log: columns that come later, and a resumed run."""

import csv
import io
from pathlib import Path

from captioner.training.csv_log import CSVLog


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_columns_may_come_later(tmp_path: Path) -> None:
    log = CSVLog(tmp_path / "metrics.csv")
    log.log_metrics({"epoch": 0, "loss": 2.5}, step=1)
    assert rows(log.path) == [{"epoch": "0", "step": "1", "loss": "2.5"}]
    log.log_metrics({"epoch": 0, "score": 0.5}, step=2)
    log.log_metrics({"epoch": 1, "loss": 1.5}, step=3)
    assert [row["loss"] for row in rows(log.path)] == ["2.5", "", "1.5"]
    assert [row["score"] for row in rows(log.path)] == ["", "0.5", ""]


def test_resumed_run_goes_on_below_the_rows_before_its_checkpoint(tmp_path: Path) -> None:
    first = CSVLog(tmp_path / "metrics.csv")
    for step in range(6):
        first.log_metrics({"epoch": 0, "loss": step}, step=step)
    second = CSVLog(tmp_path / "metrics.csv", resume_step=4)
    second.log_metrics({"epoch": 1, "loss": 40, "new": 1}, step=4)
    assert [row["step"] for row in rows(second.path)] == ["0", "1", "2", "3", "4"]
    assert [row["loss"] for row in rows(second.path)][-1] == "40"


def test_a_new_run_starts_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,step,loss\n0,0,1\n")
    log = CSVLog(tmp_path / "metrics.csv")
    log.log_metrics({"epoch": 0, "loss": 7}, step=0)
    assert [row["loss"] for row in rows(log.path)] == ["7"]

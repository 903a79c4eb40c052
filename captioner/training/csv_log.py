"""The run's numbers as one CSV file that a spreadsheet opens and a resumed run continues."""

import csv
import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers.logger import Logger

from captioner.whole_file import write_whole

FIRST_COLUMNS = ("epoch", "step")


class CSVLog(Logger):
    """Writes `metrics.csv`: a row for each logged step, a column for each number.

    Lightning's own CSV logger empties the file when a run is resumed. This one keeps the rows up to
    the step that the run is resumed from and goes on below them. A row is on disk as soon as it is
    logged; when a new column appears, the file is written anew beside the old one and moved.

    Args:
        path: the file.
        resume_step: optimiser step of the checkpoint that the run goes on from; rows of later
            steps came from the part of the run that was lost. None starts a new file.
    """

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.path = path
        self.columns: list[str] = list(FIRST_COLUMNS)
        self.rows: list[dict[str, Any]] = []
        if resume_step is not None and path.is_file():
            with path.open(newline="") as file:
                reader = csv.DictReader(file)
                self.columns = list(reader.fieldnames or FIRST_COLUMNS)
                self.rows = [row for row in reader if int(row["step"]) < resume_step]
        self._started = False

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """One run has one file."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kw: Any) -> None:
        """Not written here: config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row."""
        row: dict[str, Any] = {"step": step, **metrics}
        self.rows.append(row)
        new = [name for name in row if name not in self.columns]
        if new or not self._started:
            self.columns += new
            self._write_anew()
            return
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def _write_anew(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows)
        write_whole(self.path, text.getvalue())
        self._started = True

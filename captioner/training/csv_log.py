"""Log a run's metrics to one CSV file that a resumed run continues."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers.logger import Logger

from captioner.errors import CaptionerError
from captioner.files.atomic import write_whole
from captioner.files.csv_rows import append_rows, text_of, whole_rows

FIRST_COLUMNS = ("epoch", "step")


class CSVLog(Logger):
    """Writes `metrics.csv`: one row per logged step, one column per metric.

    Lightning's own CSV logger empties the file when a run resumes. This one keeps the rows up to
    the step of the checkpoint and appends new rows below them. Each row is on disk as soon as it is
    logged. When a new column appears, the whole file is rewritten atomically.

    Args:
        path: The file.
        resume_step: Optimiser step of the checkpoint that the run resumes from. Rows of later steps
            are dropped, because that part of the run was lost. None starts a new file.
    """

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.path = path
        self.columns: list[str] = list(FIRST_COLUMNS)
        self.rows: list[dict[str, Any]] = []
        before = [] if resume_step is None else whole_rows(path)
        if before and resume_step is not None:
            self.columns, *rows = before
            named = [dict(zip(self.columns, row, strict=True)) for row in rows]
            self.rows = [row for row in named if int(row["step"]) < resume_step]
            if resume_step == 0:  # the validation before the first step
                self.rows = [row for row in named[:1] if row.get("val/loss")]
        self._started = False

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Empty, because a run has one file."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kw: Any) -> None:
        """Do nothing: config.yaml holds the hyperparameters."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row.

        Raises:
            CaptionerError: The file cannot be written.
        """
        row: dict[str, Any] = {"step": step, **metrics}
        self.rows.append(row)
        new = [name for name in row if name not in self.columns]
        if new or not self._started:
            self.columns += new
            self._write_anew()
            return
        append_rows(self.path, [self._cells(row)])

    def _write_anew(self) -> None:
        rows = [self.columns, *map(self._cells, self.rows)]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, text_of(rows))
        except OSError as error:
            raise CaptionerError(
                f"{self.path}: cannot be written: {error.strerror or error}"
            ) from error
        self._started = True

    def _cells(self, row: Mapping[str, Any]) -> list[Any]:
        return [row.get(column, "") for column in self.columns]

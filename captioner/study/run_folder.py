"""Read and write a run's folder: its state and its results.

Besides the files of `captioner train`, it holds `log.txt` (the run's output), `trained` (the name
of the best checkpoint, written after training), `captions.json`, `per_image.jsonl` and, written
last, `summary.json`. A failed run has `failed`, with the reason. A study killed at any time resumes
from these files.
"""

import csv
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from captioner.config.parser import read_yaml
from captioner.config.schema import Config
from captioner.config.settings import flat, from_dict
from captioner.errors import CaptionerError, UsageError
from captioner.files.atomic import write_whole
from captioner.files.json_file import MAX_SMALL_BYTES, read_json
from captioner.study.plan import Run, shown
from captioner.training.run_files import last_checkpoint

State = Literal["done", "trained", "started", "new"]

IDLE = (
    "checkpoint.",
    "output",
    "data.features",
    "data.workers",
    "encoder.batch_size",
    "encoder.workers",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "wandb.",
    "watch.",
)
"""Settings that do not affect a run's result: where it is stored and how it is logged."""


@dataclass(frozen=True)
class Summary:
    """Result of a run.

    Attributes:
        split: Split whose captions were scored.
        scores: Scores by name, on the scale of the COCO tool.
        recipe: Settings that produced the scores.
        parameters: Number of weights of the decoder.
        words_per_second: Training throughput in the median epoch; None if it was not logged.
        best_epoch: Epoch of the scored checkpoint, counted from 1.
        epochs: Epochs of the whole run.
    """

    split: str
    scores: dict[str, float]
    recipe: dict[str, str | int | float]
    parameters: int
    words_per_second: float | None
    best_epoch: int
    epochs: int


def state_of(run: Run, split: str) -> State:
    """Return a run's state: done (scored on the split), trained, started or new.

    Raises:
        UsageError: The folder holds a run with other settings.
    """
    check_same(run)
    summary = read_summary(run.folder)
    if summary is not None and summary.split == split:
        return "done"
    if (run.folder / "trained").is_file():
        return "trained"
    return "started" if last_checkpoint(run.folder).is_file() else "new"


def check_same(run: Run) -> None:
    """Refuse a folder that holds another run.

    Raises:
        UsageError: The message names a setting that differs.
    """
    path = run.folder / "config.yaml"
    if not path.is_file() or not (
        last_checkpoint(run.folder).is_file() or (run.folder / "trained").is_file()
    ):
        return
    try:
        before = from_dict(Config, read_yaml(path))
    except (CaptionerError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a run configuration; remove {run.folder}") from error
    for name, (old, new) in differences(before, run.config).items():
        raise UsageError(
            f"{run.folder} holds a run with {name} {shown(old)}, this study needs {shown(new)}; "
            f"choose another --output, or remove that folder"
        )


def differences(first: Config, second: Config) -> dict[str, tuple[Any, Any]]:
    """Return the settings that affect the result and differ between two runs, by dotted name."""
    ours, theirs = dict(flat(asdict(first))), dict(flat(asdict(second)))
    return {
        name: (ours[name], theirs[name])
        for name in ours
        if ours[name] != theirs[name] and not name.startswith(IDLE)
    }


def read_summary(folder: Path) -> Summary | None:
    """Read the summary of a run; return None if the run has not finished.

    Raises:
        CaptionerError: The file is damaged.
    """
    path = folder / "summary.json"
    if not path.is_file():
        return None
    try:
        values = read_json(path, MAX_SMALL_BYTES)
        if not isinstance(values, dict):
            raise TypeError("it is not an object")
        return Summary(**values)
    except (CaptionerError, TypeError) as error:
        raise CaptionerError(f"{path}: damaged; remove it to score the run again") from error


def record_failure(folder: Path, reason: str) -> None:
    """Record why a run ended without a summary."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "failed", reason + "\n")


def forget_failure(folder: Path) -> None:
    """Remove the record of a failure, before another attempt."""
    (folder / "failed").unlink(missing_ok=True)


def read_failure(folder: Path) -> str | None:
    """Return why a run ended without a summary; None if it did not fail."""
    path = folder / "failed"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


@dataclass(frozen=True)
class Curves:
    """Learning curves of a run.

    Attributes:
        train_loss: Mean of each epoch, placed at the epoch's middle: (epochs, nats per word);
            without epochs on the score, whose loss is minus a reward.
        val_loss: Value after each epoch: (epochs, nats per word).
        words_per_second: Training throughput of each epoch.
    """

    train_loss: list[tuple[float, float]]
    val_loss: list[tuple[float, float]]
    words_per_second: list[float]

    @property
    def median_speed(self) -> float | None:
        """Training throughput in words per second, in the median epoch; None without epochs."""
        return median(self.words_per_second) if self.words_per_second else None


def read_curves(folder: Path) -> Curves:
    """Read the curves from `metrics.csv`; they are empty if the file is missing."""
    losses: dict[int, list[float]] = {}
    val: dict[int, float] = {}
    speed: dict[int, float] = {}
    path = folder / "metrics.csv"
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if not row.get("epoch"):
                    continue  # a row with only a learning rate
                epoch = int(float(row["epoch"]))
                if row.get("train/loss") and not row.get("train/sampled_reward"):
                    losses.setdefault(epoch, []).append(float(row["train/loss"]))
                if row.get("val/loss"):
                    val[epoch] = float(row["val/loss"])
                if row.get("words_per_second"):
                    speed[epoch] = float(row["words_per_second"])  # the last of an epoch is best
    return Curves(
        [(epoch + 0.5, sum(values) / len(values)) for epoch, values in losses.items()],
        [(epoch + 1.0, value) for epoch, value in val.items()],
        list(speed.values()),
    )

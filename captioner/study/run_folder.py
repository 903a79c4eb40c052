"""A run's folder: how far the run has come, and what came out.

Beside what `captioner train` writes there are `log.txt` (what the run said), `trained` (the name of
the best checkpoint, there once training has ended), `captions.json`, `per_image.jsonl` and, last of
all, `summary.json`; or `failed`, with the reason. Whatever moment a study is killed at, these tell
where to go on.
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
"""Settings that cannot change what a run comes to: where it is kept and how it is watched."""


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        split: whose captions were scored.
        scores: by name, as the COCO tool gives them.
        recipe: what produced the scores.
        parameters: weights of the decoder.
        words_per_second: words learned from in a second, in the median epoch; None if not logged.
        best_epoch: the epoch of the checkpoint that was scored, counted from 1.
        epochs: epochs of the whole run.
    """

    split: str
    scores: dict[str, float]
    recipe: dict[str, str | int | float]
    parameters: int
    words_per_second: float | None
    best_epoch: int
    epochs: int


def state_of(run: Run, split: str) -> State:
    """How far a run has come: scored on the split, trained, begun, or not even that.

    Raises:
        UsageError: the folder holds a run with other settings.
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
        UsageError: the message names a setting that differs.
    """
    path = run.folder / "config.yaml"
    if not path.is_file() or not (
        last_checkpoint(run.folder).is_file() or (run.folder / "trained").is_file()
    ):
        return
    try:
        before = from_dict(Config, read_yaml(path))
    except (CaptionerError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not the configuration of a run; remove {run.folder}") from error
    for name, (old, new) in differences(before, run.config).items():
        raise UsageError(
            f"{run.folder} holds a run with {name} {shown(old)}, and this study asks for "
            f"{shown(new)}; choose another --output, or remove that folder"
        )


def differences(first: Config, second: Config) -> dict[str, tuple[Any, Any]]:
    """Settings, by dotted name, in which two runs differ, among those that matter."""
    ours, theirs = dict(flat(asdict(first))), dict(flat(asdict(second)))
    return {
        name: (ours[name], theirs[name])
        for name in ours
        if ours[name] != theirs[name] and not name.startswith(IDLE)
    }


def read_summary(folder: Path) -> Summary | None:
    """What a run came to; None if it has not ended.

    Raises:
        CaptionerError: the file is damaged.
    """
    path = folder / "summary.json"
    if not path.is_file():
        return None
    try:
        values = read_json(path, MAX_SMALL_BYTES)
        if not isinstance(values, dict):
            raise TypeError("no object")
        return Summary(**values)
    except (CaptionerError, TypeError) as error:
        raise CaptionerError(f"{path}: damaged; remove it to score the run again") from error


def record_failure(folder: Path, reason: str) -> None:
    """Note why a run ended without a summary."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "failed", reason + "\n")


def forget_failure(folder: Path) -> None:
    """Take the note away, before another attempt."""
    (folder / "failed").unlink(missing_ok=True)


def read_failure(folder: Path) -> str | None:
    """Why a run ended without a summary; None if it did not."""
    path = folder / "failed"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


@dataclass(frozen=True)
class Curves:
    """How a run went.

    Attributes:
        train_loss: mean over each epoch, at the epoch's middle: (epochs gone by, nats a word).
        val_loss: after each epoch: (epochs gone by, nats a word).
        words_per_second: of each epoch.
    """

    train_loss: list[tuple[float, float]]
    val_loss: list[tuple[float, float]]
    words_per_second: list[float]

    @property
    def median_speed(self) -> float | None:
        """Words learned from in a second, in the median epoch."""
        return median(self.words_per_second) if self.words_per_second else None


def read_curves(folder: Path) -> Curves:
    """The curves that `metrics.csv` holds; empty ones where there is none."""
    losses: dict[int, list[float]] = {}
    val: dict[int, float] = {}
    speed: dict[int, float] = {}
    path = folder / "metrics.csv"
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if not row.get("epoch"):
                    continue  # a learning rate, logged by itself
                epoch = int(float(row["epoch"]))
                if row.get("train/loss"):
                    losses.setdefault(epoch, []).append(float(row["train/loss"]))
                if row.get("val/loss"):
                    val[epoch] = float(row["val/loss"])
                if row.get("words_per_second"):
                    speed[epoch] = float(row["words_per_second"])  # grows surer within an epoch
    return Curves(
        [(epoch + 0.5, sum(values) / len(values)) for epoch, values in losses.items()],
        [(epoch + 1.0, value) for epoch, value in val.items()],
        list(speed.values()),
    )

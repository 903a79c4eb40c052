"""Where a run starts: at its beginning, or at a checkpoint that fits its settings."""

from dataclasses import dataclass
from pathlib import Path

from captioner import checkpoint
from captioner.errors import UsageError
from captioner.features.prepare import Prepared
from captioner.training.wandb_log import new_run_id


@dataclass(frozen=True)
class Start:
    """Where a run starts.

    Attributes:
        checkpoint: the file that training resumes from; None begins a run.
        step: optimiser step of that checkpoint; None begins a run.
        wandb_run: W&B's name for the run.
    """

    checkpoint: Path | None
    step: int | None
    wandb_run: str


def start_of(resume: Path | None, prepared: Prepared) -> Start:
    """The start of a run, after checking the checkpoint that it resumes from.

    Raises:
        UsageError: no checkpoint, or one whose vocabulary is another.
    """
    if resume is None:
        return Start(None, None, new_run_id())
    raw = checkpoint.read(resume)
    if raw["captioner"]["vocabulary"] != list(prepared.vocabulary.words):
        raise UsageError(
            f"{resume}: its vocabulary of {len(raw['captioner']['vocabulary'])} words is not that "
            f"of these captions ({len(prepared.vocabulary)} words); resume with the data and the "
            "vocabulary settings that it was trained with"
        )
    known = raw["captioner"].get("wandb_run")
    return Start(resume, int(raw["global_step"]), known or new_run_id())

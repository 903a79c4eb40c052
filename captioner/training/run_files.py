"""Locate a run's checkpoints, and decide whether a run starts, resumes or is refused.

Imports nothing heavy, so that a wrong call fails before torch is loaded.
"""

import shlex
from pathlib import Path

from captioner.errors import UsageError

AUTO = "auto"
"""Value of `--resume` that resumes the run if there is one, and starts a new run otherwise."""


def last_checkpoint(output: Path) -> Path:
    """Return the path of the checkpoint that a run resumes from."""
    return output / "checkpoints" / "last.ckpt"


def best_checkpoint(output: Path) -> Path:
    """Return the path of the checkpoint with the best validation score."""
    return output / "checkpoints" / "best.ckpt"


def resume_command(last: Path) -> str:
    """Return the shell command that resumes the run of a checkpoint."""
    config = last.parents[1] / "config.yaml"
    return shlex.join(["captioner", "train", "--config", str(config), "--resume", str(last)])


def to_resume(output: Path, resume: str | None) -> Path | None:
    """Return the checkpoint that `--resume` selects, or None for a new run.

    Raises:
        UsageError: The checkpoint does not exist, or the folder holds a run and `--resume` is not
            given.
    """
    last = last_checkpoint(output)
    if resume == AUTO:
        return last if last.is_file() else None
    if resume is None:
        if last.exists():
            raise UsageError(
                f"output: {output} already holds a run; resume it with --resume {last}, or "
                f"choose another --output"
            )
        return None
    if not Path(resume).is_file():
        near = f"; the run in {output} has {last}" if last.is_file() else ""
        raise UsageError(f"--resume: no checkpoint {resume}{near}")
    return Path(resume)

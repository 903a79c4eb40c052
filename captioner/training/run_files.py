"""Where a run keeps its checkpoints, and whether it is begun, gone on with, or refused.

Imports nothing heavy: a call that is wrong is told so before torch is loaded.
"""

import shlex
from pathlib import Path

from captioner.errors import UsageError

AUTO = "auto"
"""Value of `--resume` that goes on with the run if there is one, and begins it if there is none."""


def last_checkpoint(output: Path) -> Path:
    """The checkpoint that a run goes on from."""
    return output / "checkpoints" / "last.ckpt"


def best_checkpoint(output: Path) -> Path:
    """The checkpoint with the best validation score so far."""
    return output / "checkpoints" / "best.ckpt"


def resume_command(last: Path) -> str:
    """The command that resumes the run of a checkpoint, to be pasted into a shell."""
    config = last.parents[1] / "config.yaml"
    return shlex.join(["captioner", "train", "--config", str(config), "--resume", str(last)])


def to_resume(output: Path, resume: str | None) -> Path | None:
    """The checkpoint that `--resume` asks for; None begins a run.

    Raises:
        UsageError: no such checkpoint; or none was asked for, and the folder holds a run.
    """
    last = last_checkpoint(output)
    if resume == AUTO:
        return last if last.is_file() else None
    if resume is None:
        if last.exists():
            raise UsageError(
                f"output: {output} already holds a run; continue it with --resume {last}, or "
                f"choose another --output"
            )
        return None
    if not Path(resume).is_file():
        near = f"; the run in {output} has {last}" if last.is_file() else ""
        raise UsageError(f"--resume: no checkpoint {resume}{near}")
    return Path(resume)

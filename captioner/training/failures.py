"""Turn the errors that end a run into one line that names the checkpoint to resume from."""

import re
from collections.abc import Sequence
from pathlib import Path

from captioner.datasets.records import ImageId
from captioner.errors import CaptionerError, UsageError

SHOWN_IDS = 8
"""Maximum number of image ids named in a message."""


class TerminatedError(CaptionerError):
    """The process received SIGTERM and wrote a checkpoint before it ended."""

    exit_code = 143  # 128 + 15, as a shell reports a process that SIGTERM ended


class InterruptedRunError(TerminatedError):
    """The user interrupted the run (Ctrl-C)."""

    exit_code = 130  # 128 + 2, as a shell reports it


class NotFiniteError(CaptionerError):
    """A loss or a gradient is infinite or NaN."""


def named(ids: Sequence[ImageId]) -> str:
    """Return the first ids as text for a message, and the number of the rest."""
    more = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
    return ", ".join(repr(image_id) for image_id in ids[:SHOWN_IDS]) + more


def explained(error: Exception, last: Path, step: int) -> CaptionerError | None:
    """Return a training error as one line, or None if the error is a bug.

    Args:
        error: The exception that training raised.
        last: The run's last.ckpt, which may not exist yet.
        step: Optimiser step of that checkpoint.
    """
    if isinstance(error, (TerminatedError, UsageError)):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, CaptionerError):
        # torch re-raises the error of a data worker with its traceback as the message.
        found = re.search(r"captioner\.errors\.\w+: (.*)$", text)
        reason = found[1] if found and text.startswith("Caught ") else text
    elif isinstance(error, (ConnectionError, EOFError)) or "DataLoader worker" in text:
        reason = (
            f"a process that loads batches died ({text or type(error).__name__}); if memory ran "
            "out, reduce data.workers or data.batch_size"
        )
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        reason = f"{where}{error.strerror or error}"
    elif re.search(r"gloo|NCCL|Connection (closed|reset)", text):
        reason = f"another process of this run ended or lost its connection ({text[:120]})"
    else:
        return None
    where_to = f"the last good checkpoint is {last}" + (f" (step {step})" if step else "")
    if not last.is_file():
        where_to = "there is no checkpoint yet"
    return CaptionerError(f"{reason.removesuffix('.')}; {where_to}")

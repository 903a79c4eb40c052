"""Files that appear under their name only when they are whole."""

import os
from pathlib import Path

from captioner.errors import UsageError


def check_folder(name: str | None, flag: str) -> None:
    """See to it that a file can be made, before the work that fills it.

    Raises:
        UsageError: its folder is not there, or it is a folder itself.
    """
    if name is None:
        return
    path = Path(name)
    if path.is_dir():
        raise UsageError(f"{flag}: {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"{flag}: no folder {path.parent}")


def write_whole(path: Path, text: str) -> None:
    """Write a file under another name and move it, so that no half of it is ever seen."""
    draft = path.with_name(path.name + ".part")
    try:
        # As it stands: the csv module sees to its own line ends.
        with draft.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # the new name may reach the disk before the text does
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)

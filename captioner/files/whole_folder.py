"""Write a folder atomically: it appears under its name with all its files, or not at all."""

import contextlib
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from captioner.errors import UsageError
from captioner.files.atomic import cannot_be_written, sync_folder
from captioner.files.lock import take_lock

_DRAFT = re.compile(r"\.[0-9a-f]{16}\.part")
"""End of a draft's name, after a period and the folder's own name."""

_LOCK = ".lock"
"""File in a draft whose writer holds a lock on it."""


def check_replaceable(folder: Path, own: Collection[str], flag: str) -> None:
    """Check that a folder can be written, before the work that fills it.

    Args:
        folder: The folder.
        own: Names that the program writes into such a folder. The first is in every one of them.
        flag: The flag that names the folder, for the message.

    Raises:
        UsageError: It is a file, it holds anything else, or its parent does not exist.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{flag}: {folder} is a file or a link; name a folder")
    if not folder.absolute().parent.is_dir():
        raise UsageError(f"{flag}: no folder {folder.absolute().parent}")
    if folder.is_dir():
        names = sorted(path.name for path in folder.iterdir())
        strange = [name for name in names if name not in own]
        if strange or (names and next(iter(own)) not in names):
            raise UsageError(
                f"{flag}: {folder} holds {(strange or names)[0]}, which would be lost; name a new "
                "or an empty folder"
            )


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a draft that replaces the folder if the `with` block ends without an error.

    Raises:
        CaptionerError: It cannot be written. An existing folder is unchanged.
    """
    folder = folder.absolute()
    _remove_abandoned(folder)
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.part")
    with cannot_be_written(folder), contextlib.ExitStack() as held:
        draft.mkdir()
        try:
            lock = held.enter_context((draft / _LOCK).open("wb"))
            with contextlib.suppress(OSError):  # some file systems have no locks
                take_lock(lock)
            yield draft
            lock.close()
            (draft / _LOCK).unlink()
            sync_folder(draft)
            if folder.is_dir():
                replaced = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.part")
                folder.rename(replaced)
                draft.rename(folder)
                shutil.rmtree(replaced, ignore_errors=True)
            else:
                draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        sync_folder(folder.parent)


def _remove_abandoned(folder: Path) -> None:
    """Remove drafts of the folder whose writers were killed."""
    beginning = f".{folder.name}"
    with contextlib.suppress(OSError):
        for path in folder.parent.iterdir():
            rest = path.name.removeprefix(beginning)
            if path.name.startswith(beginning) and _DRAFT.fullmatch(rest):
                with contextlib.suppress(OSError), (path / _LOCK).open("r+b") as lock:
                    if take_lock(lock):
                        shutil.rmtree(path, ignore_errors=True)

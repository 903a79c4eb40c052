"""An exclusive lock on a folder, which the operating system releases with the process."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.files.lock import take_lock

NAME = "lock"


@contextmanager
def held_folder(folder: Path, work: str) -> Iterator[None]:
    """Lock a folder for the duration of a `with` block.

    The lock belongs to the process, not to the file. After a kill, the lock file remains but does
    not block anyone.

    Args:
        folder: The folder; created if missing.
        work: Description of the work for the error message, such as "training run".

    Raises:
        CaptionerError: Another process holds the lock. The message has process, host and time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    with path.open("a+b", buffering=0) as file:
        if not take_lock(file):
            file.seek(0)
            holder = " ".join(file.read(500).decode("utf-8", "replace").split())
            raise CaptionerError(
                f"{folder}: another {work} is writing there ({holder or 'of unknown process'}); "
                "wait until it ends, or choose another --output"
            )
        # A forked process (a data loader worker) would otherwise hold the lock after this one ends.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=file.close)
        with suppress(OSError):  # on a full disk, the lock works without its text
            file.truncate(0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(f"process {os.getpid()} on {socket.gethostname()}, since {since}".encode())
        yield

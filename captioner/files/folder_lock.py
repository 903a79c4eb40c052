"""A folder that one process at a time works in; the operating system frees it when it ends."""

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
    """Hold a folder while the block runs.

    The lock belongs to the process, not to the file: after a kill, however sudden, the file stays
    and blocks nobody.

    Args:
        folder: Is made if it is absent.
        work: What the other process is, for the message: "training run".

    Raises:
        CaptionerError: Another process holds it; the message names process, host and time.
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
        # A forked process (one that loads batches) would keep the lock beyond our end.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=file.close)
        with suppress(OSError):  # a full disk: the lock holds without its text
            file.truncate(0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(f"process {os.getpid()} on {socket.gethostname()}, since {since}".encode())
        yield

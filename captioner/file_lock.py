"""A lock that one process holds, until it ends at the latest."""

import sys
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt

    def take_lock(file: BinaryIO) -> bool:
        """Take the lock until the file is closed; False if another process has it."""
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def take_lock(file: BinaryIO) -> bool:
        """Take the lock until the file is closed; False if another process has it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

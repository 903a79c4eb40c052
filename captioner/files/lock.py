"""Advisory file locks, exclusive or shared, that the operating system releases with the process."""

import sys
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt

    def take_lock(file: BinaryIO, *, shared: bool = False) -> bool:
        """Take the lock until the file is closed; False if another process has it."""
        if shared:  # Windows has no shared locks
            return True
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def take_lock(file: BinaryIO, *, shared: bool = False) -> bool:
        """Take the lock until the file is closed; return False if another process holds it.

        Any number of processes may hold it shared; one process may hold it exclusively.
        """
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

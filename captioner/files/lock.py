"""A lock that one process holds, or several share, until they end at the latest."""

import sys
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt

    def take_lock(file: BinaryIO, *, shared: bool = False) -> bool:
        """Take the lock until the file is closed; False if another process has it."""
        if shared:  # there is no such lock here
            return True
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def take_lock(file: BinaryIO, *, shared: bool = False) -> bool:
        """Take the lock until the file is closed; False if another process has it.

        Several processes may share it, and then nobody has it alone.
        """
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

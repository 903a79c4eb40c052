"""Input files opened safely: regular files only, and never more bytes than a stated bound.

A name may come from a stranger: a checkpoint's configuration names the data set that `evaluate`
reads, and a folder from somewhere may hold a FIFO or a link to a device. A FIFO would block for
ever and `/dev/zero` would fill the memory, so every reader opens its files here.
"""

import os
import stat
from io import BufferedReader
from pathlib import Path

from captioner.errors import CaptionerError

_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISSOCK, "a socket"),
)

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)  # opening a FIFO returns at once
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)


class NotRegularError(OSError):
    """What a name stands for is no regular file; `strerror` says what it is."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading bytes.

    Nothing else is opened, so a device does not notice and a FIFO does not block. The kind is
    checked again on the open file, which cannot be exchanged any more.

    Raises:
        NotRegularError: It is a FIFO, a device or a socket.
        OSError: It is a folder, does not exist, or cannot be read.
    """
    try:
        _check_kind(path, path.stat().st_mode)
        descriptor = os.open(path, _FLAGS)
    except ValueError:  # a NUL byte in the name
        raise OSError(22, "not a valid file name", str(path)) from None
    try:
        _check_kind(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, most: int) -> bytes:
    """Return the bytes of a regular file.

    Args:
        path: The file.
        most: Bytes at most; a file that has more is refused before it is read.

    Raises:
        CaptionerError: It has more bytes.
        OSError: As `open_regular`.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= most:
            data = file.read(most + 1)  # it may be growing, or of /proc, where sizes are 0
            size = len(data)
        if size > most:
            raise CaptionerError(f"{path}: has more than the {most:,} bytes allowed")
        return data


def _check_kind(path: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "Is a directory", str(path))
    kind = next((name for test, name in _KINDS if test(mode)), "no file")
    raise NotRegularError(22, f"is {kind}, not a regular file", str(path))

"""Open input files safely: regular files only, with a bounded size.

File names may be untrusted. A checkpoint's configuration names the data set that `evaluate` reads,
and a downloaded folder may contain a FIFO or a link to a device. A FIFO would block forever and
`/dev/zero` would exhaust the memory. So all readers open their files here.
"""

import hashlib
import os
import stat
from collections.abc import Iterable
from functools import partial
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

_CHUNK = 2**16


class NotRegularError(OSError):
    """A path is not a regular file; `strerror` says what it is."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading bytes.

    Devices and FIFOs are refused before opening. The kind is checked again on the open descriptor,
    which cannot be exchanged.

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
    """Read a regular file.

    Args:
        path: The file.
        most: Maximum size in bytes. A larger file is refused before it is read.

    Raises:
        CaptionerError: The file is too large.
        OSError: As in `open_regular`.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # At most the file's size is allocated, not `most`. A file in /proc claims 0; a log grows.
        data = b"" if size > most else file.read(size)
        while size <= most and (more := file.read(_CHUNK)):
            data += more
            size = len(data)
        if size > most:
            raise CaptionerError(f"{path}: has more than the {most:,} bytes allowed")
        return data


def digest_of(paths: Iterable[Path]) -> str:
    """Return the blake2b-128 of each file in hexadecimal, joined by hyphens.

    Raises:
        OSError: A file cannot be read.
    """
    new = partial(hashlib.blake2b, digest_size=16)
    digests = []
    for path in paths:
        with open_regular(path) as file:
            digests.append(hashlib.file_digest(file, new).hexdigest())
    return "-".join(digests)


def _check_kind(path: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "Is a directory", str(path))
    kind = next((name for test, name in _KINDS if test(mode)), "no file")
    raise NotRegularError(22, f"is {kind}, not a regular file", str(path))

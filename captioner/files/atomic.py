"""The one way to write a file: it appears under its name only when it is whole and on the disk.

`whole_file` writes a draft beside the file and moves it into place. The draft has an unpredictable
name and is created exclusively, so nothing that lies in the folder, a link for example, is written
through. Its writer holds a lock on it: a later writer of the same file removes the drafts that
killed processes left, and no others.

A name that the user gave (`--output F`) goes through `named_output`, which does what a shell's
redirection does: a device, a FIFO or a socket is written to directly, and of a symbolic link the
target is replaced, never the link. Files whose names the program chose are replaced as they are: a
link under such a name is replaced by the file, because its target is not the program's.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from captioner.errors import CaptionerError, UsageError
from captioner.files.lock import take_lock

_DRAFT = re.compile(r"\.[0-9a-f]{16}\.part")
"""How a draft's name ends; the file's own name stands before it."""

_LONGEST = 200
"""Bytes of a file's name that its draft's name repeats; file systems allow 255 in all."""

_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def check_folder(name: str | None, flag: str) -> None:
    """Check that a file can be made, before the work that fills it.

    Raises:
        UsageError: Its folder does not exist, it is a folder itself, or a link to itself.
    """
    if name is None:
        return
    path = Path(name)
    if path.is_dir():
        raise UsageError(f"{flag}: {path} is a folder; name a file in it")
    try:
        folder = target_of(path).parent
    except OSError as error:
        raise UsageError(f"{flag}: {path}: {error.strerror or error}") from error
    if not folder.is_dir():
        raise UsageError(f"{flag}: no folder {folder}")


def target_of(path: Path) -> Path:
    """Return the file that a name stands for: of a symbolic link its target, there or not.

    Raises:
        OSError: Links that lead to one another.
    """
    if not path.is_symlink():
        return path
    try:
        return path.resolve()
    except RuntimeError as error:  # Python before 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file at once; text is written as UTF-8, its line ends as they are.

    Raises:
        CaptionerError: It cannot be written; what was there before still is.
    """
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_output(name: str | Path, content: str) -> None:
    """Write a file whose name the user gave, as `named_output` does.

    Raises:
        CaptionerError: It cannot be written.
    """
    with named_output(name) as file:
        file.write(content.encode())


@contextmanager
def named_output(name: str | Path) -> Iterator[BinaryIO]:
    """Open a file whose name the user gave, for writing.

    Raises:
        CaptionerError: It cannot be written.
    """
    path = Path(name)
    if not is_stream(path):
        with whole_file(target_of(path)) as file:
            yield file
        return
    with cannot_be_written(path), _open_stream(path) as file:
        yield file


def is_stream(path: Path) -> bool:
    """Whether a name stands for a device, a FIFO, a socket or an open file such as /dev/stdout."""
    if _descriptor(path) is not None:
        return True
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a draft of a file, which replaces the file when the block ends without an error.

    The mode is that of the file replaced, or what the umask leaves of 0666.

    Raises:
        CaptionerError: It cannot be written; what was there before still is.
    """
    remove_drafts(path)
    with cannot_be_written(path):
        draft, file = _new_draft(path)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # the new name may reach the disk before the content does
                if sys.platform == "win32":  # which moves no open file
                    file.close()
                draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(path.parent)


def remove_drafts(path: Path) -> None:
    """Remove the drafts of a file whose writers were killed."""
    beginning = _shortened(path.name)
    with contextlib.suppress(OSError):
        names = [
            entry.name
            for entry in os.scandir(path.parent)
            if entry.name.startswith(beginning) and _DRAFT.fullmatch(entry.name[len(beginning) :])
        ]
        for name in names:
            _remove_if_abandoned(path.with_name(name))


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the file system lets a folder be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def cannot_be_written(path: Path) -> Iterator[None]:
    """Turn an operating system's error about a file or its draft into one line.

    Raises:
        CaptionerError: There was one; the message names the file.
        BrokenPipeError: The reader of a pipe has closed it, which is for `cli` to handle.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        other = error.filename is not None and Path(os.fsdecode(error.filename)).parent
        if other and other != path.parent:  # about another file: a photo being read, say
            raise
        reason = error.strerror or str(error)
        raise CaptionerError(f"{path}: cannot be written: {reason}") from error


def open_unfollowed(path: Path, flags: int) -> int:
    """Open a file, for writing, that must not be a symbolic link; returns the descriptor.

    A new file's mode is what the umask leaves of 0666.

    Raises:
        OSError: It is a link, or cannot be opened.
    """
    extra = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags | extra, 0o666)


def _new_draft(path: Path) -> tuple[Path, BinaryIO]:
    draft = path.with_name(f"{_shortened(path.name)}.{secrets.token_hex(8)}.part")
    file = os.fdopen(open_unfollowed(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")
    with contextlib.suppress(OSError):  # not every file system has locks, or modes
        take_lock(file)
        replaced = path.lstat()
        if stat.S_ISREG(replaced.st_mode):
            draft.chmod(stat.S_IMODE(replaced.st_mode))
    return draft, file


def _remove_if_abandoned(draft: Path) -> None:
    with contextlib.suppress(OSError), os.fdopen(open_unfollowed(draft, os.O_RDWR), "r+b") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and take_lock(file):
            draft.unlink(missing_ok=True)


def _shortened(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[:_LONGEST])


def _descriptor(path: Path) -> int | None:
    """Return the open file that a name such as /dev/fd/3 stands for."""
    text = str(path)
    if (stream := _STREAMS.get(text)) is not None:
        return stream
    found = re.fullmatch(r"/(?:dev|proc/self)/fd/([0-9]{1,9})", text)
    return int(found[1]) if found else None


def _open_stream(path: Path) -> BinaryIO:
    number = _descriptor(path)
    if number is not None:
        return os.fdopen(os.dup(number), "wb")
    if stat.S_ISSOCK(path.stat().st_mode):
        raise OSError(errno.ENXIO, "is a socket, which cannot be opened by its name", str(path))
    return path.open("wb")

"""Atomic writing: a file appears under its name only when it is complete and on disk.

`whole_file` writes a draft beside the file and renames it into place. The draft has an
unpredictable name and is created exclusively, so existing files and links are never written
through. Its writer holds a lock on it, so a later writer can remove drafts of killed processes and
no others.

Names given by the user (`--output F`) go through `named_output`, which behaves like shell
redirection: it writes directly to a device or FIFO, and replaces the target of a symbolic link, not
the link. Under names chosen by the program, a symbolic link is itself replaced by the file, because
its target does not belong to the program.
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
"""End of a draft's name, after the file's own name."""

_LONGEST = 200
"""Maximum bytes of the file's name in its draft's name; file systems allow 255 in total."""

_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def check_folder(name: str | None, flag: str) -> None:
    """Check that a file can be created, before doing the work that fills it.

    Raises:
        UsageError: Its folder does not exist, or the path is a folder or a circular link.
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
    """Resolve a symbolic link to its target, whether or not it exists.

    Raises:
        OSError: The links are circular.
    """
    if not path.is_symlink():
        return path
    try:
        return path.resolve()
    except RuntimeError as error:  # Python before 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically. Text is written as UTF-8 with unchanged line ends.

    Raises:
        CaptionerError: It cannot be written. An existing file is unchanged.
    """
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_output(name: str | Path, content: str) -> None:
    """Write a file named by the user, as in `named_output`.

    Raises:
        CaptionerError: It cannot be written.
    """
    with named_output(name) as file:
        file.write(content.encode())


@contextmanager
def named_output(name: str | Path) -> Iterator[BinaryIO]:
    """Open a file named by the user, for writing.

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
    """Return whether a path is a device, FIFO, socket or open file such as /dev/stdout."""
    if _descriptor(path) is not None:
        return True
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a draft that replaces the file if the `with` block ends without an error.

    The mode is that of the replaced file, or 0666 minus the umask.

    Raises:
        CaptionerError: It cannot be written. An existing file is unchanged.
    """
    remove_drafts(path)
    with cannot_be_written(path):
        draft, file = _new_draft(path)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(
                    file.fileno()
                )  # otherwise the rename may reach the disk before the content
                if sys.platform == "win32":  # which cannot rename an open file
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
    """Sync the directory entries of a folder to disk, if the file system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def cannot_be_written(path: Path) -> Iterator[None]:
    """Convert an operating system error about a file or its draft to a CaptionerError.

    Raises:
        CaptionerError: The file cannot be written. The message names it.
        BrokenPipeError: The reader closed the pipe; handled by `cli`.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        other = error.filename is not None and Path(os.fsdecode(error.filename)).parent
        if other and other != path.parent:  # about another file, such as a photo being read
            raise
        reason = error.strerror or str(error)
        raise CaptionerError(f"{path}: cannot be written: {reason}") from error


def open_unfollowed(path: Path, flags: int) -> int:
    """Open a file for writing unless it is a symbolic link, and return the descriptor.

    The mode of a new file is 0666 minus the umask.

    Raises:
        OSError: It is a link, or cannot be opened.
    """
    extra = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    return os.open(path, flags | extra, 0o666)


def _new_draft(path: Path) -> tuple[Path, BinaryIO]:
    draft = path.with_name(f"{_shortened(path.name)}.{secrets.token_hex(8)}.part")
    file = os.fdopen(open_unfollowed(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb")
    with contextlib.suppress(OSError):  # some file systems have no locks or modes
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
    """Return the file descriptor named by a path such as /dev/fd/3, or None."""
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

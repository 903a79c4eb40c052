"""What the interpreter does while a file is read, by its audit events: code, processes, writing.

    events = watched(lambda: read(path), folder=place)

Python's audit hooks cannot be removed, so one is added and switched on while something is watched.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CODE = ("exec", "compile", "import", "code.__new__", "function.__new__", "marshal.loads")
"""Source or code objects are made or run, or a module is imported."""

ROOMS = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "pty.", "tempfile.", "webbrowser.")
"""Modules all of whose events count."""

LOOKING = ("os.listdir", "os.scandir", "os.walk", "os.fwalk", "os.chdir")
"""Of those, what changes nothing (jsonargparse reads a configuration from inside its folder)."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_watching: list[str] | None = None
_folder: str | None = None
_hooked = False
_own: list[bytes] = []
"""The package's own source, which is parsed for the help texts of settings."""


def watched(call: Callable[[], object], folder: Path | None = None) -> list[str]:
    """Events of a call that a reader of a stranger's file must not cause; [] is right.

    A module that is imported late causes events as well, once. So a call that caused some is made
    again, and what counts is what it causes then.

    Args:
        call: what reads; its errors are passed over, for they are judged elsewhere.
        folder: where it may write.
    """
    with _recorded(folder) as first:
        _made(call)
    if not first:
        return []
    with _recorded(folder) as second:
        _made(call)
    return second


def _made(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        return


@contextmanager
def _recorded(folder: Path | None) -> Iterator[list[str]]:
    global _watching, _folder, _hooked, _own
    if not _hooked:
        files = (Path(__file__).parents[1] / "captioner").rglob("*.py")
        _own = [file.read_bytes() for file in files]
        sys.addaudithook(_hook)
        _hooked = True
    found: list[str] = []
    _folder = None if folder is None else os.path.realpath(folder)
    _watching = found
    try:
        yield found
    finally:
        _watching = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    watching = _watching
    if watching is None:
        return
    if event == "open":
        _, mode, flags = arguments
        writes = any(letter in mode for letter in "wax+") if mode else flags & WRITING
        counts = bool(writes) and not _inside(arguments[:1])
    elif event == "compile":
        counts = not _own_source(arguments[0])
    else:
        counts = event in CODE or (event.startswith(ROOMS) and event not in LOOKING)
        counts = counts and not (event.startswith("os.") and _inside(arguments))
    if counts:
        watching.append(f"{event} {arguments!r:.200}")


def _own_source(source: object) -> bool:
    """Whether a text is a piece of the package, too long to be one by chance."""
    return isinstance(source, bytes) and len(source) > 200 and any(source in own for own in _own)


def _inside(arguments: tuple[Any, ...]) -> bool:
    """Whether all paths among some arguments lie in the folder that may be written."""
    paths = [os.fsdecode(a) for a in arguments if isinstance(a, (str, bytes, os.PathLike))]
    if _folder is None or not paths:
        return False
    return all(os.path.realpath(path).startswith(_folder + os.sep) for path in paths)

"""Record what the interpreter does while a file is read, by audit events: code, processes, writes.

    events = watched(lambda: read(path), folder=place)

Python audit hooks cannot be removed. This module adds one and enables it while a call is watched.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CODE = ("exec", "compile", "import", "code.__new__", "function.__new__", "marshal.loads")
"""Events that compile or run code, or import a module."""

ROOMS = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "pty.", "tempfile.", "webbrowser.")
"""Modules whose events all count."""

LOOKING = ("os.listdir", "os.scandir", "os.walk", "os.fwalk", "os.chdir")
"""Events of those modules that change nothing (jsonargparse enters a configuration's folder)."""

TRACING = tuple(
    str(Path("captioner", "model", *file)) for file in (("backbones", "cut.py"), ("encoder.py",))
)
"""The only modules that have torch.fx write code: to trace a network, to fold its batch norm."""

DRIVERS = ("libnvidia-ml.so", "libcuda.so", "libamdhip64.so", "librocm_smi64.so")
"""Libraries that torch loads to ask whether there is a GPU."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_watching: list[str] | None = None
_folder: str | None = None
_hooked = False
_own: list[bytes] = []
"""The package's own source, which is parsed for the help texts of settings."""


def watched(call: Callable[[], object], folder: Path | None = None) -> list[str]:
    """Return the events of a call that reading an untrusted file must not cause; [] is expected.

    The first import of a module causes events too. A call that caused events is therefore repeated,
    and only the events of the second call count.

    Args:
        call: Reads the file; its errors are ignored here and judged elsewhere.
        folder: Folder that the call may write to.
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
    elif event == "ctypes.dlopen":
        counts = not str(arguments[0]).startswith(DRIVERS)
    elif event in CODE and _traces_library_network():
        counts = False
    elif event == "compile":
        counts = not _own_source(arguments[0])
    else:
        counts = event in CODE or (event.startswith(ROOMS) and event not in LOOKING)
        counts = counts and not (event.startswith("os.") and _inside(arguments))
    if counts:
        watching.append(f"{event} {arguments!r:.200}")


def _own_source(source: object) -> bool:
    """Return whether a text is part of the package's source and too long for a coincidence."""
    return isinstance(source, bytes) and len(source) > 200 and any(source in own for own in _own)


def _traces_library_network() -> bool:
    """Return whether torch.fx is tracing a network that torchvision or timm built.

    A checkpoint without a description names such a network. Its code is the library's own: the file
    only chooses among the names that the library lists (docs/security.md).
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.endswith(TRACING):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _inside(arguments: tuple[Any, ...]) -> bool:
    """Return whether all paths among the arguments lie in the writable folder."""
    paths = [os.fsdecode(a) for a in arguments if isinstance(a, (str, bytes, os.PathLike))]
    if _folder is None or not paths:
        return False
    return all(os.path.realpath(path).startswith(_folder + os.sep) for path in paths)

"""Read lists of paths in UTF-8 or UTF-16, with or without a byte order mark.

A line is a literal path, without comments, quoting or separators. Only if no such file exists,
surrounding quotes (Windows' "Copy as path") are removed and Windows-1252 bytes decoded.
"""

import codecs
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from captioner.errors import UsageError
from captioner.photos.paths import Spellings

MAX_LINE = 2**16
"""Maximum length of a line in characters: 16 times the longest path of Linux."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_list(path: Path) -> Iterator[str]:
    """Yield the paths in a file, one per line, skipping blank lines.

    Raises:
        UsageError: There is no such file, it is not text, or a line is too long.
    """
    try:
        with path.open("rb") as file:
            yield from paths_in(file, str(path))
    except FileNotFoundError as error:
        raise UsageError(f"--list: no file {path}") from error


def paths_of_stream(stream: TextIO) -> Iterator[str]:
    """Return the paths on a text stream such as `sys.stdin`, decoded in any locale."""
    binary = getattr(stream, "buffer", None)
    return _stripped(stream) if binary is None else paths_in(binary, "standard input")


def paths_in(file: io.BufferedReader, name: str) -> Iterator[str]:
    """Yield the paths in a binary file, decoded like `os.fsdecode`.

    Args:
        file: Read line by line, so that a pipe may be written while photos are captioned.
        name: Name of the file for error messages.

    Raises:
        UsageError: A line is longer than `MAX_LINE`, or the file is not text.
    """
    first = file.peek(4096)[:4096]
    encoding, mark = _encoding(first)
    if encoding == "utf-8" and b"\0" in first:
        raise UsageError(
            f"{name}: not a list of paths: it holds null bytes; write one path per line, as text"
        )
    file.read(mark)
    errors = "surrogateescape" if encoding == "utf-8" else "replace"
    # newline="\n": a carriage return may be part of a name; the one before a line feed is not.
    text = io.TextIOWrapper(file, encoding, errors, newline="\n")
    try:
        yield from _stripped(_lines(text, name))
    finally:
        text.detach()


def resolve(path: str, spellings: Spellings) -> Path:
    """Resolve a path from a list to an existing file.

    Tries the path as given, in another Unicode form, without surrounding quotes, and with non-UTF-8
    bytes decoded as Windows-1252. If no such file exists, the path is returned unchanged.
    """
    given = Path(path)
    for reading in _readings(path):
        found = spellings.on_disk(Path(reading))
        if os.path.lexists(found):
            return found
    return given


def _readings(path: str) -> Iterator[str]:
    yield path
    if len(path) > 2 and path[0] == path[-1] and path[0] in "\"'":
        path = path[1:-1]
        yield path
    if any("\udc80" <= character <= "\udcff" for character in path):
        yield path.encode("utf-8", "surrogateescape").decode("cp1252", "replace")


def _encoding(first: bytes) -> tuple[str, int]:
    """Return the encoding of a list by its first bytes, and the length of the byte order mark.

    Paths contain no null bytes, so null bytes at every second position mean UTF-16 without a mark.
    """
    for mark, encoding in _MARKS:
        if first.startswith(mark):
            return encoding, len(mark)
    even, odd = first[::2].count(0), first[1::2].count(0)
    if odd > max(4 * even, len(first) // 8):
        return "utf-16-le", 0
    if even > max(4 * odd, len(first) // 8):
        return "utf-16-be", 0
    return "utf-8", 0


def _lines(text: TextIO, name: str) -> Iterator[str]:
    while line := text.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise UsageError(
                f"{name}: not a list of paths: a line has {MAX_LINE:,} characters or more"
            )
        yield line


def _stripped(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        path = line.rstrip("\r\n")
        if path.strip():
            yield path

"""Append rows to a CSV file and read them back without partial rows."""

import contextlib
import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from captioner.errors import CaptionerError


def text_of(rows: Iterable[Sequence[Any]]) -> str:
    """Format rows as CSV.

    Example:
        >>> text_of([["a", 1], ["b, c", 2]]).splitlines()
        ['a,1', '"b, c",2']
    """
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def append_rows(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Append rows in one write. If it fails, restore the file.

    Raises:
        CaptionerError: The disk is full, or the file is not writable.
    """
    try:
        with path.open("ab", buffering=0) as file:
            before = file.tell()
            data = text_of(rows).encode()
            try:
                written = file.write(data)
                while written < len(data):  # a nearly full disk may accept a part
                    written += file.write(data[written:])
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(before)
                raise
    except OSError as error:
        raise CaptionerError(f"{path}: cannot be written: {error.strerror or error}") from error


def whole_rows(path: Path) -> list[list[str]]:
    """Return the complete rows of a file, including its header; none if there is no file."""
    if not path.is_file():
        return []
    text = path.read_bytes().decode("utf-8", "replace")
    text = text[: text.rfind("\n") + 1]
    rows = list(csv.reader(io.StringIO(text)))
    return [row for row in rows if len(row) == len(rows[0])]

"""Rows appended to a CSV file so that no half of a row is ever left or read."""

import contextlib
import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from captioner.errors import CaptionerError


def text_of(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def append_rows(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Append rows in one write; where that fails, the file is left as it was.

    Raises:
        CaptionerError: The disk is full, or the file may not be written.
    """
    try:
        with path.open("ab", buffering=0) as file:
            before = file.tell()
            data = text_of(rows).encode()
            try:
                written = file.write(data)
                while written < len(data):  # a disk that is filling up takes a part
                    written += file.write(data[written:])
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(before)
                raise
    except OSError as error:
        raise CaptionerError(f"{path}: cannot be written: {error.strerror or error}") from error


def whole_rows(path: Path) -> list[list[str]]:
    """Rows of a file, its header included, without one that was cut short; none without a file."""
    if not path.is_file():
        return []
    text = path.read_bytes().decode("utf-8", "replace")
    text = text[: text.rfind("\n") + 1]
    rows = list(csv.reader(io.StringIO(text)))
    return [row for row in rows if len(row) == len(rows[0])]

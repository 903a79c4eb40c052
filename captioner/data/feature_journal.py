"""The files of a feature store: what is written in them, and how much of it is to be trusted.

- ``store.json`` (`Header`): format version, the key (all that the features depend on besides the
  photos: the encoder, its weights' digest, the transform, pooled or grid, ...), shape and dtype of
  a row.
- ``features.bin``: the rows, each of the same size, one behind the other.
- ``index.jsonl`` (`Journal`): one `Line` a photo: its row number, id, path, size, time and digest
  and the row's checksum; or, for a photo that could not be read, the reason.

Both data files only ever grow. A line is written after its row is on the disk, and begins with a
checksum of itself; the journal ends at its first line that is not whole or whose row is not all
there. So a run killed at any byte leaves a valid store that lacks its last photos, and a damaged
line is never taken for a good one. Of two lines for one photo the later one counts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captioner.data.records import ImageId
from captioner.errors import CaptionerError

FORMAT = 1
"""Version of the files; a reader refuses any other."""

DTYPES = ("float16", "float32")


class StoreError(CaptionerError):
    """A store that cannot be read or written; the message says what would help."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One photo as it was when its features were computed.

    Attributes:
        image_id: The photo's id in its data set.
        path: Where it was; relative to the data set's root where it lies in there.
        size: Bytes of the file; None if there was no file.
        mtime_ns: Its time of modification, nanoseconds since 1970; None if there was no file.
        digest: blake2b-128 of its bytes, in hexadecimal; None if they could not be read.
    """

    image_id: ImageId
    path: str
    size: int | None
    mtime_ns: int | None
    digest: str | None

    @classmethod
    def of(cls, image_id: ImageId, path: Path, root: Path | None = None) -> Entry:
        """Look at a photo; one that is missing or cannot be read gives an entry that says so.

        Take it before the photo is decoded: should the file change in between, the features are
        then those of a later file and will be computed again, not trusted.
        """
        inside = root is not None and path.is_relative_to(root)
        name = str(path.relative_to(root) if inside and root is not None else path)
        size, mtime_ns = file_stamp(path)
        return cls(image_id, name, size, mtime_ns, file_digest(path))

    def fresh(self, path: Path) -> bool:
        """Whether the photo still is what it was: same size and time or, failing that, digest."""
        size, mtime_ns = file_stamp(path)
        if size is None or self.digest is None:  # no file, or no permission: has it one by now?
            return size is None and self.size is None
        if (size, mtime_ns) == (self.size, self.mtime_ns):
            return True
        return size == self.size and self.digest == file_digest(path)


def size_in_bytes(n: int, shape: Sequence[int], dtype: str) -> int:
    """Size of ``features.bin`` for n photos; the journal adds some 250 bytes a photo."""
    return n * math.prod(shape) * np.dtype(dtype).itemsize


@dataclasses.dataclass(frozen=True)
class Header:
    """``store.json``."""

    format: int
    key: dict[str, Any]
    shape: tuple[int, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Size of one photo's row."""
        return size_in_bytes(1, self.shape, self.dtype)

    @classmethod
    def read(cls, folder: Path) -> Header | None:
        """The header of a store; None if there is none.

        Raises:
            StoreError: if it is of another format version, or damaged.
        """
        path = folder / "store.json"
        try:
            values = json.loads(path.read_bytes())
            if values["format"] != FORMAT:
                age = "a newer" if values["format"] > FORMAT else "an older"
                raise StoreError(
                    f"{path}: written by {age} version of captioner (format {values['format']}, not"
                    f" {FORMAT}); remove the folder and run captioner prepare"
                )
            shape = tuple(values["shape"])
            sound = (
                isinstance(values["key"], dict)
                and values["dtype"] in DTYPES
                and shape
                and all(type(side) is int and side > 0 for side in shape)
            )
            if not sound:
                raise ValueError("its values are not those of a feature store")
            return cls(FORMAT, values["key"], shape, values["dtype"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{path}: damaged ({error}); remove the folder and run captioner prepare"
            ) from error

    def write(self, folder: Path) -> None:
        """Under a new name, then moved: there is a whole header or none."""
        new = folder / "store.json.new"
        with new.open("w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        new.replace(folder / "store.json")

    def check(self, folder: Path, key: Mapping[str, Any], new: Header | None = None) -> None:
        """Refuse features that were made with another key or, when writing, of another form."""
        wanted = plain(key)
        names = sorted({*self.key, *wanted})
        differ = [name for name in names if self.key.get(name) != wanted.get(name)]
        if differ:
            raise StoreError(
                f"{folder}: these features were made with another {', '.join(differ)};"
                " run captioner prepare for this configuration"
            )
        if new is not None and (self.shape, self.dtype) != (new.shape, new.dtype):
            raise StoreError(
                f"{folder}: holds {self.dtype} features of shape {self.shape}, not {new.dtype}"
                f" {new.shape}; remove the folder and run captioner prepare"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One line of the journal: a photo with its row, or with the reason why it has none.

    Written as ``{"check": "…", …}``, the check being a crc32 of all that follows it in the line.
    """

    entry: Entry
    row: int | None = None
    crc32: int | None = None
    reason: str | None = None

    def encode(self) -> bytes:
        """The line as it is written, with the line end."""
        values = dataclasses.asdict(self.entry)
        if self.reason is None:
            values |= {"row": self.row, "crc32": self.crc32}
        else:
            values |= {"error": self.reason}
        rest = json.dumps(values)[1:].encode() + b"\n"
        return _check(rest) + rest

    @classmethod
    def decode(cls, text: bytes) -> Line | None:
        """None for a line that is not exactly as it was written."""
        rest = text[_CHECK_BYTES:]
        if not rest.endswith(b"\n") or text[:_CHECK_BYTES] != _check(rest):
            return None
        try:
            values = json.loads(b"{" + rest)
            row, crc32, reason = (values.pop(name, None) for name in ("row", "crc32", "error"))
            line = cls(Entry(**values), row, crc32, reason)
        except (ValueError, TypeError, AttributeError, RecursionError):  # its check was forged
            return None
        has_row = type(row) is int and row >= 0 and type(crc32) is int
        return line if has_row or (row is None and isinstance(reason, str)) else None


def _check(rest: bytes) -> bytes:
    return b'{"check": "%08x", ' % zlib.crc32(rest)


_CHECK_BYTES = len(_check(b""))


class Journal:
    """What ``index.jsonl`` says: the latest line of each photo, and how far both files are sound.

    Attributes:
        lines: The latest line of each photo, by image id.
        rows: Row number by image id, of the photos that have one.
        n_bytes: How much of ``index.jsonl`` is whole.
        n_rows: Rows of ``features.bin`` that it vouches for, those of replaced photos included.
    """

    def __init__(self) -> None:
        self.lines: dict[ImageId, Line] = {}
        self.rows: dict[ImageId, int] = {}
        self.n_bytes = 0
        self.n_rows = 0

    @classmethod
    def read(cls, folder: Path, row_bytes: int) -> Journal:
        """Read up to the first line that is not whole, or whose row is not there in full."""
        journal = cls()
        # The journal first: rows are written before their lines, so a writer that is at work now
        # can only have made features.bin longer than these lines need.
        with (folder / "index.jsonl").open("rb") as file:
            texts = file.readlines()
        rows_there = (folder / "features.bin").stat().st_size // row_bytes
        for text in texts:
            line = Line.decode(text)
            if line is None or (line.row is not None and line.row >= rows_there):
                break
            journal.add(line, len(text))
        return journal

    def add(self, line: Line, n_bytes: int) -> None:
        """Take in the next line, of so many bytes."""
        image_id = line.entry.image_id
        self.lines[image_id] = line
        self.n_bytes += n_bytes
        if line.row is None:
            self.rows.pop(image_id, None)
        else:
            self.rows[image_id] = line.row
            self.n_rows = max(self.n_rows, line.row + 1)

    def fresh(self, image_id: ImageId, path: Path) -> Line | None:
        """The photo's line, if what it says still holds."""
        line = self.lines.get(image_id)
        return line if line is not None and line.entry.fresh(path) else None


def plain(key: Mapping[str, Any]) -> dict[str, Any]:
    """The key as it comes back from JSON (a tuple as a list), so that keys compare equal."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(key), allow_nan=False))
    return plain


def file_stamp(path: Path) -> tuple[int | None, int | None]:
    """Size in bytes and time of modification in nanoseconds; None twice if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None, None
    return status.st_size, status.st_mtime_ns


def file_digest(path: Path) -> str | None:
    """blake2b-128 of a file's bytes, in hexadecimal; None if they cannot be read."""
    if not path.is_file():  # a pipe would block
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return None

"""The files of a feature store: what is written in them, and how much of it is to be trusted.

- ``store.json`` (`Header`): format version, the key (all that the features depend on besides the
  photos: the encoder, its weights' digest, the transform, pooled or grid, ...), shape and dtype of
  a row.
- ``features.bin``: the rows, each of the same size, one behind the other.
- ``index.jsonl`` (`Journal`): one `Line` a photo: its row number, id, path, size, time and digest
  and the row's checksum; or, for a photo that could not be read, the reason.

Both data files only ever grow. A line is written after its row is on the disk, and begins with a
checksum of itself; the journal ends where no whole line follows, or at a line whose row is not all
there. So a run killed at any byte leaves a valid store that lacks its last photos, and a damaged
line is never taken for a good one. Of two lines for one photo the later one counts.

Processes that fill a store together have a pair of files each, ``features-2.bin`` and
``index-2.jsonl`` for share 2: its part. Part 0 has no number. Of lines in several parts that of the
highest turn counts; a process that finds the lines of others takes the turn after theirs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from captioner.datasets.records import ImageId
from captioner.errors import CaptionerError
from captioner.files.atomic import write_whole
from captioner.files.json_file import MAX_SMALL_BYTES, parse_json
from captioner.files.regular import open_regular, read_regular

FORMAT = 1
"""Version of the files; a reader refuses any other."""

MAX_LINE = 2**16
"""Bytes of a line of the journal: a path of 4,096 bytes, each escaped in six, and the rest."""

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

    def is_sound(self) -> bool:
        """Whether the values are of their types, which nothing but the types says at run time."""
        numbers = (self.size, self.mtime_ns)
        return (
            type(self.image_id) in (int, str)
            and isinstance(self.path, str)
            and all(number is None or type(number) is int for number in numbers)
            and (self.digest is None or isinstance(self.digest, str))
        )

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

    def now(self, path: Path) -> Entry | None:
        """The entry with the photo's present time; None if it is not the photo that it was.

        It is, if it has the same size and time or, failing that, the same size and digest.
        """
        size, mtime_ns = file_stamp(path)
        if size is None or self.digest is None:  # no file, or no permission: has it one by now?
            return self if size is None and self.size is None else None
        if (size, mtime_ns) == (self.size, self.mtime_ns):
            return self
        if size != self.size or self.digest != file_digest(path):
            return None
        return dataclasses.replace(self, mtime_ns=mtime_ns)


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
            values = parse_json(read_regular(path, MAX_SMALL_BYTES).decode())
            if not isinstance(values, dict) or type(values.get("format")) is not int:
                raise ValueError("its values are not those of a feature store")
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
            values["key"].pop("data", None)  # where the data set lay; once a part of the key
            return cls(FORMAT, values["key"], shape, values["dtype"])
        except FileNotFoundError:
            return None
        except (CaptionerError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(
                f"{path}: damaged ({error}); remove the folder and run captioner prepare"
            ) from error

    def write(self, folder: Path) -> None:
        """Write ``store.json`` into a store's folder, whole or not at all."""
        write_whole(folder / "store.json", json.dumps(dataclasses.asdict(self), indent=2))

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
    ``turn`` says which of several parts' lines is the latest; it is left out where it is 0.
    """

    entry: Entry
    row: int | None = None
    crc32: int | None = None
    reason: str | None = None
    turn: int = 0

    def encode(self) -> bytes:
        """The line as it is written, with the line end."""
        values = dataclasses.asdict(self.entry)
        if self.reason is None:
            values |= {"row": self.row, "crc32": self.crc32}
        else:
            values |= {"error": self.reason}
        if self.turn:
            values |= {"turn": self.turn}
        rest = json.dumps(values)[1:].encode() + b"\n"
        return _check(rest) + rest

    @classmethod
    def decode(cls, text: bytes) -> Line | None:
        """None for a line that is not exactly as it was written."""
        rest = text[_CHECK_BYTES:]
        if not rest.endswith(b"\n") or text[:_CHECK_BYTES] != _check(rest):
            return None
        try:
            values: Any = parse_json((b"{" + rest).decode())
            row, crc32, reason = (values.pop(name, None) for name in ("row", "crc32", "error"))
            turn = values.pop("turn", 0)
            line = cls(Entry(**values), row, crc32, reason, turn)
        except (ValueError, TypeError, AttributeError):  # its check was forged
            return None
        if not line.entry.is_sound():
            return None
        has_row = type(row) is int and row >= 0 and type(crc32) is int
        sound = has_row or (row is None and isinstance(reason, str))
        return line if sound and type(turn) is int and turn >= 0 else None


def _check(rest: bytes) -> bytes:
    return b'{"check": "%08x", ' % zlib.crc32(rest)


_CHECK_BYTES = len(_check(b""))


@dataclasses.dataclass
class Part:
    """How far a pair of files is sound.

    Attributes:
        number: 0, or the share of the process that writes it.
        n_bytes: How much of the index is whole.
        n_rows: Rows that it vouches for, those of replaced photos included.
        damaged: Lines that are not as they were written, with good ones behind them.
        lost: Lines whose rows are not all there, and all behind the first of them.
    """

    number: int
    n_bytes: int = 0
    n_rows: int = 0
    damaged: int = 0
    lost: int = 0

    @property
    def index_name(self) -> str:
        """Name of the file of lines."""
        return f"index{self._suffix}.jsonl"

    @property
    def features_name(self) -> str:
        """Name of the file of rows."""
        return f"features{self._suffix}.bin"

    @property
    def _suffix(self) -> str:
        return f"-{self.number}" if self.number else ""


class Journal:
    """What the indices of all parts say together: the latest line of each photo.

    Attributes:
        lines: The latest line of each photo, by image id.
        rows: Part and row number by image id, of the photos that have one.
        parts: The parts by number; part 0 is always there.
        turn: The highest turn of all lines.
    """

    def __init__(self) -> None:
        self.lines: dict[ImageId, Line] = {}
        self.rows: dict[ImageId, tuple[int, int]] = {}
        self.parts = {0: Part(0)}
        self.turn = 0

    @classmethod
    def read(cls, folder: Path, row_bytes: int) -> Journal:
        """Read each part up to where nothing whole follows, or a row is not there in full."""
        journal = cls()
        for number in part_numbers(folder):
            journal.parts[number] = part = Part(number)
            # The lines first: rows are written before their lines, so a writer that is at work now
            # can only have made the rows' file longer than these lines need.
            try:
                with open_regular(folder / part.index_name) as file:
                    texts = list(_lines(file))
            except FileNotFoundError:
                raise StoreError(
                    f"{folder / part.index_name}: is missing, and without it no row can be used; "
                    f"remove {folder} and run captioner prepare"
                ) from None
            journal._read_part(part, texts, _size(folder / part.features_name) // row_bytes)
        return journal

    def _read_part(self, part: Part, texts: Sequence[bytes], rows_there: int) -> None:
        unsure = unsure_bytes = 0  # damaged lines count as such once a good one follows
        for i, text in enumerate(texts):
            line = Line.decode(text)
            if line is None:
                unsure, unsure_bytes = unsure + 1, unsure_bytes + len(text)
                continue
            if line.row is not None and line.row >= rows_there:
                # Not passed over: a later row in its place would be taken for this photo's.
                part.lost = len(texts) - i
                break
            part.damaged += unsure
            self.add(part.number, line, unsure_bytes + len(text))
            unsure = unsure_bytes = 0
        if unsure and texts[-1].endswith(
            b"\n"
        ):  # a killed run leaves the last line without its end
            part.damaged += unsure

    def add(self, number: int, line: Line, n_bytes: int) -> None:
        """Take in the next line of a part, of so many bytes."""
        part = self.parts[number]
        part.n_bytes += n_bytes
        if line.row is not None:
            part.n_rows = max(part.n_rows, line.row + 1)
        self.turn = max(self.turn, line.turn)
        image_id = line.entry.image_id
        latest = self.lines.get(image_id)
        if latest is not None and latest.turn > line.turn:
            return
        self.lines[image_id] = line
        if line.row is None:
            self.rows.pop(image_id, None)
        else:
            self.rows[image_id] = number, line.row

    def now(self, image_id: ImageId, path: Path) -> Line | None:
        """The photo's line, with its present time; None if what it says does not hold any more."""
        line = self.lines.get(image_id)
        entry = None if line is None else line.entry.now(path)
        if line is None or entry is None:
            return None
        return line if entry is line.entry else dataclasses.replace(line, entry=entry)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; one that is too long comes in pieces, none of which counts."""
    while line := file.readline(MAX_LINE):
        yield line


def part_numbers(folder: Path) -> list[int]:
    """The parts of a store, part 0 first."""
    names = [path.name for path in folder.iterdir()]
    found = (re.fullmatch(r"index-([1-9][0-9]{0,5})\.jsonl", name) for name in names)
    return [0, *sorted(int(match[1]) for match in found if match)]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


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
        with open_regular(path) as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return None

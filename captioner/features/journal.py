"""Files of a feature store, and how much of them is valid.

- `store.json` (`captioner.features.header`): format version, key (everything the features depend on
  besides the photos: encoder, digest of its weights, transform, pooled or grid, ...), and the shape
  and dtype of a row.
- `features.bin`: rows of equal size, one after the other.
- `index.jsonl` (`Journal`): one `Line` per photo with its row number, id, path, size, time, digest
  and the row's checksum. For an unreadable photo, the line states the reason instead.

Both data files only grow. A line is written after its row is on disk, and starts with its own
checksum. The journal ends where no complete line follows, or at a line whose row is incomplete. A
run killed at any byte therefore leaves a valid store that lacks only its last photos, and a damaged
line is never accepted. If a photo has two lines, the later one counts.

Processes that fill a store together write one part each, a pair of files: `features-2.bin` and
`index-2.jsonl` for share 2. Part 0 has no number in its file names. If several parts have a line
for a photo, the highest turn counts. A process that finds lines of others uses the next turn.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from captioner.datasets.records import ImageId
from captioner.features.header import StoreError
from captioner.files.json_file import parse_json
from captioner.files.regular import open_regular

MAX_LINE = 2**16
"""Maximum bytes per line: a path of 4,096 bytes, six bytes each if escaped, plus the rest."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A photo at the time when its features were computed.

    Attributes:
        image_id: Id of the photo in its data set.
        path: Path of the photo, relative to the data set's root if it lies in there.
        size: Size of the file in bytes; None if there was no file.
        mtime_ns: Modification time in nanoseconds since 1970; None if there was no file.
        digest: blake2b-128 of the file in hexadecimal; None if it could not be read, and empty if
            processes died of reading it, so that size and time alone say whether it has changed.
    """

    image_id: ImageId
    path: str
    size: int | None
    mtime_ns: int | None
    digest: str | None

    def is_sound(self) -> bool:
        """Return whether all values have their declared types; nothing else checks them."""
        numbers = (self.size, self.mtime_ns)
        return (
            type(self.image_id) in (int, str)
            and isinstance(self.path, str)
            and all(number is None or type(number) is int for number in numbers)
            and (self.digest is None or isinstance(self.digest, str))
        )

    @classmethod
    def of(cls, image_id: ImageId, path: Path, root: Path | None = None) -> Entry:
        """Create the entry of a photo; it records a missing or unreadable file as None.

        Call this before decoding the photo. If the file changes in between, the features then
        count as stale and are computed again.
        """
        unread = cls.unread(image_id, path, root)
        return dataclasses.replace(unread, digest=file_digest(path))

    @classmethod
    def unread(cls, image_id: ImageId, path: Path, root: Path | None = None) -> Entry:
        """Create the entry of a photo without opening it."""
        inside = root is not None and path.is_relative_to(root)
        name = str(path.relative_to(root) if inside and root is not None else path)
        size, mtime_ns = file_stamp(path)
        return cls(image_id, name, size, mtime_ns, "")

    def now(self, path: Path) -> Entry | None:
        """Return the entry with the photo's current time, or None if the photo has changed.

        It is unchanged if size and time are equal or, failing that, if size and digest are equal.
        """
        size, mtime_ns = file_stamp(path)
        if size is None or self.digest is None:  # unreadable then; it may be readable now
            return self if size is None and self.size is None else None
        if (size, mtime_ns) == (self.size, self.mtime_ns):
            return self
        if size != self.size or self.digest != file_digest(path):
            return None
        return dataclasses.replace(self, mtime_ns=mtime_ns)


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One line of the journal: a photo with its row, or with the reason for having none.

    The line is written as `{"check": "...", ...}`, where the check is a crc32 of all that follows
    it in the line. `turn` orders the lines of several parts and is omitted if it is 0.
    """

    entry: Entry
    row: int | None = None
    crc32: int | None = None
    reason: str | None = None
    turn: int = 0

    def encode(self) -> bytes:
        """Return the line as bytes, with its line end."""
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
        """Parse a line; return None unless it is exactly as it was written."""
        rest = text[_CHECK_BYTES:]
        if not rest.endswith(b"\n") or text[:_CHECK_BYTES] != _check(rest):
            return None
        try:
            values: Any = parse_json((b"{" + rest).decode())
            row, crc32, reason = (values.pop(name, None) for name in ("row", "crc32", "error"))
            turn = values.pop("turn", 0)
            line = cls(Entry(**values), row, crc32, reason, turn)
        except (ValueError, TypeError, AttributeError):  # a line with a forged check
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
    """The valid extent of one pair of files.

    Attributes:
        number: Share of the process that writes the part; 0 for a single process.
        n_bytes: Length of the valid index in bytes.
        n_rows: Number of rows in the valid index, including rows of replaced photos.
        damaged: Number of damaged lines that are followed by valid ones.
        lost: Number of lines from the first line with an incomplete row onwards.
    """

    number: int
    n_bytes: int = 0
    n_rows: int = 0
    damaged: int = 0
    lost: int = 0

    @property
    def index_name(self) -> str:
        """File name of the index."""
        return f"index{self._suffix}.jsonl"

    @property
    def features_name(self) -> str:
        """File name of the rows."""
        return f"features{self._suffix}.bin"

    @property
    def _suffix(self) -> str:
        return f"-{self.number}" if self.number else ""


class Journal:
    """The joint index of all parts: the latest line of each photo.

    Attributes:
        lines: Latest line of each photo, by image id.
        rows: Part and row number by image id, for photos that have a row.
        parts: Parts by number; part 0 always exists.
        turn: Highest turn of all lines.
    """

    def __init__(self) -> None:
        self.lines: dict[ImageId, Line] = {}
        self.rows: dict[ImageId, tuple[int, int]] = {}
        self.parts = {0: Part(0)}
        self.turn = 0

    @classmethod
    def read(cls, folder: Path, row_bytes: int) -> Journal:
        """Read each part up to its last complete line that has a complete row.

        Raises:
            StoreError: A part has rows but no index.
        """
        journal = cls()
        for number in part_numbers(folder):
            journal.parts[number] = part = Part(number)
            # Read the lines first. Rows are written before their lines, so a concurrent writer can
            # only have made the file of rows longer than these lines need.
            try:
                with open_regular(folder / part.index_name) as file:
                    texts = list(_lines(file))
            except FileNotFoundError:
                raise StoreError(
                    f"{folder / part.index_name}: missing; its rows are unusable without it; "
                    f"remove {folder} and run captioner prepare"
                ) from None
            journal._read_part(part, texts, _size(folder / part.features_name) // row_bytes)
        return journal

    def _read_part(self, part: Part, texts: Sequence[bytes], rows_there: int) -> None:
        unsure = unsure_bytes = 0  # a bad line counts as damaged only if a valid one follows
        for i, text in enumerate(texts):
            line = Line.decode(text)
            if line is None:
                unsure, unsure_bytes = unsure + 1, unsure_bytes + len(text)
                continue
            if line.row is not None and line.row >= rows_there:
                # Do not skip it: a later row in its place would be assigned to this photo.
                part.lost = len(texts) - i
                break
            part.damaged += unsure
            self.add(part.number, line, unsure_bytes + len(text))
            unsure = unsure_bytes = 0
        if unsure and texts[-1].endswith(b"\n"):  # the last line of a killed run has no end
            part.damaged += unsure

    def add(self, number: int, line: Line, n_bytes: int) -> None:
        """Add the next line of a part, of `n_bytes` bytes."""
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
        """Return the photo's line with its current time, or None if the photo has changed."""
        line = self.lines.get(image_id)
        entry = None if line is None else line.entry.now(path)
        if line is None or entry is None:
            return None
        return line if entry is line.entry else dataclasses.replace(line, entry=entry)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file; a line that is too long comes in pieces, all of them invalid."""
    while line := file.readline(MAX_LINE):
        yield line


def part_numbers(folder: Path) -> list[int]:
    """Return the numbers of a store's parts, part 0 first."""
    names = [path.name for path in folder.iterdir()]
    found = (re.fullmatch(r"index-([1-9][0-9]{0,5})\.jsonl", name) for name in names)
    return [0, *sorted(int(match[1]) for match in found if match)]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def file_stamp(path: Path) -> tuple[int | None, int | None]:
    """Return the size in bytes and modification time in ns; None for both if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None, None
    return status.st_size, status.st_mtime_ns


def file_digest(path: Path) -> str | None:
    """Return the blake2b-128 of a file in hexadecimal; None if it cannot be read."""
    if not path.is_file():  # opening a pipe would block
        return None
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return None

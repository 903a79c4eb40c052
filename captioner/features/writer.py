"""Writing a feature store: rows and their journal lines reach the disk together or not at all.

One process writes the whole store, or several write shares of it, each into files of its own. Locks
keep a second writer out. A run killed at any byte leaves a valid store, and the next writer cuts
off what was half-written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from captioner.datasets.records import ImageId
from captioner.errors import UsageError
from captioner.features.header import FORMAT, Header, StoreError, plain
from captioner.features.journal import Entry, Journal, Line, Part, part_numbers
from captioner.features.rows import DTYPES, encoded, value_type
from captioner.features.store import Photos
from captioner.files.atomic import remove_drafts, write_whole
from captioner.files.lock import take_lock


class FeatureWriter:
    """A store opened for writing, by one process or by one for each share; a context manager.

    Creates the store, or resumes an existing one after cutting off what a killed run left
    half-written. When a call returns, its rows and lines are on the disk.

    Args:
        folder: The store's folder; created if missing.
        key: What the features depend on: plain values (what JSON can hold).
        shape: Of one photo's features, (F,) or (R, F).
        dtype: ``float16``, ``float32`` or ``int8``.
        share: Number of this process, from 1, among those that write the store together; each has
            files of its own. None if this process is the only writer.

    Raises:
        UsageError: The dtype is unknown or the shape empty.
        StoreError: Another process is writing this store or share; the store has another format
            version, key, shape or dtype; or the disk is full or read-only. After a full disk the
            store holds all rows of earlier calls and can be resumed.

    Example:
        >>> import tempfile
        >>> from captioner.features.store import FeatureStore, folder_name
        >>> key = {"encoder": "toy"}
        >>> with tempfile.TemporaryDirectory() as cache:
        ...     folder, photo = Path(cache, folder_name(key)), Path(cache, "1.jpg")
        ...     _ = photo.write_bytes(b"a photo")
        ...     with FeatureWriter(folder, key, shape=(2,), dtype="float16") as writer:
        ...         if writer.stale([(1, photo)]):
        ...             writer.append([Entry.of(1, photo)], np.array([[0.5, 1.0]]))
        ...     store = FeatureStore.open(folder, key)
        ...     store.read([1, 1])
        array([[0.5, 1. ],
               [0.5, 1. ]], dtype=float16)
    """

    def __init__(
        self,
        folder: Path,
        key: Mapping[str, Any],
        shape: Sequence[int],
        dtype: str,
        *,
        share: int | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise UsageError(f"feature store: dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        if not shape or min(shape) < 1:
            raise UsageError(
                f"feature store: {tuple(shape)} is not the shape of a photo's features"
            )
        self.folder = folder
        self._number = share or 0
        self._header = Header(FORMAT, plain(key), tuple(shape), dtype)
        self._files: list[BinaryIO] = []
        try:
            self._open()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise self._failed(error) from error
            raise

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take_locks()
        existing = Header.read(self.folder)
        if existing is not None:
            existing.check(self.folder, self._header.key, self._header)
        part = Part(self._number)
        self._remove_drafts()
        if existing is None and self._number == 0:
            self._remove_parts()
        self._features = self._keep(self.folder / part.features_name)
        self._index = self._keep(self.folder / part.index_name)
        (self.folder / "index.jsonl").touch()  # readers need it
        (self.folder / "features.bin").touch()
        if existing is None:  # no header says what the files hold
            self._features.truncate(0)
            self._index.truncate(0)
            self._header.write(self.folder)
        self._journal = Journal.read(self.folder, self._header.row_bytes)
        self._part = self._journal.parts[self._number]
        others = any(one.n_bytes for one in self._journal.parts.values() if one is not self._part)
        self._turn = self._journal.turn + others
        self._cut()
        for part in self._journal.parts.values():
            if (part.damaged or part.lost) and self._number in (0, part.number):
                self._mend(part)

    def _take_locks(self) -> None:
        """Lock the store exclusively; or one share exclusively, and the store shared."""
        shared = self._number > 0
        if not take_lock(self._keep(self.folder / "lock"), shared=shared):
            raise StoreError(f"{self.folder}: another prepare is writing this store")
        if shared and not take_lock(self._keep(self.folder / f"lock-{self._number}")):
            raise StoreError(
                f"{self.folder}: another prepare is writing share {self._number} of this store"
            )

    def _mend(self, part: Part) -> None:
        """Rewrite an index atomically without its damaged and lost lines."""
        index = self.folder / part.index_name
        texts = index.read_bytes()[: part.n_bytes].splitlines(keepends=True)
        sound = b"".join(text for text in texts if Line.decode(text) is not None)
        write_whole(index, sound)
        part.n_bytes, part.damaged, part.lost = len(sound), 0, 0
        if part is self._part:
            self._index = self._keep(index)

    def _remove_drafts(self) -> None:
        """Remove the drafts of headers and indexes that killed runs left."""
        remove_drafts(self.folder / "store.json")
        remove_drafts(self.folder / Part(self._number).index_name)

    def _remove_parts(self) -> None:
        for number in part_numbers(self.folder)[1:]:
            (self.folder / Part(number).index_name).unlink()

    def append(
        self,
        entries: Sequence[Entry],
        rows: np.ndarray,
        unreadable: Sequence[tuple[Entry, str]] = (),
    ) -> None:
        """Store the features of some photos.

        Args:
            entries: B photos.
            rows: (B, *shape) of any float type; converted to the store's.
            unreadable: Photos of the same batch that could not be read, and why. They are written
                together with the rows: a run killed in between would resume with other batches, and
                the last digits of features depend on the size of their batch.

        Raises:
            StoreError: The disk is full, or a value does not fit into half precision. None of these
                rows is then in the store.
        """
        if rows.shape != (len(entries), *self._header.shape):
            raise ValueError(
                f"rows have shape {rows.shape}, not {(len(entries), *self._header.shape)}"
            )
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(rows, value_type(self._header.dtype))
        for entry, row in zip(entries, rows, strict=True):
            if not np.isfinite(row).all():
                raise StoreError(
                    f"{self.folder}: features of image {entry.image_id!r} are not finite in"
                    f" {rows.dtype}" + "; use float32" * (rows.dtype == np.float16)
                )
        rows = encoded(rows, self._header.dtype)
        first = self._part.n_rows
        lines = [
            Line(entry, first + i, zlib.crc32(row.tobytes()), turn=self._turn)
            for i, (entry, row) in enumerate(zip(entries, rows, strict=True))
        ]
        lines += [Line(entry, reason=reason, turn=self._turn) for entry, reason in unreadable]
        self._write(rows.tobytes(), lines)

    def error(self, entry: Entry, reason: str) -> None:
        """Record that a photo could not be read, so that later runs do not try it again."""
        self.append([], np.empty((0, *self._header.shape)), [(entry, reason)])

    def forget(self, image_ids: Iterable[ImageId], reason: str) -> None:
        """Discard the rows of some photos, which become stale, and record the reason."""
        lines = [self._journal.lines[image_id] for image_id in image_ids]
        # An entry without a digest never matches a photo on disk.
        entries = [dataclasses.replace(line.entry, size=-1, digest=None) for line in lines]
        self._write(b"", [Line(entry, reason=reason, turn=self._turn) for entry in entries])

    def stale(self, photos: Photos) -> list[ImageId]:
        """Like `FeatureStore.stale`; also records new times of photos whose bytes are the same."""
        stale: list[ImageId] = []
        touched: list[Line] = []
        for image_id, path in photos:
            line = self._journal.now(image_id, path)
            if line is None:
                stale.append(image_id)
            elif line is not self._journal.lines[image_id]:
                touched.append(dataclasses.replace(line, turn=self._turn))
        self._note(touched)
        return stale

    def _note(self, lines: Sequence[Line]) -> None:
        """Write lines of existing rows, each into the part that has the row.

        A process with a share of its own leaves the parts of other shares alone: they may be in
        use.
        """
        of_parts: dict[int, list[Line]] = {}
        for line in lines:
            number, _ = self._journal.rows.get(line.entry.image_id, (self._number, None))
            of_parts.setdefault(number, []).append(line)
        for number, own in of_parts.items():
            if number == self._number:
                self._write(b"", own)
            elif self._number == 0:
                self._write_elsewhere(self._journal.parts[number], own)

    def _write_elsewhere(self, part: Part, lines: Sequence[Line]) -> None:
        """Append to the index of a share; the store must be locked exclusively."""
        texts = [line.encode() for line in lines]
        try:
            with (self.folder / part.index_name).open("ab", buffering=0) as index:
                index.truncate(part.n_bytes)  # a killed run may have left half a line
                _write_all(index, b"".join(texts))
                os.fsync(index.fileno())
        except OSError as error:
            raise self._failed(error) from error
        for line, text in zip(lines, texts, strict=True):
            self._journal.add(part.number, line, len(text))

    def close(self) -> None:
        """Close the files and let the next writer in."""
        while self._files:
            self._files.pop().close()

    def __enter__(self) -> FeatureWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, rows: bytes, lines: Sequence[Line]) -> None:
        """Write rows, then their lines, to the disk: all of them, or none that counts."""
        texts = [line.encode() for line in lines]
        try:
            if rows:
                _write_all(self._features, rows)
                os.fsync(self._features.fileno())
            _write_all(self._index, b"".join(texts))
            os.fsync(self._index.fileno())
        except BaseException as error:  # an interrupt from the keyboard too
            # Nothing may be appended after half a row. If the cut fails, the next writer cuts.
            with contextlib.suppress(OSError):
                self._cut()
            self.close()
            if isinstance(error, OSError):
                raise self._failed(error) from error
            raise
        for line, text in zip(lines, texts, strict=True):
            self._journal.add(self._number, line, len(text))

    def _cut(self) -> None:
        """Cut both files back to what the journal vouches for: lines first, then their rows."""
        self._index.truncate(self._part.n_bytes)
        self._features.truncate(self._part.n_rows * self._header.row_bytes)

    def _keep(self, path: Path) -> BinaryIO:
        """Open for appending, unbuffered, so that writes always land at the end of the file."""
        file = path.open("ab", buffering=0)
        self._files.append(file)
        return file

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self.folder}: cannot be written: {error.strerror or error};"
            " its rows stay valid; rerun the same command to resume"
        )


def _write_all(file: BinaryIO, content: bytes) -> None:
    """Write all of `content`: one unbuffered write may take a part only, on a nearly full disk."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]

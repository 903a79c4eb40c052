"""Features of a frozen encoder, computed once and read from a memory-mapped file by any process.

A store is a folder: a header, the rows, a journal (`feature_journal` says what is in them) and
``lock``, which the one process that writes holds; or several processes share it, and each writes a
pair of files of its own. A run killed at any byte leaves a valid store; a photo that has changed
since, or features of another encoder, are never used.

No torch here and no encoder: rows come in and go out as numpy arrays.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from captioner.datasets.records import ImageId
from captioner.errors import UsageError
from captioner.features.journal import (
    DTYPES,
    FORMAT,
    Entry,
    Header,
    Journal,
    Line,
    Part,
    StoreError,
    file_digest,
    file_stamp,
    part_numbers,
    plain,
    size_in_bytes,
)
from captioner.files.atomic import remove_drafts, write_whole
from captioner.files.lock import take_lock

__all__ = ["Entry", "FeatureStore", "FeatureWriter", "StoreError", "folder_name", "size_in_bytes"]

SAMPLE = 16
"""Photos that are read to see whether a store is that of a data set."""

Photos = Iterable[tuple[ImageId, Path]]
"""Image ids and where their photos are."""


def folder_name(key: Mapping[str, Any]) -> str:
    """Name for the folder of a store with this key: another key, another folder.

    Example:
        >>> folder_name({"encoder": "mobilenet_v2", "pooled": True})
        'mobilenet_v2-2ef71494d72a3f62'
    """
    text = json.dumps([FORMAT, plain(key)], sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", str(key.get("encoder", "features")))[:60]
    return f"{name}-{digest}"


class FeatureStore:
    """A store opened for reading, as it was at that moment; writers do not disturb it.

    Goes to data-loading workers by pickling or forking; each maps the file for itself, and the
    operating system keeps one copy of it in memory for all.

    Attributes:
        folder: Where it lies.
        key: What its features depend on, as given when it was made.
        shape: Of one photo's features: (F,) pooled or (R, F) grid.
        dtype: ``float16`` or ``float32``.
        errors: Reason by image id, for the photos that could not be read.
        touched: How many photos `stale` had to read, last time, because their times had changed.
    """

    def __init__(self, folder: Path, header: Header, journal: Journal) -> None:
        self.folder = folder
        self.key = header.key
        self.shape = header.shape
        self.dtype = np.dtype(header.dtype)
        self.errors: dict[ImageId, str] = {
            image_id: line.reason
            for image_id, line in journal.lines.items()
            if line.reason is not None
        }
        self.touched = 0
        self._journal = journal
        self._maps: dict[int, np.ndarray] = {}

    @classmethod
    def open(cls, folder: Path, key: Mapping[str, Any]) -> FeatureStore:
        """Open the store in a folder.

        Args:
            folder: Usually a cache folder / `folder_name(key)`.
            key: What the caller's features depend on; must equal the store's.

        Raises:
            StoreError: if there is no store, if it is of another format version or another key, or
                if its files cannot be read.
        """
        try:
            header = Header.read(folder)
            if header is None:
                raise StoreError(f"{folder}: no feature store here; run captioner prepare")
            header.check(folder, key)
            return cls(folder, header, Journal.read(folder, header.row_bytes))
        except OSError as error:
            raise StoreError(f"{folder}: cannot be read: {error.strerror or error}") from error

    def __len__(self) -> int:
        return len(self._journal.rows)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._journal.rows

    def read(self, image_ids: Sequence[ImageId]) -> np.ndarray:
        """Features of some photos, in the order asked for; an id may occur more than once.

        Returns:
            (B, *shape) in the store's dtype, in memory of its own.

        Raises:
            StoreError: for an id without features.
        """
        try:
            places = [self._journal.rows[image_id] for image_id in image_ids]
        except KeyError as error:
            image_id = error.args[0]
            reason = self.errors.get(image_id, "not prepared yet; run captioner prepare")
            raise StoreError(
                f"{self.folder}: no features of image {image_id!r}: {reason}"
            ) from None
        parts = np.array([part for part, _ in places], dtype=np.intp)
        numbers = np.array([row for _, row in places], dtype=np.intp)
        found = np.empty((len(places), *self.shape), self.dtype)
        for part in np.unique(parts).tolist():
            own = parts == part
            found[own] = self._map(part)[numbers[own]]
        return found

    def known(self, photos: Photos) -> list[tuple[Entry, Path]]:
        """What the store says of those photos whose ids it has and that could be read then."""
        lines = self._journal.lines
        found = ((lines[image_id].entry, path) for image_id, path in photos if image_id in lines)
        return [(entry, path) for entry, path in found if entry.digest is not None]

    def holds(self, photos: Photos) -> bool:
        """Whether these are the photos of this store, perhaps more of them, perhaps some changed.

        Image ids may be equal in two data sets, and sizes and times by chance: so a few photos are
        read. Most must be what they were, and none another one of the same size and time. An empty
        store is anybody's.
        """
        known = self.known(photos)
        if not known:
            return all(line.entry.digest is None for line in self._journal.lines.values())
        read = same = 0
        for entry, path in known[:: -(-len(known) // SAMPLE)]:
            digest = file_digest(path)
            if digest is None:
                continue
            if digest != entry.digest and file_stamp(path) == (entry.size, entry.mtime_ns):
                return False
            read += 1
            same += digest == entry.digest
        return 2 * same >= read

    def stale(self, photos: Photos) -> list[ImageId]:
        """Ids of the photos that are not in the store or have changed since.

        A photo that could not be read then and has not changed since is not stale: it is in
        `errors`. Costs a look at each file's size and time; its bytes are read only if the time
        alone has changed.
        """
        stale: list[ImageId] = []
        self.touched = 0
        for image_id, path in photos:
            line = self._journal.now(image_id, path)
            if line is None:
                stale.append(image_id)
            elif line is not self._journal.lines[image_id]:
                self.touched += 1
        return stale

    def verify(self) -> list[ImageId]:
        """Ids whose row does not have the checksum it was written with. Reads the whole store."""
        lines = self._journal.lines
        in_file_order = sorted(self._journal.rows.items(), key=lambda item: item[1])
        return [
            image_id
            for image_id, (part, row) in in_file_order
            if zlib.crc32(self._map(part)[row].tobytes()) != lines[image_id].crc32
        ]

    def damage(self) -> list[str]:
        """What is wrong with the files of lines, a sentence each; their photos have no features."""
        return [
            f"{self.folder / part.index_name}: {count:,} lines {what}"
            for part in self._journal.parts.values()
            for count, what in (
                (part.damaged, "are not as they were written"),
                (part.lost, f"without rows: {part.features_name} was cut short"),
            )
            if count
        ]

    def path_of(self, image_id: ImageId) -> str:
        """Where a photo was when its features were computed."""
        return self._journal.lines[image_id].entry.path

    def _map(self, number: int) -> np.ndarray:
        part = self._journal.parts[number]
        if part.n_rows == 0:  # an empty file cannot be mapped
            return np.empty((0, *self.shape), self.dtype)
        if number not in self._maps:
            try:
                self._maps[number] = np.memmap(
                    self.folder / part.features_name,
                    dtype=self.dtype,
                    mode="r",
                    shape=(part.n_rows, *self.shape),
                ).view(np.ndarray)
            except (OSError, ValueError) as error:  # ValueError: shorter than it was on opening
                raise StoreError(
                    f"{self.folder}: {part.features_name} cannot be read: {error}"
                ) from error
        return self._maps[number]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}


class FeatureWriter:
    """A store opened for writing, by one process or by one for each share; a context manager.

    Makes the store if there is none and goes on with it if there is, after cutting off what a
    killed run has left half-written. Every call that returns has its rows and lines on the disk.

    Args:
        folder: The store's folder; made if missing.
        key: What the features depend on: plain values (what JSON can hold).
        shape: Of one photo's features, (F,) or (R, F).
        dtype: ``float16`` or ``float32``.
        share: number, from 1, of a process that writes together with those of other shares; it has
            files of its own. None: nobody else writes.

    Raises:
        UsageError: for another dtype or an empty shape.
        StoreError: if another process is writing this store or share, if it is of another format
            version, key, shape or dtype, or if the disk is full or may not be written. After a full
            disk the store holds all rows of earlier calls and can be gone on with.

    Example:
        >>> import tempfile
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
        (self.folder / "index.jsonl").touch()  # without which nobody can read the store
        (self.folder / "features.bin").touch()
        if existing is None:  # whatever files are here, nobody says what they hold
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
        """The store for oneself, or a share for oneself and the store with the other shares."""
        shared = self._number > 0
        if not take_lock(self._keep(self.folder / "lock"), shared=shared):
            raise StoreError(f"{self.folder}: another prepare is writing this store")
        if shared and not take_lock(self._keep(self.folder / f"lock-{self._number}")):
            raise StoreError(
                f"{self.folder}: another prepare is writing share {self._number} of this store"
            )

    def _mend(self, part: Part) -> None:
        """Write an index anew without what does not count; under another name until it is whole."""
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
            unreadable: photos of the same batch that could not be read, and why. A run killed
                between them and the rows would go on with other batches, and the last digits of
                features depend on the size of their batch.

        Raises:
            StoreError: if the disk is full, or a value does not fit into half precision. Then none
                of these rows is in the store.
        """
        if rows.shape != (len(entries), *self._header.shape):
            raise ValueError(
                f"rows have shape {rows.shape}, not {(len(entries), *self._header.shape)}"
            )
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(rows, dtype=self._header.dtype)
        for entry, row in zip(entries, rows, strict=True):
            if not np.isfinite(row).all():
                raise StoreError(
                    f"{self.folder}: features of image {entry.image_id!r} are not finite in"
                    f" {self._header.dtype}" + "; use float32" * (self._header.dtype == "float16")
                )
        first = self._part.n_rows
        lines = [
            Line(entry, first + i, zlib.crc32(row.tobytes()), turn=self._turn)
            for i, (entry, row) in enumerate(zip(entries, rows, strict=True))
        ]
        lines += [Line(entry, reason=reason, turn=self._turn) for entry, reason in unreadable]
        self._write(rows.tobytes(), lines)

    def error(self, entry: Entry, reason: str) -> None:
        """Record that a photo could not be read, so that a later run need not try it again."""
        self.append([], np.empty((0, *self._header.shape)), [(entry, reason)])

    def forget(self, image_ids: Iterable[ImageId], reason: str) -> None:
        """Take back the rows of some photos, which are stale from now on, and record why."""
        lines = [self._journal.lines[image_id] for image_id in image_ids]
        # An entry without a digest is never that of a photo that is there.
        entries = [dataclasses.replace(line.entry, size=-1, digest=None) for line in lines]
        self._write(b"", [Line(entry, reason=reason, turn=self._turn) for entry in entries])

    def stale(self, photos: Photos) -> list[ImageId]:
        """As `FeatureStore.stale`; notes new times of photos whose bytes are the same."""
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
        """Write lines of rows that are there, each into the part that has the row.

        Into the part of another share they are not written while it may be at work.
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
        """Append to the index of a share while nobody else may write."""
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
        """Put rows, then their lines on the disk: all of them, or none that counts."""
        texts = [line.encode() for line in lines]
        try:
            if rows:
                _write_all(self._features, rows)
                os.fsync(self._features.fileno())
            _write_all(self._index, b"".join(texts))
            os.fsync(self._index.fileno())
        except BaseException as error:  # an interrupt from the keyboard too
            # Nothing may be appended behind half a row; should the cut fail, the next writer cuts.
            with contextlib.suppress(OSError):
                self._cut()
            self.close()
            if isinstance(error, OSError):
                raise self._failed(error) from error
            raise
        for line, text in zip(lines, texts, strict=True):
            self._journal.add(self._number, line, len(text))

    def _cut(self) -> None:
        """Cut both files back to what the journal vouches for; lines first, then their rows."""
        self._index.truncate(self._part.n_bytes)
        self._features.truncate(self._part.n_rows * self._header.row_bytes)

    def _keep(self, path: Path) -> BinaryIO:
        """Open for appending, unbuffered: what is written is written where the file ends now."""
        file = path.open("ab", buffering=0)
        self._files.append(file)
        return file

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self.folder}: cannot be written: {error.strerror or error};"
            " what is there stays valid, and the same command will go on from it"
        )


def _write_all(file: BinaryIO, content: bytes) -> None:
    """An unbuffered write may take only a part, when the disk is nearly full for instance."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]

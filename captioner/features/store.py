"""Reading a feature store: features of a frozen encoder, computed once and memory-mapped.

A store is a folder with a header, rows, a journal (see `captioner.features.journal`) and a lock;
`captioner.features.writer` writes it. Photos that have changed since, and features of another
encoder, are never used.

No torch and no encoder here: rows are numpy arrays.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captioner.datasets.records import ImageId
from captioner.features.header import FORMAT, Header, StoreError, plain
from captioner.features.journal import Entry, Journal, file_digest, file_stamp
from captioner.features.rows import decoded, stored_shape, stored_type

SAMPLE = 16
"""Photos that are read to decide whether a store belongs to a data set."""

Photos = Iterable[tuple[ImageId, Path]]
"""Image ids and the paths of their photos."""


def folder_name(key: Mapping[str, Any]) -> str:
    """Return the folder name of a store with this key; different keys give different names.

    Example:
        >>> folder_name({"encoder": "mobilenet_v2", "pooled": True})
        'mobilenet_v2-2ef71494d72a3f62'
    """
    text = json.dumps([FORMAT, plain(key)], sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", str(key.get("encoder", "features")))[:60]
    return f"{name}-{digest}"


class FeatureStore:
    """A snapshot of a store, opened for reading; later writes do not change it.

    Data-loading workers get it by pickling or forking. Each maps the file for itself, and the
    operating system keeps one copy in memory for all.

    Attributes:
        folder: The store's folder.
        key: What its features depend on, as given when it was created.
        shape: Of one photo's features: (F,) pooled or (R, F) grid.
        dtype: ``float16``, ``float32`` or ``int8`` (see `captioner.features.rows`).
        errors: Reason by image id, for the photos that could not be read.
        touched: Photos that the last call of `stale` had to read because their times had changed.
    """

    def __init__(self, folder: Path, header: Header, journal: Journal) -> None:
        self.folder = folder
        self.key = header.key
        self.shape = header.shape
        self.dtype = header.dtype
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
            StoreError: There is no store, it has another format version or key, or its files cannot
                be read.
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
        """Return the features of some photos, in the order given; an id may occur more than once.

        Returns:
            (B, *shape) in the store's dtype, float32 for int8, in memory of its own.

        Raises:
            StoreError: An id has no features.
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
        row = stored_shape(self.shape, self.dtype)
        found = np.empty((len(places), *row), stored_type(self.dtype))
        for part in np.unique(parts).tolist():
            own = parts == part
            found[own] = self._map(part)[numbers[own]]
        return decoded(found, self.shape, self.dtype)

    def known(self, photos: Photos) -> list[tuple[Entry, Path]]:
        """Return the entries of those photos that the store has features of."""
        lines = self._journal.lines
        found = ((lines[image_id].entry, path) for image_id, path in photos if image_id in lines)
        return [(entry, path) for entry, path in found if entry.digest]

    def holds(self, photos: Photos) -> bool:
        """Whether these are the photos of this store, even if some were added or have changed.

        Two data sets may share image ids, and two photos may share size and time by chance, so a
        few photos are read. Most must be unchanged, and none may differ at the same size and time.
        An empty store matches any photos.
        """
        known = self.known(photos)
        if not known:
            return not any(line.entry.digest for line in self._journal.lines.values())
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
        """Return the ids of photos that are not in the store or have changed since.

        A photo that could not be read and has not changed since is not stale: it is in `errors`.
        Each file costs a look at its size and time; its bytes are read only if the time alone has
        changed.
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
        """Return the ids whose rows fail their checksums. Reads the whole store."""
        lines = self._journal.lines
        in_file_order = sorted(self._journal.rows.items(), key=lambda item: item[1])
        return [
            image_id
            for image_id, (part, row) in in_file_order
            if zlib.crc32(self._map(part)[row].tobytes()) != lines[image_id].crc32
        ]

    def damage(self) -> list[str]:
        """Describe damaged journal files, one sentence each; their photos have no features."""
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
        """Return the path that a photo had when its features were computed."""
        return self._journal.lines[image_id].entry.path

    def _map(self, number: int) -> np.ndarray:
        part = self._journal.parts[number]
        row = stored_shape(self.shape, self.dtype)
        if part.n_rows == 0:  # an empty file cannot be mapped
            return np.empty((0, *row), stored_type(self.dtype))
        if number not in self._maps:
            try:
                self._maps[number] = np.memmap(
                    self.folder / part.features_name,
                    dtype=stored_type(self.dtype),
                    mode="r",
                    shape=(part.n_rows, *row),
                ).view(np.ndarray)
            except (OSError, ValueError) as error:  # ValueError: shorter than it was on opening
                raise StoreError(
                    f"{self.folder}: {part.features_name} cannot be read: {error}"
                ) from error
        return self._maps[number]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

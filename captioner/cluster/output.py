"""The folder of captions: JSON Lines or Parquet files, and a manifest from which a rerun resumes.

The command writes the files itself, each as a whole, and then the manifest. A file that the
manifest does not name, or whose digest differs, does not count. So whatever is killed and whenever,
each photo has one row.

    {"format": 1, "inputs": […], "options": {…}, "checkpoints": […],
     "complete": true, "count": …, "errors": …, "files": {NAME: {"count", "errors", "digest"}}}
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from captioner import __version__
from captioner.cluster import storage
from captioner.cluster.names import NONE, digests
from captioner.errors import CaptionerError, UsageError
from captioner.files.atomic import write_whole
from captioner.files.json_file import MAX_SMALL_BYTES, parse_json
from captioner.inference.shards import differing, lock_folder

FORMAT = 1
"""Version of the manifest."""

MANIFEST = "_manifest.json"
"""Readers of a folder of Parquet files skip names that begin with an underscore."""

LOCK = "_lock"

MAX_FILE = 2**33
"""Most bytes of a file of captions that is read again."""

MAX_WAITING = 2**26
"""Bytes of rows after which a file is written even if it has fewer rows: 64 MiB."""

READS = 16
"""Files of captions that are read again at the same time."""

SUFFIXES = {"jsonl": ".jsonl", "parquet": ".parquet"}


@dataclass(frozen=True)
class Written:
    """A file that is complete: its rows, those without a caption, and its blake2b-128."""

    count: int
    errors: int
    digest: str


class Folder:
    """A folder on this machine or in object storage.

    Args:
        name: Path or URI.

    Attributes:
        remote: Whether it is in object storage.
    """

    def __init__(self, name: str) -> None:
        self.name = name.rstrip("/")
        self.remote = storage.is_uri(name)

    def place(self, file: str) -> str:
        """Return the path or URI of a file in it."""
        if not self.remote:
            return str(Path(self.name, file))
        scheme, path, options = storage.divide(self.name)
        return f"{scheme}://{path.rstrip('/')}/{file}{options}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder, and keep other writers out where it is on this machine."""
        if self.remote:
            yield
        else:
            with lock_folder(Path(self.name), LOCK):
                yield

    def read(self, file: str) -> bytes | None:
        """Return the content of a file, or None if there is none."""
        return content_of(self.place(file))

    def write(self, file: str, content: bytes) -> None:
        """Write a file as a whole.

        Raises:
            CaptionerError: It cannot be written.
        """
        place = self.place(file)
        if not self.remote:
            write_whole(Path(place), content)
            return
        try:
            system, path = storage.opened(place)
            with system.open_output_stream(path) as stream:
                stream.write(content)
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:240]
            raise CaptionerError(f"{place}: cannot be written: {reason}") from error


class Output:
    """The captions of one command in a folder, new or resumed.

    Args:
        folder: The folder, locked.
        recipe: All that the captions depend on, as plain values.
        form: `jsonl` or `parquet`.
        size: Rows per file.

    Attributes:
        files: Complete files by name.

    Raises:
        UsageError: The folder was begun with another recipe.
        CaptionerError: The manifest is damaged.
    """

    def __init__(self, folder: Folder, recipe: Mapping[str, Any], form: str, size: int) -> None:
        self.folder = folder
        self.form = form
        self.size = size
        self.files: dict[str, Written] = {}
        options = {**recipe.get("options", {}), "format": form}
        self._recipe = json.loads(json.dumps({**recipe, "options": options}))
        self._waiting: list[pa.Table] = []
        self._rows = self._bytes = 0
        self._begin()

    @property
    def count(self) -> int:
        """Rows in complete files."""
        return sum(one.count for one in self.files.values())

    @property
    def errors(self) -> int:
        """Rows without a caption."""
        return sum(one.errors for one in self.files.values())

    def _begin(self) -> None:
        content = self.folder.read(MANIFEST)
        if content is None:
            if self.folder.read("manifest.json") is not None:
                raise UsageError(
                    f"--output: {self.folder.name} was begun without --engine ray; give the same "
                    "command, or name another folder"
                )
            self.save(complete=False)
            return
        place = self.folder.place(MANIFEST)
        try:
            values: Any = parse_json(content[:MAX_SMALL_BYTES].decode())
            found = {name: values[name] for name in (*self._recipe, "format")}
            files = {str(name): Written(**one) for name, one in values["files"].items()}
        except (CaptionerError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CaptionerError(
                f"{place}: damaged ({type(error).__name__}); remove the folder, or name another"
            ) from error
        other = differing(found, self._recipe | {"format": FORMAT})
        if other:
            raise UsageError(
                f"--output: {self.folder.name} was begun with other {', '.join(other)}; give the "
                "same command, or name another folder"
            )
        self.files = files

    def done(self) -> np.ndarray:
        """Return the sorted digests of all ids that have a row, read by tasks of the cluster.

        Files that are missing, damaged or repeat a row of another are forgotten.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task: Any = ray.remote(num_cpus=0.25)(digests_of)
        if not self.folder.remote:  # other machines need not see the folder
            here = ray.get_runtime_context().get_node_id()
            place = NodeAffinitySchedulingStrategy(here, soft=False)
            task = task.options(num_cpus=0, scheduling_strategy=place)
        names = list(self.files)
        found: dict[str, np.ndarray | None] = {}
        for first in range(0, len(names), READS):
            group = names[first : first + READS]
            asked = [
                task.remote(self.folder.place(name), self.form, self.files[name].digest)
                for name in group
            ]
            found.update(zip(group, ray.get(asked), strict=True))
        kept, self.files = without_repeats(found, self.files)
        return kept

    def add(self, rows: pa.Table) -> None:
        """Add rows; a file is written as soon as it is full."""
        self._waiting.append(rows)
        self._rows += rows.num_rows
        self._bytes += rows.nbytes
        while self._rows >= self.size or self._bytes > MAX_WAITING:
            table = pa.concat_tables(self._waiting)
            self._write(table.slice(0, self.size))
            rest = table.slice(self.size)
            # Copied, so that the rest does not keep the whole table in memory.
            rest = rest.take(pa.array(range(rest.num_rows), pa.int64()))
            self._waiting, self._rows, self._bytes = [rest], rest.num_rows, rest.nbytes

    def flush(self) -> None:
        """Write the rows that wait."""
        if self._rows:
            self._write(pa.concat_tables(self._waiting))
        self._waiting, self._rows, self._bytes = [], 0, 0

    def _write(self, table: pa.Table) -> None:
        numbers = (f"captions-{i:05d}{SUFFIXES[self.form]}" for i in range(len(self.files) + 1))
        name = next(one for one in numbers if one not in self.files)
        if self.form == "jsonl":
            content = "".join(f"{line}\n" for line in table["record"].to_pylist()).encode()
            errors = sum(table["failed"].to_pylist())
        else:
            buffer = io.BytesIO()
            pq.write_table(table, buffer)
            content = buffer.getvalue()
            errors = table.num_rows - table["error"].null_count
        self.folder.write(name, content)
        self.files[name] = Written(table.num_rows, errors, _digest(content))
        self.save(complete=False)

    def save(self, *, complete: bool) -> None:
        """Write the manifest."""
        values = {
            "format": FORMAT,
            "program_version": __version__,
            **self._recipe,
            "complete": complete,
            "count": self.count,
            "errors": self.errors,
            "files": {name: asdict(one) for name, one in sorted(self.files.items())},
        }
        self.folder.write(MANIFEST, (json.dumps(values, indent=1) + "\n").encode())


def content_of(place: str) -> bytes | None:
    """Return the content of a path or URI, or None if there is no such file.

    Raises:
        CaptionerError: It cannot be read.
    """
    if not storage.is_uri(place):
        file = Path(place)
        return file.read_bytes() if file.is_file() else None
    system, path = storage.opened(place)
    with storage.readable(place):
        if system.get_file_info(path).type != fs.FileType.File:
            return None
    return storage.content(place, MAX_FILE)


def digests_of(place: str, form: str, digest: str) -> np.ndarray | None:
    """Return the digests of the ids in a file of captions; None if the file is not as written."""
    content = content_of(place)
    if content is None or _digest(content) != digest:
        return None
    if form == "parquet":
        ids = pq.read_table(io.BytesIO(content), columns=["id"])["id"].to_pylist()
    else:
        ids = [json.loads(line)["id"] for line in content.splitlines()]
    return digests(ids)


def without_repeats(
    found: Mapping[str, np.ndarray | None], files: Mapping[str, Written]
) -> tuple[np.ndarray, dict[str, Written]]:
    """Return the sorted digests of the ids in files, and the files without those to forget.

    Args:
        found: Digests by file; None for a file that is not as written.
        files: The files.
    """
    whole = {name: own for name, own in found.items() if own is not None}
    every = np.sort(np.concatenate([NONE, *whole.values()]))
    if not (every[1:] == every[:-1]).any():
        return every, {name: files[name] for name in whole}
    kept = NONE  # slow, but nearly never needed: a file that repeats a row of another
    names = []
    for name, own in whole.items():
        if len(np.unique(own)) == len(own) and not np.isin(own, kept).any():
            kept = np.concatenate([kept, own])
            names.append(name)
    return np.sort(kept), {name: files[name] for name in names}


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()

"""Tasks that read photos and turn them into pixels. They import no torch.

A row of a photo on its way: `id`, `image` (its name in records, as bytes of the file system),
`place` (absolute path or URI), `content` (bytes of its file, if they were in a tar or a table) and
`error`. After decoding: `id`, `image`, `error`, `width`, `height` and one column of pixels per
transform, (3, S, S) uint8 in order.
"""

import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import ray

from captioner.cluster import storage
from captioner.cluster.ledger import LOST, carefully
from captioner.cluster.names import NONE, among, spelled
from captioner.cluster.photos import (
    PHOTO,
    TAR,
    Columns,
    cells,
    chosen_columns,
    known_rows,
    opened_parquet,
)
from captioner.errors import CaptionerError, UsageError
from captioner.photos.address import SCHEMES, Address, scheme_of
from captioner.photos.limits import MAX_BYTES
from captioner.photos.source import PhotoSource, Read, read_pixels
from captioner.photos.tar import Member, TarError, members, members_of
from captioner.photos.transform import Transform

READERS = 8
"""Threads of a task that reads from object storage, where most of the time is waiting."""

BUFFER = 2**22
"""Bytes read at once from a tar in object storage."""

MAX_CONTENT = 2**26
"""Bytes of photos from a tar or table that travel together: 64 MiB and one photo."""

ROW = pa.schema(
    [
        ("id", pa.string()),
        ("image", pa.binary()),
        ("place", pa.binary()),
        ("content", pa.large_binary()),
        ("error", pa.string()),
    ]
)


@dataclass(frozen=True)
class Row:
    """A photo before it is read; see the module."""

    id: str
    image: str
    place: str = ""
    content: bytes | None = None
    error: str | None = None


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Return rows as a table."""
    values = [
        [row.id for row in rows],
        [os.fsencode(row.image) for row in rows],
        [os.fsencode(row.place) for row in rows],
        [row.content for row in rows],
        [row.error for row in rows],
    ]
    return pa.table(dict(zip(ROW.names, values, strict=True)), schema=ROW)


def in_tables(rows: Iterable[Row], size: int) -> Iterator[pa.Table]:
    """Group rows into tables of `size` rows, or fewer where their content is large."""
    waiting: list[Row] = []
    held = 0
    for row in rows:
        waiting.append(row)
        held += len(row.content or b"")
        if len(waiting) == size or held > MAX_CONTENT:
            yield table_of(waiting)
            waiting, held = [], 0
    if waiting:
        yield table_of(waiting)


# What a unit holds


def open_units(batch: pa.Table, *, size: int, done: Any) -> Iterator[pa.Table]:
    """Yield the photos of units (`captioner.cluster.photos`), those of tars with their content.

    Args:
        batch: Units.
        size: Photos per table.
        done: A list of one reference to the digests of ids that are captioned; empty if none are.
    """
    found = batch.to_pylist()
    if all(unit["kind"] == PHOTO for unit in found):
        yield table_of([_row(unit) for unit in found])
        return
    known: np.ndarray = ray.get(done[0]) if done else NONE
    for unit in found:
        if unit["kind"] == PHOTO:
            yield table_of([_row(unit)])
        elif unit["kind"] == TAR:
            yield from in_tables(_in_tar(_row(unit), known), size)
        else:
            yield from in_tables(_in_parquet(_row(unit), json.loads(unit["more"]), known), size)


def _row(unit: dict[str, Any]) -> Row:
    image, place = os.fsdecode(unit["image"]), os.fsdecode(unit["place"])
    return Row(unit["id"], image, place, error=unit["error"])


def _in_tar(tar: Row, done: np.ndarray) -> Iterator[Row]:
    met: set[str] = set()
    try:
        for member in _members(tar.place):
            image = f"{tar.image.rstrip('/')}/{member.name.lstrip('/')}"
            if not storage.is_uri(tar.image):
                image = str(Path(image))
            name = spelled(image)
            if name in met or among([name], done)[0]:
                continue
            met.add(name)
            if member.error is not None:
                yield Row(name, image, error=member.error)
                continue
            try:
                content = member.content()
            except TarError as error:
                yield Row(name, image, error=str(error))
                continue
            yield Row(name, image, image, content)
    except (TarError, CaptionerError) as error:
        name = f"{tar.id}#error"  # not the tar's own id: its other photos may be missing yet
        if not among([name], done)[0]:
            yield Row(name, tar.image, error=str(error))


def _members(place: str) -> Iterator[Member]:
    if not storage.is_uri(place):
        yield from members(Path(place))
        return
    with storage.readable(place):
        system, path = storage.opened(place)
        size = system.get_file_info(path).size or 0
        with system.open_input_file(path) as file:
            buffered = io.BufferedReader(cast("Any", file), BUFFER)
            yield from members_of(cast("IO[bytes]", buffered), path, size)


def _in_parquet(unit: Row, more: dict[str, Any], done: np.ndarray) -> Iterator[Row]:
    columns = Columns(more["photo"], more["id"])
    group, first = more["group"], more["first"]
    assert columns.photo is not None
    try:
        with opened_parquet(unit.place) as file:
            count = file.metadata.row_group(group).num_rows
            if columns.id is None:
                ids = [f"{spelled(unit.image)}#{first + i}" for i in range(count)]
            else:
                ids = ids_of(file.read_row_group(group, columns=[columns.id])[columns.id])
            fresh = known_rows(ids, done)
            if not any(fresh):
                return
            place = 0
            for batch in file.iter_batches(32, row_groups=[group], columns=[columns.photo]):
                for name, content in cells(batch.column(0)):
                    if fresh[place]:
                        yield row_of(ids[place], name, content)
                    place += 1
    except (CaptionerError, pa.ArrowException, OSError) as error:
        text = " ".join(str(error).split())
        yield Row(f"{unit.id}#error", unit.image, error=f"the Parquet file cannot be read: {text}")


def row_of(own: str, name: str | None, content: bytes | None) -> Row:
    """Return the row of a photo in a table, by its id, and its name or content."""
    image = name or own
    if content is not None:
        return Row(own, image, image, content)
    if name is None:
        return Row(own, image, error="the table holds no photo here (null)")
    place = name if storage.is_uri(name) else os.path.abspath(name)  # noqa: PTH100
    return Row(own, image, place)


def ids_of(column: Any) -> list[str]:
    """Return the ids in a column, as text."""
    return [spelled(str(cell.as_py())) for cell in column]


# Tables of the user


def from_table(batch: pa.Table, *, columns: Columns) -> pa.Table:
    """Return the photos in a batch of a user's dataset, as rows.

    Raises:
        UsageError: There is no such column, or photos without names need a column of ids.
    """
    chosen = chosen_columns(batch.schema, columns, "dataset")
    photos = list(cells(batch[chosen.photo]))
    if chosen.id is not None:
        ids = ids_of(batch[chosen.id])
    else:
        other = next((one for one in ("path", "uri", "__key__") if one in batch.schema.names), None)
        named = ids_of(batch[other]) if other else [name for name, _ in photos]
        if any(name is None for name in named):
            raise UsageError(
                f"dataset: column {chosen.photo!r} holds file contents without names; name a "
                f"column of ids with id_column (it has {', '.join(batch.schema.names)})"
            )
        ids = [spelled(str(name)) for name in named]
    rows = [row_of(own, name, content) for own, (name, content) in zip(ids, photos, strict=True)]
    return table_of(rows)


# Pixels


def decode(batch: pa.Table, *, transforms: Sequence[Transform], ledger: Any) -> pa.Table:
    """Read and transform the photos of some rows; the error of a bad photo takes their place."""
    rows = [
        Row(one["id"], os.fsdecode(one["image"]), os.fsdecode(one["place"]), None, one["error"])
        for one in batch.select(["id", "image", "place", "error"]).to_pylist()
    ]
    contents = batch["content"]

    def read(places: Sequence[int]) -> list[Read | str]:
        sources = (lambda i=i: _source(rows[i], contents[i].as_py()) for i in places)
        remote = len(places) > 1 and any(storage.is_uri(rows[i].place) for i in places)
        if not remote:
            return [read_pixels(source(), transforms) for source in sources]
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(lambda source: read_pixels(source(), transforms), sources))

    ids = [row.id for row in rows]
    found = carefully(ledger, "decode", ids, read, lambda place: LOST)
    return pixel_table(rows, found, len(transforms))


def _source(row: Row, content: bytes | None) -> PhotoSource:
    path = Path(PurePosixPath(row.place).name if storage.is_uri(row.place) else row.place)
    if row.error is not None or content is not None:
        return PhotoSource(path, content, error=row.error)
    if not storage.is_uri(row.place):
        return PhotoSource(path)
    if scheme_of(row.place) in SCHEMES:
        return PhotoSource(Address(row.place))
    try:
        content = storage.content(row.place, MAX_BYTES)
    except CaptionerError as error:
        return PhotoSource(path, error=str(error).removeprefix(f"{row.place}: "))
    if len(content) > MAX_BYTES:
        reason = f"the file has more than the {MAX_BYTES:,} bytes allowed"
        return PhotoSource(path, error=reason)
    return PhotoSource(path, content)


def pixel_table(rows: Sequence[Row], found: Sequence[Read | str], transforms: int) -> pa.Table:
    """Return decoded photos as a table; see the module."""
    columns: dict[str, Any] = {
        "id": pa.array([row.id for row in rows], pa.string()),
        "image": pa.array([os.fsencode(row.image) for row in rows], pa.binary()),
        "error": pa.array([one if isinstance(one, str) else None for one in found], pa.string()),
        "width": pa.array([0 if isinstance(one, str) else one.size[0] for one in found]),
        "height": pa.array([0 if isinstance(one, str) else one.size[1] for one in found]),
    }
    for number in range(transforms):
        pixels = [None if isinstance(one, str) else one.pixels[number].tobytes() for one in found]
        columns[f"pixels{number}"] = pa.array(pixels, pa.large_binary())
    return pa.table(columns)

"""Inputs of a command as rows that tasks of a cluster read: photos, tars, parts of Parquet files.

The command lists its inputs, without opening a photo or a tar. A task opens what a row names:

- a photo (`PHOTO`): one file on shared or object storage;
- a tar (`TAR`): each picture in it;
- some rows of a Parquet file (`ROWS`): a column of file contents, paths or URIs.

Each photo has an id: its name as the command line shows it, `file.parquet#12` for a row of a
Parquet file, or the value of a column that the user names. An id that is known is skipped.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from captioner.cluster import storage
from captioner.cluster.names import Seen, spelled
from captioner.errors import CaptionerError, UsageError, shown
from captioner.files.json_file import as_list, parse_json
from captioner.photos.address import SCHEMES, refusal, scheme_of
from captioner.photos.folders import is_hidden, is_photo, is_shard
from captioner.photos.inputs import PhotoInput, braces, expand
from captioner.photos.lists import paths_of_stream, read_list

PHOTO, TAR, ROWS = "photo", "tar", "rows"

BLOCK = 64
"""Photos in each of the first blocks of rows, so that few photos still occupy many tasks."""

LATER_BLOCK = 512
"""Photos in later blocks."""

MAX_ANNOTATIONS = 2**31
"""Most bytes of a COCO file in object storage."""


@dataclass(frozen=True)
class Unit:
    """Something that a task reads.

    Attributes:
        kind: `PHOTO`, `TAR` or `ROWS`.
        image: Its name in records.
        place: Absolute path or URI.
        error: Why it cannot be read, if that is known.
        more: For `ROWS`: group, first row and columns.
    """

    kind: str
    image: str
    place: str
    error: str | None = None
    more: str = ""

    @property
    def id(self) -> str:
        """What identifies it: the name, and the rows of a Parquet file."""
        return spelled(self.image + (f"#{self.more}" if self.more else ""))


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table of photos, as the user gives them.

    Attributes:
        photo: File contents, paths or URIs; None finds the column by its name.
        id: Ids; None takes the name of the photo.
    """

    photo: str | None = None
    id: str | None = None


def units(
    names: Iterable[str],
    *,
    lists: Sequence[str] = (),
    images: str | None = None,
    columns: Columns | None = None,
    allow_url: bool = False,
    note: Callable[[str], None] = lambda sentence: None,
) -> Iterator[Unit]:
    """List the inputs of a command, in order; see `captioner.photos.inputs.expand`.

    Args:
        names: Inputs as on the command line, or URIs of files, folders and globs.
        lists: Files with one path or URI per line, which follow the names.
        images: Folder of the photos of COCO files.
        columns: Columns of Parquet files.
        allow_url: Whether addresses of http and https are downloaded.
        note: Called with a message for each folder in which files were skipped.

    Raises:
        UsageError: A name cannot be understood.
        CaptionerError: Storage or a COCO file cannot be read.
    """
    own = _Inputs(columns or Columns(), images, allow_url)
    folder = None if images is None or storage.is_uri(images) else Path(images)
    for name in names:
        if name == "-" or (name.startswith("@") and not os.path.lexists(name)):
            lines = paths_of_stream(sys.stdin) if name == "-" else read_list(Path(name[1:]))
            yield from own.listed(lines)
        elif storage.is_uri(name):
            for one in braces(name):
                yield from own.remote(one)
        elif _is_parquet(name):
            for photo in expand([name], whole_tars=True):
                yield from _parquet(str(photo.path), own.columns)
        else:
            found = expand([name], images=folder, note=note, whole_tars=True)
            yield from map(_local, found)
    for name in lists:
        yield from own.listed(read_list(Path(name)))


def tables(found: Iterable[Unit], seen: Seen) -> Iterator[pa.Table]:
    """Group units into tables of rows, leaving out those whose ids have been met.

    A table holds some photos, or one tar, or one part of a Parquet file.
    """
    waiting: list[Unit] = []
    written = 0
    for unit in found:
        if unit.kind == PHOTO:
            waiting.append(unit)
            if len(waiting) >= (BLOCK if written < BLOCK else LATER_BLOCK):
                yield from _table(waiting, seen)
                waiting, written = [], written + 1
        else:
            yield from _table([unit], seen)
    yield from _table(waiting, seen)


def _table(found: Sequence[Unit], seen: Seen) -> Iterator[pa.Table]:
    fresh = seen.new([unit.id for unit in found])
    kept = [unit for unit, is_new in zip(found, fresh, strict=True) if is_new]
    if kept:
        columns = {
            "id": pa.array([unit.id for unit in kept], pa.string()),
            "image": pa.array([os.fsencode(unit.image) for unit in kept], pa.binary()),
            "kind": pa.array([unit.kind for unit in kept], pa.string()),
            "place": pa.array([os.fsencode(unit.place) for unit in kept], pa.binary()),
            "error": pa.array([unit.error for unit in kept], pa.string()),
            "more": pa.array([unit.more for unit in kept], pa.string()),
        }
        yield pa.table(columns)


def _local(photo: PhotoInput) -> Unit:
    kind = TAR if is_shard(photo.path.name) and photo.error is None else PHOTO
    return Unit(kind, str(photo.path), os.path.abspath(photo.path), photo.error)  # noqa: PTH100


@dataclass(frozen=True)
class _Inputs:
    """What URIs and lists name."""

    columns: Columns
    images: str | None
    allow_url: bool

    def listed(self, lines: Iterable[str]) -> Iterator[Unit]:
        """Yield what a list names, line by line; neighbours share their folder's listing."""
        rest = iter(lines)
        while some := list(islice(rest, LATER_BLOCK)):
            local = [line for line in some if not storage.is_uri(line)]
            photos = iter(expand(["-"], local, whole_tars=True))
            for line in some:
                if storage.is_uri(line):
                    yield from self.one(line)
                else:
                    yield _local(next(photos))

    def remote(self, uri: str) -> Iterator[Unit]:
        """Yield what a URI names: a file, the files of a folder, or the matches of a glob."""
        if scheme_of(uri) in SCHEMES:
            yield from self.one(uri)
            return
        if uri.lower().partition("?")[0].endswith(".json"):
            yield from _coco(uri, self.images)
            return
        found = storage.files_below(uri)
        folder = found != [uri]
        base = storage.divide(uri)[1]
        for one in found or [uri]:
            path = storage.divide(one)[1]
            inside = path.removeprefix(base).split("/")
            named = is_photo(path) or is_shard(path) or _is_parquet(path)
            if not folder or not found or (named and not is_hidden(inside)):
                yield from self.one(one)

    def one(self, uri: str) -> Iterator[Unit]:
        """Yield a photo, a tar, or the parts of a Parquet file."""
        if scheme_of(uri) in SCHEMES:
            yield Unit(PHOTO, uri, uri, refusal(uri, allowed=self.allow_url))
            return
        path = storage.divide(uri)[1]
        if _is_parquet(path):
            yield from _parquet(uri, self.columns)
        else:
            yield Unit(TAR if is_shard(path) else PHOTO, storage.without_options(uri), uri)


def _coco(uri: str, images: str | None) -> Iterator[Unit]:
    """Yield the images of a COCO file in object storage."""
    content = storage.content(uri, MAX_ANNOTATIONS)
    try:
        values = parse_json(content.decode())
    except (ValueError, UnicodeDecodeError) as error:
        raise CaptionerError(f"{uri}: not a JSON file: {error}") from error
    entries = as_list(values, Path(uri), "images")
    scheme, path, options = storage.divide(uri if images is None else images)
    folder = f"{scheme}://{path.rpartition('/')[0] if images is None else path.rstrip('/')}"
    for index, entry in enumerate(entries):
        name = entry.get("file_name") if isinstance(entry, dict) else None
        place = f"{storage.without_options(uri)}/images[{index}]"
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            reason = f'"file_name" is no file name: {shown(name)}'
            yield Unit(PHOTO, place, place, reason)
        elif name.startswith("/") or ".." in name.split("/"):
            yield Unit(PHOTO, place, place, f"{shown(name)} is outside its folder")
        else:
            yield Unit(PHOTO, f"{folder}/{name}", f"{folder}/{name}{options}")


# Parquet


def _is_parquet(name: str) -> bool:
    return re.search(r"\.(parquet|pq)$", name.partition("?")[0].lower()) is not None


def _parquet(name: str, columns: Columns) -> Iterator[Unit]:
    """Yield one unit for each row group of a Parquet file."""
    place = name if storage.is_uri(name) else os.path.abspath(name)  # noqa: PTH100
    with opened_parquet(place) as file:
        chosen = chosen_columns(file.schema_arrow, columns, name)
        first = 0
        for group in range(file.metadata.num_row_groups):
            more = {"group": group, "first": first, "photo": chosen.photo, "id": chosen.id}
            yield Unit(ROWS, storage.without_options(name), place, more=json.dumps(more))
            first += file.metadata.row_group(group).num_rows


def opened_parquet(place: str) -> pq.ParquetFile:
    """Open a Parquet file by its path or URI; a context manager.

    Raises:
        CaptionerError: It is missing or not a Parquet file.
    """
    with storage.readable(place):
        if not storage.is_uri(place):
            return pq.ParquetFile(place)
        system, path = storage.opened(place)
        return pq.ParquetFile(system.open_input_file(path))


def chosen_columns(schema: pa.Schema, columns: Columns, name: str) -> Columns:
    """Return which columns of a table hold photos and ids.

    Raises:
        UsageError: There is no such column, or it holds something else.
    """
    usual = ("bytes", "image", "jpg", "jpeg", "png", "webp", "content", "uri", "url", "path")
    for given in (columns.photo, columns.id):
        if given is not None and given not in schema.names:
            raise UsageError(f"{name}: no column {given!r}; it has {', '.join(schema.names)}")
    photo = columns.photo or next(
        (one for one in usual if one in schema.names and _holds_photos(schema.field(one).type)),
        None,
    )
    if photo is None:
        raise UsageError(
            f"{name}: which column holds the photos? It has {', '.join(schema.names)}; "
            "name one of file contents, paths or URIs with --column"
        )
    if not _holds_photos(schema.field(photo).type):
        raise UsageError(
            f"{name}: column {photo!r} holds {schema.field(photo).type}; expected file contents "
            "(binary), paths or URIs"
        )
    return replace(columns, photo=photo)


def _holds_photos(kind: Any) -> bool:
    if pa.types.is_struct(kind):  # Hugging Face's images: {"bytes": …, "path": …}
        return kind.get_field_index("bytes") >= 0 or kind.get_field_index("path") >= 0
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    return any(test(kind) for test in tests)


def cells(column: Any) -> Iterator[tuple[str | None, bytes | None]]:
    """Yield name and content of each photo in a column; either may be None."""
    for cell in column:
        value = cell.as_py()
        if isinstance(value, dict):
            name, content = value.get("path"), value.get("bytes")
            yield (name if isinstance(name, str) else None), content
        elif isinstance(value, bytes):
            yield None, value
        else:
            yield (value if isinstance(value, str) else None), None


def known_rows(rows: Sequence[str], known: np.ndarray) -> list[bool]:
    """Return for each id whether it is not known and not a repetition."""
    return Seen(known).new(list(rows))

"""Recognise the format of a folder of photos and captions, for `data.format auto`."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from captioner.datasets import csv_file, flickr8k, jsonl, karpathy, sidecar
from captioner.datasets.annotation_files import Names
from captioner.datasets.caption_table import is_table, parse_columns
from captioner.datasets.records import Collector
from captioner.errors import UsageError


def detect_format(
    root: Path,
    *,
    images: Path | None = None,
    annotations: Path | None = None,
    columns: str | None = None,
) -> str:
    """Return the format of a data set, by the names of its files and their first lines.

    Args:
        root: Folder of the data set.
        images: Folder of the photos, if the user names one; relative to `root`, like the next.
        annotations: The annotation file, if the user names one.
        columns: Custom headings of a table, such as `image=photo, caption=title`.

    Raises:
        UsageError: There is no folder, no captions, or captions in several formats.
        CaptionerError: A file cannot be read.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise UsageError(f"data.root: no folder {root}")
    if annotations is not None:
        return _format_of(root / annotations.expanduser())
    folder = root if images is None else root / images.expanduser()
    found = dict(_found(root, folder, parse_columns(columns)))
    if not found:
        raise UsageError(
            f"data.root: no captions in {root}; expected a text file beside each photo (a.jpg and "
            "a.txt), metadata.jsonl or captions.csv; for anything else set data.format"
        )
    if len(found) > 1:
        listed = ", ".join(f"{name} ({file})" for name, file in found.items())
        raise UsageError(
            f"data.root: {root} has captions in several formats: {listed}; choose one with "
            "data.format"
        )
    return next(iter(found))


def _format_of(file: Path) -> str:
    """Return the format of a named annotation file."""
    if file.suffix.lower() == ".jsonl":
        return "jsonl"
    if file.suffix.lower() == ".json":
        return "karpathy"
    first = next(Collector().lines(file), None)
    return "flickr8k" if first and flickr8k.is_token_line(first[1]) else "csv"


def _found(root: Path, images: Path, columns: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the formats that a folder has, each with the name of a file that shows it."""
    lists = [name for name in flickr8k.SPLIT_LISTS.values() if (root / name).is_file()]
    tokens = [name for name in flickr8k.TOKEN_FILES if (root / name).is_file()]
    if lists or tokens:
        yield "flickr8k", [*tokens, *lists][0]
    for name in karpathy.FILES:
        if (root / name).is_file():
            yield "karpathy", name
    for file in sorted(root.glob("annotations/captions_*.json")):
        yield "coco", f"{file.parent.name}/{file.name}"
    yield from _files("jsonl", root, jsonl.NAMES, lambda file: True)
    if not (lists or tokens):  # whose captions may be in a table too
        yield from _files("csv", root, csv_file.NAMES, lambda file: is_table(file, columns))
    if file_beside := sidecar.first_caption_file(images):
        yield "sidecar", file_beside.name


def _files(
    name: str, root: Path, names: Names, is_one: Callable[[Path], bool]
) -> Iterator[tuple[str, str]]:
    for file in names.find(root):
        if is_one(file.path):
            yield name, f"{file.prefix}{file.path.name}"
            return

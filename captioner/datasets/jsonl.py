"""JSON Lines, a format for your own photos: one photo with its captions per line.

`{"image": "a/b.jpg", "captions": ["…", "…"], "split": "train", "id": 17}`

`image` is a path relative to the photo folder. `split` is "train", "val" or "test". It is required
unless `data.split` divides the photos, because scores are meaningless if a scored photo was trained
on. `id` is an integer or a string; the default is the image's path. Other keys are ignored.

`metadata.jsonl` of Hugging Face image folders is also supported, with the keys `file_name` and
`text` (or another common name for captions). If `train/`, `validation/` and `test/` each have one,
these folders are the splits.
"""

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from captioner.datasets.annotation_files import AnnotationFile, Names, annotation_files
from captioner.datasets.caption_table import COLUMNS
from captioner.datasets.records import Collector, ImageId, Loaded, check_id
from captioner.errors import shown
from captioner.files.json_file import first_folder, parse_json

_PLURAL = ("texts", "sentences")  # keys of lists; the others hold one caption

NAMES = Names(
    "JSON Lines file", ("captions.jsonl", "metadata.jsonl"), (".jsonl",), "metadata.jsonl"
)


def load(
    root: Path,
    *,
    images: Path | None = None,
    annotations: Path | None = None,
    columns: Mapping[str, str] | None = None,
    divided_later: bool = False,
) -> Loaded:
    """Read photos and captions from JSON Lines.

    Args:
        root: Folder of the data set.
        images: Folder of the photos. Default: `root`.
        annotations: The file. Default: `captions.jsonl`, `metadata.jsonl` or the only `*.jsonl` in
            `root`, or one in each split's folder.
        columns: Custom keys for image, caption and split.
        divided_later: Whether to accept lines without a split.

    Raises:
        UsageError: The file or folder does not exist, or there are several files.
        CaptionerError: The file cannot be read.
    """
    collector = Collector(divided_later=divided_later)
    folder = first_folder([images or root], "photos")
    for file in annotation_files(root, annotations, NAMES):
        _add(collector, file, folder, columns or {}, divided_later=divided_later)
    return collector.loaded


def _add(
    collector: Collector,
    source: AnnotationFile,
    folder: Path,
    columns: Mapping[str, str],
    *,
    divided_later: bool,
) -> None:
    file = source.path
    needed = source.split is None and not divided_later
    for place, entry in _entries(collector, file, columns, split_needed=needed):
        image = entry["image"]
        name = source.prefix + image if isinstance(image, str) else image  # checked by `add`
        collector.add(
            image_id=entry.get("id", name),
            folder=folder,
            name=name,
            captions=entry["captions"],
            split=source.split or entry.get("split"),
            file=file,
            place=place,
        )


def read_captions(
    collector: Collector, file: Path
) -> Iterator[tuple[ImageId, str, str | None, list[object]]]:
    """Yield image id, name, split and captions of each photo; photos need not exist."""
    for place, entry in _entries(collector, file, {}, split_needed=False):
        try:
            image_id = check_id(entry.get("id", entry["image"]))
        except ValueError as fault:
            collector.report(file, place, fault)
            continue
        split = entry.get("split")
        yield (
            image_id,
            str(entry["image"]),
            split if isinstance(split, str) else None,
            entry["captions"],
        )


def _entries(
    collector: Collector, file: Path, columns: Mapping[str, str], *, split_needed: bool
) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, line in collector.lines(file):
        try:
            yield place, _parse(line, columns, split_needed=split_needed)
        except ValueError as fault:
            collector.report(file, place, str(fault))


def _parse(line: str, columns: Mapping[str, str], *, split_needed: bool) -> dict[str, Any]:
    """One line's object, with image, captions (a list) and split; else ValueError says why not."""
    try:
        entry = parse_json(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"column {error.colno}: not JSON: {error.msg}") from None
    if not isinstance(entry, dict):
        raise ValueError(
            f'expected an object {{"image": …, "captions": […], "split": …}}, not {shown(entry)}'
        )
    entry = _usual_keys(entry, columns)
    for key in ("image", "captions", "split") if split_needed else ("image", "captions"):
        if key not in entry:
            near = get_close_matches(key, entry, n=1)
            hint = f' (found "{near[0]}")' if near else ""
            raise ValueError(f'no "{key}"{hint}')
    if not isinstance(entry["captions"], list):
        raise ValueError(f'"captions" must be a list of strings, not {shown(entry["captions"])}')
    return entry


def _usual_keys(entry: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Rename the object's keys to "image", "captions" and "split"."""
    entry = dict(entry)
    for ours, name in (("image", "image"), ("captions", "caption"), ("split", "split")):
        named = columns.get(name)
        if ours in entry and named is None:
            continue
        for key in (named,) if named else COLUMNS[name]:
            if key == "image_id" or key not in entry:  # in JSON Lines, an image id is not a name
                continue
            value = entry[key]
            if ours == "captions" and not (named or key in _PLURAL) and not isinstance(value, str):
                continue
            entry[ours] = [value] if ours == "captions" and isinstance(value, str) else value
            break
    return entry

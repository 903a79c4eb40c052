"""COCO caption files, one for each split (Chen et al. 2015, Microsoft COCO Captions).

``{"images": [{"id", "file_name"}], "annotations": [{"id", "image_id", "caption"}]}``

Ids are numbers in COCO itself; files made by others may use text instead, as long as images and
annotations write the same id the same way.
"""

import contextlib
import io
from functools import partial
from pathlib import Path
from typing import Any

from captioner.datasets.records import SPLITS, Collector, Loaded, check_id
from captioner.errors import CaptionerError, UsageError, shown
from captioner.files.json_file import as_list, first_folder, read_json

_YEARS = ("2014", "2017", "")


def load(root: Path, *, images: Path | None = None, annotations: dict[str, Path | None]) -> Loaded:
    """Read the splits of a COCO caption data set.

    Args:
        root: Its folder, with ``annotations/captions_{train,val,test}{2014,2017,}.json``.
        images: Folder of the photos; else, for ``captions_X.json``, ``X``, ``images/X`` or
            ``images`` under ``root``, the first that is there.
        annotations: Split to caption file, where it has not the usual name.

    Returns:
        The records; a split without a file is empty.

    Raises:
        UsageError: A file or folder is not there, or files of two years are.
        CaptionerError: A file has not this format.
    """
    collector = Collector()
    for split, file in _caption_files(root, annotations).items():
        _load_split(collector, root, images, split, file)
    return collector.loaded


def _caption_files(root: Path, named: dict[str, Path | None]) -> dict[str, Path]:
    found: dict[str, dict[str, Path]] = {}
    for year in _YEARS:
        for split in SPLITS:
            file = root / "annotations" / f"captions_{split}{year}.json"
            if not named.get(split) and file.is_file():
                found.setdefault(year, {})[split] = file
    options = "data.train_annotations, data.val_annotations, data.test_annotations"
    if len(found) > 1:
        names = ", ".join(file.name for files in found.values() for file in files.values())
        raise UsageError(
            f"{root / 'annotations'} holds caption files of several years ({names}): "
            f"choose with {options}"
        )
    files = next(iter(found.values()), {}) | {split: file for split, file in named.items() if file}
    if not files:
        raise UsageError(
            f"no COCO caption files in {root}: looked for "
            "annotations/captions_{train,val,test}{2014,2017,}.json; "
            f"name others with {options}"
        )
    return {split: files[split] for split in SPLITS if split in files}


def _load_split(
    collector: Collector, root: Path, images: Path | None, split: str, file: Path
) -> None:
    content = read_json(file)
    image_entries = _check_images(collector, file, content)
    by_image = _index_annotations(collector, file, content, image_entries)
    base = file.stem.removeprefix("captions_")
    folders = (images / base, images) if images else (root / base, root / "images" / base)
    folder = first_folder(folders if images else (*folders, root / "images"), f"{split} photos")
    for entry in image_entries:
        found = by_image.get(entry["id"], [])
        collector.add(
            image_id=entry["id"],
            folder=folder,
            name=entry.get("file_name"),
            captions=[annotation.get("caption") for annotation in found],
            split=split,
            file=file,
            place=f"image {shown(entry['id'])}",
            caption_place=partial(_annotation_place, found),
        )


def _annotation_place(annotations: list[dict[str, Any]], index: int) -> str:
    return f"annotation {shown(annotations[index]['id'])}"


def _check_images(collector: Collector, file: Path, content: object) -> list[dict[str, Any]]:
    entries = []
    for index, entry in enumerate(as_list(content, file, "images")):
        try:
            if not isinstance(entry, dict):
                raise ValueError(f"must be an object, not {shown(entry)}")
            check_id(entry.get("id"))
        except ValueError as fault:
            collector.report(file, f"images[{index}]", str(fault))
        else:
            entries.append(entry)
    return entries


def _index_annotations(
    collector: Collector, file: Path, content: object, images: list[dict[str, Any]]
) -> dict[object, list[dict[str, Any]]]:
    """Image id to its annotations, indexed by pycocotools.

    pycocotools answers a bad file with a bare KeyError or AssertionError, or overwrites the first
    of two equal ids; so it is given only what has been checked.
    """
    from pycocotools.coco import COCO  # costs 0.1 s, and only this format needs it

    given = as_list(content, file, "annotations")
    if given and not any(isinstance(entry, dict) and "caption" in entry for entry in given):
        raise CaptionerError(f'{file}: no annotation has a "caption": not a COCO caption file')
    known = {entry["id"] for entry in images}
    used: set[object] = set()
    usable = []
    for number, entry in enumerate(given, start=1):
        fault = _annotation_fault(entry, known, used)
        if fault is None:
            used.add(entry["id"])
            usable.append(entry)
        else:
            named = isinstance(entry, dict) and type(entry.get("id")) in (int, str)
            place = f"annotation {shown(entry['id'])}" if named else f"annotations[{number - 1}]"
            collector.report(file, place, fault)
    index = COCO()
    index.dataset = {"images": images, "annotations": usable}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        index.createIndex()
    by_image: dict[object, list[dict[str, Any]]] = index.imgToAnns
    return by_image


def _annotation_fault(entry: Any, known: set[object], used: set[object]) -> str | None:
    """What is wrong with an annotation, but for its caption."""
    if not isinstance(entry, dict):
        return f"must be an object, not {shown(entry)}"
    annotation_id, image_id = entry.get("id"), entry.get("image_id")
    if type(annotation_id) not in (int, str):
        return f'"id" must be a whole number, not {shown(annotation_id)}'
    if annotation_id in used:
        return "this annotation id occurs twice: give each caption its own"
    if type(image_id) not in (int, str) or image_id not in known:
        other: object = str(image_id)
        if isinstance(image_id, str) and image_id.isdecimal() and len(image_id) < 20:
            other = int(image_id)
        hint = f" (there is {shown(other)}: write it the same way)" if other in known else ""
        return f"caption of image {shown(image_id)}, which is not listed{hint}"
    return None

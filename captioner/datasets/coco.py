"""COCO caption files, one per split (Chen et al. 2015, Microsoft COCO Captions).

`{"images": [{"id", "file_name"}], "annotations": [{"id", "image_id", "caption"}]}`

COCO's ids are integers; files by others may use strings. These variations are also accepted:

- annotations without `id`, or with the caption under another common key (`text`, …);
- annotations whose image ids are strings while those of images are integers, or vice versa;
- a `file_name` that includes the folder of the split, or any folder under the root;
- ids that restart in each file: if one id means two photos, all ids are prefixed by their split
  (`train/17`), and a note reports it;
- annotations flagged `is_rejected` or `is_precanned` (VizWiz, TextCaps), which are skipped and
  counted in a note.
"""

import contextlib
import filecmp
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from captioner.datasets.records import SPLITS, Collector, Loaded, check_id
from captioner.errors import CaptionerError, UsageError, shown
from captioner.files.json_file import as_list, first_folder, read_json

CAPTION_KEYS = ("caption", "text", "sentence", "description", "comment", "raw")
"""Accepted keys of an annotation's caption. The first one present is used."""

FLAGS = ("is_rejected", "is_precanned")
"""Flags of annotations that are not captions."""

_YEARS = ("2014", "2017", "")
_NUMBER = "number in the file"  # of an annotation without an id
_COMPARED = 20  # number of photos with shared ids whose bytes are compared


def load(root: Path, *, images: Path | None = None, annotations: dict[str, Path | None]) -> Loaded:
    """Read the splits of a COCO caption data set.

    Args:
        root: Folder of the data set, with `annotations/captions_{train,val,test}{2014,2017,}.json`.
        images: Folder of the photos. Default: for `captions_X.json`, the first existing of `X`,
            `images/X` and `images` under `root`.
        annotations: Caption file of each split whose file does not have the usual name.

    Returns:
        The records; a split without a file is empty.

    Raises:
        UsageError: A file or folder does not exist, or there are files of two years.
        CaptionerError: A file has the wrong format.
    """
    collector = Collector()
    splits = [
        _read_split(collector, root, images, split, file)
        for split, file in _caption_files(root, annotations).items()
    ]
    restart = _ids_restart(splits)
    if restart:
        collector.note(
            "image ids restart in each annotation file; they are prefixed by the split (train/17)"
        )
    for split in splits:
        split.add_to(collector, prefixed=restart)
    return collector.loaded


@dataclass(frozen=True)
class _Split:
    """One annotation file, validated except for its photos."""

    name: str
    file: Path
    folders: Sequence[Path]
    images: Sequence[dict[str, Any]]
    annotations: Mapping[object, list[dict[str, Any]]]
    uncaptioned: frozenset[object]
    """Images whose annotations are all flagged."""

    def add_to(self, collector: Collector, *, prefixed: bool) -> None:
        """Pass the images to a collector, with ids prefixed by the split if `prefixed`."""
        for entry in self.images:
            if entry["id"] in self.uncaptioned:
                continue
            found = self.annotations.get(entry["id"], [])
            collector.add(
                image_id=f"{self.name}/{entry['id']}" if prefixed else entry["id"],
                folder=self.folders[0],
                other_folders=self.folders[1:],
                name=entry.get("file_name"),
                captions=[caption_of(annotation) for annotation in found],
                split=self.name,
                file=self.file,
                place=f"image {shown(entry['id'])}",
                caption_place=partial(_annotation_place, found),
            )

    def names(self) -> dict[str, str]:
        """Map image ids, as strings, to file names."""
        return {
            str(entry["id"]): entry["file_name"]
            for entry in self.images
            if isinstance(entry.get("file_name"), str)
        }

    def path_of(self, name: str) -> Path:
        """Return the path of a photo, whether or not it exists."""
        paths = [folder / name for folder in self.folders]
        return next((path for path in paths if path.is_file()), paths[0])


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
            f"{root / 'annotations'} has caption files of several years ({names}); "
            f"choose with {options}"
        )
    files = next(iter(found.values()), {}) | {split: file for split, file in named.items() if file}
    if not files:
        raise UsageError(
            f"no COCO caption files in {root}: looked for "
            "annotations/captions_{train,val,test}{2014,2017,}.json; "
            f"set {options} to other files"
        )
    return {split: files[split] for split in SPLITS if split in files}


def _read_split(
    collector: Collector, root: Path, images: Path | None, split: str, file: Path
) -> _Split:
    content = read_json(file)
    image_entries = _check_images(collector, file, content)
    given, flagged = unflagged(as_list(content, file, "annotations"))
    if flagged:
        collector.note(f"{file}: {flagged_note(len(flagged))}")
    by_image = _index_annotations(collector, file, given, image_entries)
    return _Split(
        split,
        file,
        _photo_folders(root, images, split, file, image_entries),
        image_entries,
        by_image,
        frozenset(flagged).difference(by_image),
    )


def _photo_folders(
    root: Path, images: Path | None, split: str, file: Path, entries: Sequence[dict[str, Any]]
) -> list[Path]:
    """Return the folders to search for a split's photos, in order."""
    base = file.stem.removeprefix("captions_")
    usual = [images / base, images] if images else [root / base, root / "images" / base]
    others = [] if images else [root / "images"]
    if any("/" in str(entry.get("file_name")) for entry in entries):
        # The name may begin with the split's folder or another folder.
        others += [root, images.parent] if images else [root]
    first = first_folder([*usual, *others], f"{split} photos")
    if images is None and first == root / "images" / base:
        others = [root / "images", root]
    return [first, *(folder for folder in others if folder != first)]


def _ids_restart(splits: Sequence[_Split]) -> bool:
    """Return whether an id means different photos in two files.

    A photo listed in two files is a leak between splits. It keeps its id, so that the leak is
    detected.
    """
    for one, other in combinations(splits, 2):
        ours, theirs = one.names(), other.names()
        shared = [(ours[image], theirs[image]) for image in ours.keys() & theirs.keys()]
        if any(Path(first).name != Path(second).name for first, second in shared):
            return True
        for first, second in sorted(shared)[:_COMPARED]:
            paths = one.path_of(first), other.path_of(second)
            if all(path.is_file() for path in paths) and not filecmp.cmp(*paths, shallow=False):
                return True
    return False


def caption_of(annotation: Mapping[str, Any]) -> object:
    """Return an annotation's unchecked caption, from the first of `CAPTION_KEYS` present."""
    return next((annotation[key] for key in CAPTION_KEYS if key in annotation), None)


def unflagged(annotations: Iterable[Any]) -> tuple[list[Any], list[object]]:
    """Return the annotations without one of `FLAGS`, and the image ids of the others."""
    kept: list[Any] = []
    flagged: list[object] = []
    for entry in annotations:
        if isinstance(entry, dict) and any(entry.get(flag) is True for flag in FLAGS):
            image_id = entry.get("image_id")
            flagged.append(image_id if isinstance(image_id, (int, str)) else None)
        else:
            kept.append(entry)
    return kept, flagged


def flagged_note(count: int) -> str:
    """Return the note about flagged annotations."""
    one = count == 1
    return (
        f"{count:,} annotation{'' if one else 's'} flagged {' or '.join(FLAGS)} "
        f"{'is' if one else 'are'} skipped"
    )


def _annotation_place(annotations: list[dict[str, Any]], index: int) -> str:
    return _place(annotations[index])


def _place(annotation: dict[str, Any]) -> str:
    number = annotation.get(_NUMBER)
    named = f"annotation {shown(annotation['id'])}"
    return named if number is None else f"annotations[{number}]"


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
    collector: Collector, file: Path, given: list[Any], images: list[dict[str, Any]]
) -> dict[object, list[dict[str, Any]]]:
    """Map image ids to their annotations, using pycocotools.

    For a bad file, pycocotools raises a bare KeyError or AssertionError, or overwrites the first of
    two equal ids. So only validated annotations are passed to it, and missing ids are added.
    """
    from pycocotools.coco import COCO  # costs 0.1 s, and only this format needs it

    if given and not any(isinstance(entry, dict) and is_caption(entry) for entry in given):
        raise CaptionerError(f'{file}: no annotation has a "caption"; expected a COCO caption file')
    known = {entry["id"] for entry in images}
    given = _with_ids_of_the_images(collector, file, given, known)
    used: set[object] = set()
    usable = []
    for number, entry in enumerate(given):
        fault = _annotation_fault(entry, known, used)
        if fault is not None:
            named = isinstance(entry, dict) and type(entry.get("id")) in (int, str)
            place = f"annotation {shown(entry['id'])}" if named else f"annotations[{number}]"
            collector.report(file, place, fault)
            continue
        if entry.get("id") is None:
            entry = {**entry, "id": f"annotations[{number}]", _NUMBER: number}
        used.add(entry["id"])
        usable.append(entry)
    index = COCO()
    index.dataset = {"images": images, "annotations": usable}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        index.createIndex()
    by_image: dict[object, list[dict[str, Any]]] = index.imgToAnns
    return by_image


def is_caption(annotation: Mapping[str, Any]) -> bool:
    """Return whether an annotation is a caption rather than an object instance."""
    return "caption" in annotation or (
        "category_id" not in annotation and any(key in annotation for key in CAPTION_KEYS)
    )


def _with_ids_of_the_images(
    collector: Collector, file: Path, given: list[Any], known: set[object]
) -> list[Any]:
    """Convert the image ids of annotations to the type used by images, if all differ in type."""
    by_text = {str(image_id): image_id for image_id in known}
    found = [entry.get("image_id") for entry in given if isinstance(entry, dict)]
    hashable = [image_id for image_id in found if isinstance(image_id, (int, str))]
    if len(by_text) < len(known) or any(image_id in known for image_id in hashable):
        return given
    if not any(str(image_id) in by_text for image_id in hashable):
        return given
    collector.note(f"{file}: image ids of annotations and images differ in type; converted")
    return [
        {**entry, "image_id": by_text.get(str(entry.get("image_id")), entry.get("image_id"))}
        if isinstance(entry, dict)
        else entry
        for entry in given
    ]


def _annotation_fault(entry: Any, known: set[object], used: set[object]) -> str | None:
    """Return what is wrong with an annotation, except for its caption."""
    if not isinstance(entry, dict):
        return f"must be an object, not {shown(entry)}"
    annotation_id, image_id = entry.get("id"), entry.get("image_id")
    if annotation_id is not None and type(annotation_id) not in (int, str):
        return f'"id" must be an integer or a string, not {shown(annotation_id)}'
    if annotation_id in used:
        return "this annotation id occurs twice; give each caption its own"
    if type(image_id) not in (int, str) or image_id not in known:
        other: object = str(image_id)
        if isinstance(image_id, str) and image_id.isdecimal() and len(image_id) < 20:
            other = int(image_id)
        hint = f" ({shown(other)} is; use the same type)" if other in known else ""
        return f"image {shown(image_id)} is not listed{hint}"
    return None

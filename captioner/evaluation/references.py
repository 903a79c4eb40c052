"""Read references from annotation files of any supported format, and find images by file name.

The format is detected: COCO annotations, Karpathy's files, JSON Lines (named `.jsonl`),
`Flickr8k.token.txt` or a table (`captioner.datasets.caption_table`). Photos are not needed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from captioner.datasets import flickr8k, jsonl, karpathy
from captioner.datasets.coco import caption_of, flagged_note, is_caption, unflagged
from captioner.datasets.records import Collector, ImageId, check_id, check_length
from captioner.errors import CaptionerError, shown
from captioner.files.json_file import as_list, read_json
from captioner.photos.paths import image_of_photo

_T = TypeVar("_T")


@dataclass(frozen=True)
class References:
    """References that captions are scored against.

    Attributes:
        groups: The references of each image, in file order.
        names: The photo's file name of each image, if given.
        splits: The split of each image, if given.
        notes: Remarks for the reader of the scores.
    """

    groups: dict[ImageId, list[str]]
    names: Mapping[ImageId, str] = field(default_factory=dict)
    splits: Mapping[ImageId, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class ImageNames:
    """Find images by the path of their photo.

    File names of images match first, then ids that are names. A number at the end of a name
    (COCO_val2014_000000391895.jpg) is an id only if no file name contradicts it.

    Args:
        images: The image ids.
        names: File names of some or all of them.

    Example:
        >>> ImageNames([391895, 7], {7: "train/dog.jpg"}).find("photos/train/dog.jpg")
        7
    """

    def __init__(self, images: Collection[ImageId], names: Mapping[ImageId, str]) -> None:
        self._images = images
        self._names = names
        self._by_base: dict[str, list[tuple[tuple[str, ...], ImageId]]] = {}
        for image in images:
            name = names.get(image, image)
            if isinstance(name, str):
                parts = _parts(name)
                self._by_base.setdefault(parts[-1], []).append((parts, image))

    def find(self, path: str) -> ImageId | None:
        """Return the image of a photo, or None if there is none.

        Raises:
            ValueError: Several images match.
        """
        parts = _parts(path)
        same_base = self._by_base.get(parts[-1], [])
        found = [
            (min(len(parts), len(theirs)), image)
            for theirs, image in same_base
            if _one_ends_the_other(parts, theirs) or len(same_base) == 1
        ]
        if found:
            longest = max(length for length, _ in found)
            images = [image for length, image in found if length == longest]
            if len(images) > 1:
                raise ValueError(
                    f"{shown(path)} matches images {images[0]!r} and {images[1]!r}; "
                    "include the folder of the photo"
                )
            return images[0]
        number = image_of_photo(Path(path))
        if number in self._images:
            name = self._names.get(number)
            if name is None or image_of_photo(Path(name)) == number:
                return number
        return None

    def misleading(self) -> str | None:
        """Return a file name that is also the id of another image, or None if there is none."""
        for image, name in self._names.items():
            number = image_of_photo(Path(name))
            if isinstance(number, int) and number != image and number in self._images:
                return name
        return None


def _parts(path: str) -> tuple[str, ...]:
    """Return the parts of a path in NFC form, at least one."""
    return PurePosixPath(unicodedata.normalize("NFC", path)).parts or ("",)


def _one_ends_the_other(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shorter = min(len(one), len(other))
    return one[-shorter:] == other[-shorter:]


def read_references(path: Path | str) -> dict[ImageId, list[str]]:
    """Read the references of each image with `load_references`."""
    return load_references(path).groups


def load_references(path: Path | str) -> References:
    """Read the references of each image, in file order. Images without references are ignored.

    Raises:
        UsageError: There is no such file.
        CaptionerError: The format is unknown, or a caption is not a string or belongs to no image
            of the file. The message says where and how often.
    """
    file = Path(path)
    if file.suffix.lower() in (".jsonl", ".ndjson"):
        loaded = _from_records(file, jsonl.read_captions)
    elif file.suffix.lower() in (".csv", ".tsv", ".txt", ".token"):
        loaded = _from_records(file, _read_text)
    else:
        document = read_json(file)
        images = document.get("images") if isinstance(document, dict) else None
        if isinstance(images, list) and any(
            isinstance(entry, dict) and "sentences" in entry for entry in images
        ):
            loaded = _from_records(file, karpathy.read_captions)
        else:
            loaded = _from_coco(file, document)
    groups = {image: group for image, group in loaded.groups.items() if group}
    if not groups:
        raise CaptionerError(f"{file}: no image has a reference")
    return References(groups, loaded.names, loaded.splits, loaded.notes)


def _read_text(
    collector: Collector, file: Path
) -> Iterable[tuple[ImageId, str, str | None, list[object]]]:
    for name, found in flickr8k.read_captions(collector, file).items():
        yield name, name, None, [caption for _, caption in found]


def _from_records(
    file: Path,
    read: Callable[[Collector, Path], Iterable[tuple[ImageId, str, str | None, list[object]]]],
) -> References:
    collector = Collector()
    groups: dict[ImageId, list[str]] = {}
    names: dict[ImageId, str] = {}
    splits: dict[ImageId, str] = {}
    faults = []
    for image, name, split, captions in read(collector, file):
        if image in groups:
            faults.append(f"image {image!r} occurs twice; list it once, with all its captions")
            continue
        names[image] = name
        if split is not None:
            splits[image] = split
        groups[image] = []
        for caption in captions:
            try:
                groups[image].append(check_text(caption))
            except ValueError as fault:
                faults.append(f"image {image!r}: {fault}")
    faults = [f"{one.place}: {one.message}" for one in collector.loaded.problems] + faults
    refuse(file, faults, len(groups))
    return References(groups, names, splits, tuple(collector.loaded.notes))


def _from_coco(file: Path, document: object) -> References:
    if isinstance(document, list):
        raise CaptionerError(
            f'{file}: expected an object with a list "annotations", not a list '
            "(is this a result file?)"
        )
    rows = as_list(document, file, "annotations")
    if rows and not any(isinstance(row, dict) and is_caption(row) for row in rows):
        instances = any(isinstance(row, dict) and "category_id" in row for row in rows)
        raise CaptionerError(
            f'{file}: no annotation has a "caption"; expected a COCO caption file'
            f"{', not an instance file' * instances}"
        )
    rows, flagged = unflagged(rows)
    groups: dict[ImageId, list[str]] = {}
    names: dict[ImageId, str] = {}
    listed = isinstance(document, dict) and "images" in document
    if listed:
        entries = as_list(document, file, "images")
        for image_id, entry in zip(_listed_images(file, entries), entries, strict=True):
            groups[image_id] = []
            if isinstance(name := entry.get("file_name"), str) and name:
                names[image_id] = name
    strangers = []
    pairs = image_pairs(file, "annotation", rows)
    for number, (image_id, caption) in enumerate(pairs):
        if listed and image_id not in groups:
            strangers.append(f'annotation {number}: image {image_id!r} is not in the list "images"')
        else:
            groups.setdefault(image_id, []).append(caption)
    refuse(file, strangers, len(pairs))
    return References(groups, names, notes=(flagged_note(len(flagged)),) if flagged else ())


def image_pairs(file: Path, what: str, rows: Sequence[object]) -> list[tuple[ImageId, str]]:
    """Return the image and caption of each row of a COCO file.

    Raises:
        CaptionerError: Rows are invalid. The message says where and how many.
    """
    pairs = []
    faults = []
    for number, row in enumerate(rows):
        try:
            pairs.append((_value(row, "image_id", check_id), _caption(row)))
        except ValueError as fault:
            faults.append(f"{what} {number}: {fault}")
    refuse(file, faults, len(rows))
    return pairs


def _caption(row: object) -> str:
    if isinstance(row, dict) and "caption" not in row and is_caption(row):
        return check_text(caption_of(row))
    return _value(row, "caption", check_text)


def _listed_images(file: Path, entries: list[Any]) -> list[ImageId]:
    found: list[ImageId] = []
    faults = []
    for number, entry in enumerate(entries):
        try:
            found.append(_value(entry, "id", check_id))
        except ValueError as fault:
            faults.append(f"image {number}: {fault}")
    refuse(file, faults, len(entries))
    return found


def _value(row: object, key: str, check: Callable[[object], _T]) -> _T:
    if not isinstance(row, dict) or key not in row:
        raise ValueError(f'expected an object with "{key}", not {shown(row)}')
    return check(row[key])


def refuse(file: Path, faults: Sequence[str], of: int) -> None:
    """Raise an error with the first fault and the number of others, if there are any.

    Raises:
        CaptionerError: There are faults.
    """
    if faults:
        others = f"; {len(faults) - 1} more of {of} are invalid" if len(faults) > 1 else ""
        raise CaptionerError(f"{file}, {faults[0]}{others}")


def check_text(caption: object) -> str:
    """Check a caption and return it. An empty caption is valid and scored as one without words.

    Raises:
        ValueError: It is not a string, is too long, or is not valid Unicode.
    """
    if not isinstance(caption, str):
        raise ValueError(f"a caption must be a string, not {shown(caption)}")
    check_length(caption)
    try:
        caption.encode()
    except UnicodeEncodeError:
        text = shown(caption)
        raise ValueError(
            f"caption {text} is not valid Unicode: it has half a surrogate pair"
        ) from None
    return caption

"""References of images from files of any format that data sets come in, and images by file name.

A file's content says which format it is: COCO's annotations, one of Karpathy's, JSON Lines (named
``.jsonl``), ``Flickr8k.token.txt``, or a table (`captioner.datasets.caption_table`). No photo has
to be there.
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
    """What captions are scored against.

    Attributes:
        groups: The references of each image, in the order of the file.
        names: The file name of each image, where the file gives one.
        splits: The split of each image, where the file gives one.
        notes: What a reader of the scores should know.
    """

    groups: dict[ImageId, list[str]]
    names: Mapping[ImageId, str] = field(default_factory=dict)
    splits: Mapping[ImageId, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class ImageNames:
    """Finds images by the path of their photo.

    The file names of the images decide first, then ids that are names. A number that ends a name
    (COCO_val2014_000000391895.jpg) is an id only where no file name contradicts it.

    Args:
        images: The ids.
        names: File names of some or all of them.
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
        """The image of a photo; None if there is none.

        Raises:
            ValueError: Several images have photos of this name.
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
                    f"{shown(path)} may be image {images[0]!r} or {images[1]!r}: "
                    "write the folder of the photo too"
                )
            return images[0]
        number = image_of_photo(Path(path))
        if number in self._images:
            name = self._names.get(number)
            if name is None or image_of_photo(Path(name)) == number:
                return number
        return None

    def misleading(self) -> str | None:
        """A file name that is a number and the id of another image; None if there is none."""
        for image, name in self._names.items():
            number = image_of_photo(Path(name))
            if isinstance(number, int) and number != image and number in self._images:
                return name
        return None


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a path, in one Unicode form; never none."""
    return PurePosixPath(unicodedata.normalize("NFC", path)).parts or ("",)


def _one_ends_the_other(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shorter = min(len(one), len(other))
    return one[-shorter:] == other[-shorter:]


def read_references(path: Path | str) -> dict[ImageId, list[str]]:
    """The references of each image, as `load_references` reads them."""
    return load_references(path).groups


def load_references(path: Path | str) -> References:
    """Reads the references of each image, in the order of the file's images.

    Images without references are left out.

    Raises:
        UsageError: If there is no such file.
        CaptionerError: If it is of none of the formats, or a caption is no text or belongs to no
            image of the file; the message says where, and how many there are of the kind.
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
            faults.append(f"image {image!r} occurs twice: list it once, with all its captions")
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
            f'{file}: an annotation file is an object with a list "annotations", not a list '
            "(a result file?)"
        )
    rows = as_list(document, file, "annotations")
    if rows and not any(isinstance(row, dict) and is_caption(row) for row in rows):
        instances = any(isinstance(row, dict) and "category_id" in row for row in rows)
        raise CaptionerError(
            f'{file}: no annotation has a "caption": not a COCO caption file'
            f"{' but one of instances' * instances}"
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
    """Image and caption of each row of a COCO file.

    Raises:
        CaptionerError: A row is wrong; the message says where, and how many are.
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
    """Raise with the first of some faults and the number of the others.

    Raises:
        CaptionerError: There are faults.
    """
    if faults:
        others = f"; and {len(faults) - 1} more of {of} are wrong" if len(faults) > 1 else ""
        raise CaptionerError(f"{file}, {faults[0]}{others}")


def check_text(caption: object) -> str:
    """A caption; an empty one is a caption without words, and scored as one.

    Raises:
        ValueError: It is no text, or longer than a score can take.
    """
    if not isinstance(caption, str):
        raise ValueError(f"a caption must be text, not {shown(caption)}")
    check_length(caption)
    try:
        caption.encode()
    except UnicodeEncodeError:
        text = shown(caption)
        raise ValueError(f"caption {text} holds half a surrogate pair: not valid Unicode") from None
    return caption

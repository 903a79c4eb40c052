"""Captions and references from files in COCO's format, and captions as this program writes them.

A result file is a list, ``[{"image_id": 7, "caption": "a dog"}, …]``, with one caption for each
image, or several, best first, where that is asked for. A file named ``.jsonl`` holds the records
of ``captioner caption --format jsonl``, a line each, whose photos are found among the images that
have references by their file names, or by the number that ends them. An annotation file is an
object, ``{"images": [{"id": 7}, …], "annotations": [{"image_id": 7, "caption": "A dog."}, …]}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from captioner.datasets.records import ImageId, check_id
from captioner.errors import CaptionerError, UsageError, shown
from captioner.files.json_file import as_list, parse_json, read_bytes, read_json
from captioner.photos.paths import image_of_photo

_T = TypeVar("_T")


def read_results(path: Path | str) -> dict[ImageId, str]:
    """Reads one caption for each image from a COCO result file.

    Raises:
        UsageError: If there is no such file.
        CaptionerError: If it is no result file, or an image has two captions, or a caption is no
            text; the message says where, and how many there are of the kind.
    """
    return {image: captions[0] for image, captions in read_candidates(path).items()}


def read_candidates(
    path: Path | str, *, n_best: int = 1, images: Collection[ImageId] = ()
) -> dict[ImageId, list[str]]:
    """Reads the captions of each image, best first, from a COCO result file or JSON Lines.

    Args:
        path: The file.
        n_best: Captions that an image may have. Those of ``candidates`` in JSON Lines are read up
            to this number; a COCO file with more is refused.
        images: Images that there are, to find those of JSON Lines among.

    Raises:
        UsageError: If there is no such file.
        CaptionerError: If it is none of both, or an image has more captions, or a caption is no
            text; the message says where, and how many there are of the kind.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"no result file {file}")
    lines = file.suffix == ".jsonl"
    pairs = _read_lines(file, n_best, images) if lines else _pairs(file, "entry", _rows(file))
    if not pairs:
        raise CaptionerError(f"{file}: the list of results is empty")
    candidates: dict[ImageId, list[str]] = {}
    for image, caption in pairs:
        candidates.setdefault(image, []).append(caption)
    often = [image for image, captions in candidates.items() if len(captions) > n_best]
    if often:
        raise CaptionerError(
            f"{file}: {len(often)} of {len(candidates)} images have more than "
            f"{'one caption' if n_best == 1 else f'{n_best} captions'}, "
            f"image {often[0]!r} for one; expected {'one' if n_best == 1 else 'no more'} each"
        )
    return candidates


def read_references(path: Path | str) -> dict[ImageId, list[str]]:
    """Reads the references of each image from a COCO annotation file, in the order of its images.

    Images without references are left out.

    Raises:
        UsageError: If there is no such file.
        CaptionerError: If it is no annotation file, or a caption is no text or belongs to no image
            of the file; the message says where, and how many there are of the kind.
    """
    file = Path(path)
    document = read_json(file)
    if isinstance(document, list):
        raise CaptionerError(
            f'{file}: an annotation file is an object with a list "annotations", not a list '
            "(a result file?)"
        )
    rows = as_list(document, file, "annotations")
    if rows and not any(isinstance(row, dict) and "caption" in row for row in rows):
        instances = any(isinstance(row, dict) and "category_id" in row for row in rows)
        raise CaptionerError(
            f'{file}: no annotation has a "caption": not a COCO caption file'
            f"{' but one of instances' * instances}"
        )
    pairs = _pairs(file, "annotation", rows)
    references: dict[ImageId, list[str]] = {}
    listed = isinstance(document, dict) and "images" in document
    if listed:
        for image_id in _listed_images(file, as_list(document, file, "images")):
            references[image_id] = []
    strangers = []
    for number, (image_id, caption) in enumerate(pairs):
        if listed and image_id not in references:
            strangers.append(f'annotation {number}: image {image_id!r} is not in the list "images"')
        else:
            references.setdefault(image_id, []).append(caption)
    _refuse(file, strangers, len(pairs))
    references = {image: group for image, group in references.items() if group}
    if not references:
        raise CaptionerError(f"{file}: no image has a reference")
    return references


def _rows(file: Path) -> list[object]:
    """The entries of a COCO result file."""
    try:
        rows = read_json(file)
    except CaptionerError as error:
        if read_bytes(file).startswith(b"{"):
            raise CaptionerError(f"{error} (JSON Lines? name the file .jsonl)") from error
        raise
    if not isinstance(rows, list):
        annotations = isinstance(rows, dict) and "annotations" in rows
        raise CaptionerError(
            f'{file}: a result file is a list of {{"image_id": …, "caption": …}}, '
            f"not {_kind(rows)}{' (an annotation file?)' * annotations}"
        )
    return rows


def _read_lines(file: Path, n_best: int, images: Collection[ImageId]) -> list[tuple[ImageId, str]]:
    """Image and caption from JSON Lines; photos that could not be captioned have none."""
    pairs: list[tuple[ImageId, str]] = []
    faults = []
    numbered = enumerate(read_bytes(file).split(b"\n"), start=1)
    lines = [(number, line) for number, line in numbered if line.strip()]
    for number, line in lines:
        try:
            row = parse_json(line.decode())
            if not isinstance(row, dict):
                raise ValueError(f"expected an object, not {shown(row)}")
            if "error" not in row:
                image = _image_of_row(row, images)
                pairs += [(image, _check_text(text)) for text in _captions_of_row(row, n_best)]
        except json.JSONDecodeError as error:
            faults.append(f"line {number}: not JSON: {error.msg}")
        except ValueError as error:  # a UnicodeDecodeError is one
            faults.append(f"line {number}: {error}")
    _refuse(file, faults, len(lines))
    return pairs


def _image_of_row(row: dict[str, Any], images: Collection[ImageId]) -> ImageId:
    if "image_id" in row:
        return check_id(row["image_id"])
    if not isinstance(row.get("image"), str):
        raise ValueError(f'expected an object with "image_id" or "image", not {shown(row)}')
    path = Path(row["image"])
    # An image id may hold folders too: the longest end of the path that is one.
    ends = ["/".join(path.parts[at:]) for at in range(len(path.parts))]
    number = image_of_photo(path)
    return next((end for end in [*ends, number] if end in images), number)


def _captions_of_row(row: dict[str, Any], n_best: int) -> Sequence[object]:
    if "caption" not in row:
        raise ValueError(f'expected an object with "caption", not {shown(row)}')
    others = row.get("candidates")
    if n_best == 1 or not isinstance(others, list):
        return [row["caption"]]
    return [other.get("caption") if isinstance(other, dict) else other for other in others[:n_best]]


def _pairs(file: Path, what: str, rows: list[object]) -> list[tuple[ImageId, str]]:
    def read() -> Iterator[tuple[ImageId, str] | str]:
        for number, row in enumerate(rows):
            try:
                yield _value(row, "image_id", check_id), _value(row, "caption", _check_text)
            except ValueError as fault:
                yield f"{what} {number}: {fault}"

    found = list(read())
    _refuse(file, [fault for fault in found if isinstance(fault, str)], len(rows))
    return [pair for pair in found if not isinstance(pair, str)]


def _listed_images(file: Path, entries: list[object]) -> list[ImageId]:
    found: list[ImageId] = []
    faults = []
    for number, entry in enumerate(entries):
        try:
            found.append(_value(entry, "id", check_id))
        except ValueError as fault:
            faults.append(f"image {number}: {fault}")
    _refuse(file, faults, len(entries))
    return found


def _value(row: object, key: str, check: Callable[[object], _T]) -> _T:
    if not isinstance(row, dict) or key not in row:
        raise ValueError(f'expected an object with "{key}", not {shown(row)}')
    return check(row[key])


def _refuse(file: Path, faults: Sequence[str], of: int) -> None:
    """Raises with the first of some faults and the number of the others."""
    if faults:
        others = f"; and {len(faults) - 1} more of {of} are wrong" if len(faults) > 1 else ""
        raise CaptionerError(f"{file}, {faults[0]}{others}")


def _check_text(caption: object) -> str:
    # Empty text is let through: it is a caption without words, and scored as one.
    if not isinstance(caption, str):
        raise ValueError(f"a caption must be text, not {shown(caption)}")
    try:
        caption.encode()
    except UnicodeEncodeError:
        text = shown(caption)
        raise ValueError(f"caption {text} holds half a surrogate pair: not valid Unicode") from None
    return caption


def _kind(value: object) -> str:
    names = {dict: "an object", str: "a text", type(None): "null"}
    return names.get(type(value), "a number")

"""Captions and references from files in COCO's format.

A result file is a list, ``[{"image_id": 7, "caption": "a dog"}, …]``, with one caption for each
image; an annotation file is an object,
``{"images": [{"id": 7}, …], "annotations": [{"image_id": 7, "caption": "A dog."}, …]}``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from captioner.data.records import ImageId, as_list, check_id, read_json, shown
from captioner.errors import CaptionerError

_T = TypeVar("_T")


def read_results(path: Path | str) -> dict[ImageId, str]:
    """Reads one caption for each image from a COCO result file.

    Raises:
        UsageError: If there is no such file.
        CaptionerError: If it is no result file, or an image has two captions, or a caption is no
            text; the message says where, and how many there are of the kind.
    """
    file = Path(path)
    rows = read_json(file)
    if not isinstance(rows, list):
        hint = " (an annotation file?)" if isinstance(rows, dict) and "annotations" in rows else ""
        raise CaptionerError(
            f'{file}: a result file is a list of {{"image_id": …, "caption": …}}, '
            f"not {_kind(rows)}{hint}"
        )
    if not rows:
        raise CaptionerError(f"{file}: the list of results is empty")
    pairs = _pairs(file, "entry", rows)
    captions = dict(pairs)
    if len(captions) < len(pairs):
        often = [image for image, n in Counter(image for image, _ in pairs).items() if n > 1]
        raise CaptionerError(
            f"{file}: {len(often)} of {len(captions)} images have more than one caption, "
            f"image {often[0]!r} for one; expected one each"
        )
    return captions


def read_references(path: Path | str) -> dict[ImageId, list[str]]:
    """Reads the references of each image from a COCO annotation file, in the order of its images.

    Images without references are left out.

    Raises:
        UsageError: If there is no such file.
        CaptionerError: If it is no annotation file, or a caption is no text or belongs to no image
            of the file; the message says where.
    """
    file = Path(path)
    document = read_json(file)
    if isinstance(document, list):
        raise CaptionerError(
            f'{file}: an annotation file is an object with a list "annotations", not a list '
            "(a result file?)"
        )
    pairs = _pairs(file, "annotation", as_list(document, file, "annotations"))
    references: dict[ImageId, list[str]] = {}
    listed = isinstance(document, dict) and "images" in document
    if listed:
        for number, image in enumerate(as_list(document, file, "images")):
            image_id = _checked(file, f"image {number}", image, "id", check_id)
            references[image_id] = []
    for number, (image_id, caption) in enumerate(pairs):
        if listed and image_id not in references:
            raise CaptionerError(
                f'{file}, annotation {number}: image {image_id!r} is not in the list "images"'
            )
        references.setdefault(image_id, []).append(caption)
    references = {image: group for image, group in references.items() if group}
    if not references:
        raise CaptionerError(f"{file}: no image has a reference")
    return references


def _pairs(file: Path, what: str, rows: list[object]) -> list[tuple[ImageId, str]]:
    return [
        (
            _checked(file, f"{what} {number}", row, "image_id", check_id),
            _checked(file, f"{what} {number}", row, "caption", _check_text),
        )
        for number, row in enumerate(rows)
    ]


def _checked(file: Path, place: str, row: object, key: str, check: Callable[[object], _T]) -> _T:
    if not isinstance(row, dict) or key not in row:
        raise CaptionerError(f'{file}, {place}: expected an object with "{key}", not {shown(row)}')
    try:
        return check(row[key])
    except ValueError as error:
        raise CaptionerError(f"{file}, {place}: {error}") from None


def _check_text(caption: object) -> str:
    # Empty text is let through: it is a caption without words, and scored as one.
    if not isinstance(caption, str):
        raise ValueError(f"a caption must be text, not {shown(caption)}")
    return caption


def _kind(value: object) -> str:
    names = {dict: "an object", str: "a text", type(None): "null"}
    return names.get(type(value), "a number")

"""Captions of images from result files, as other programs and this one write them.

- A COCO result file is a list, ``[{"image_id": 7, "caption": "a dog"}, …]``, with one caption for
  each image, or several, best first, where that is asked for.
- A file named ``.jsonl`` holds the records of ``captioner caption --format jsonl``, one per line.
- A file named ``.csv``, ``.tsv`` or ``.txt`` is a table of photos and captions, as ``captioner
  caption`` writes with ``--format csv`` or ``text``.
- A folder is one that ``captioner caption --output FOLDER/`` wrote.

Records that name a photo instead of an image id are found among the images that have references
(`references.ImageNames`). Special tokens that a captioner left in are stripped (`special_tokens`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captioner.datasets.caption_table import read_table
from captioner.datasets.records import Collector, ImageId, check_id
from captioner.errors import CaptionerError, UsageError, shown
from captioner.evaluation.references import (
    ImageNames,
    References,
    check_text,
    image_pairs,
    read_references,
    refuse,
)
from captioner.evaluation.special_tokens import has_special_tokens, strip_special_tokens
from captioner.files.json_file import parse_json, read_bytes, read_json

__all__ = ["Results", "load_results", "read_candidates", "read_references", "read_results"]

_Pairs = list[tuple[ImageId, str]]


@dataclass(frozen=True)
class Results:
    """Captions of a result file.

    Attributes:
        groups: The captions of each image, best first.
        notes: What a reader of the scores should know.
    """

    groups: dict[ImageId, list[str]]
    notes: tuple[str, ...] = field(default=())


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
    """The captions of each image, best first, as `load_results` reads them.

    Args:
        path: The file.
        n_best: Captions that an image may have.
        images: Ids of the images that there are.
    """
    return load_results(path, References({image: [] for image in images}), n_best=n_best).groups


def load_results(path: Path | str, references: References, *, n_best: int = 1) -> Results:
    """Reads the captions of each image, best first, from a result file of any form.

    Args:
        path: The file or folder.
        references: The images that there are, among which photos are found by name.
        n_best: Captions that an image may have. Those of ``candidates`` in JSON Lines are read up
            to this number; a COCO file with more is refused.

    Raises:
        UsageError: If there is no such file.
        CaptionerError: If it is of no such form, or an image has more captions, or a caption is no
            text; the message says where, and how many there are of the kind.
    """
    file = Path(path)
    if not file.exists():
        raise UsageError(f"no result file {file}")
    names = ImageNames(references.groups.keys(), references.names)
    notes = []
    if file.is_dir():
        parts = _files_of_folder(file)
        pairs = [pair for part in parts for pair in _read_lines(part, n_best, names)]
    elif file.suffix.lower() in (".jsonl", ".ndjson"):
        pairs = _read_lines(file, n_best, names)
    elif file.suffix.lower() in (".csv", ".tsv", ".txt"):
        pairs = _read_rows(file, names)
    else:
        pairs = [
            (_known(image, references, names), caption)
            for image, caption in image_pairs(file, "entry", _rows(file))
        ]
        if misleading := names.misleading():
            notes.append(
                f"image_id in {file.name} is taken for the id of an image, not for its file name, "
                f"though {shown(misleading)} looks like the id of another one; "
                "JSON Lines with file names are unambiguous"
            )
    if not pairs:
        raise CaptionerError(f"{file}: the list of results is empty")
    groups: dict[ImageId, list[str]] = {}
    for image, caption in pairs:
        groups.setdefault(image, []).append(strip_special_tokens(caption))
    often = [image for image, captions in groups.items() if len(captions) > n_best]
    if often:
        raise CaptionerError(
            f"{file}: {len(often)} of {len(groups)} images have more than "
            f"{'one caption' if n_best == 1 else f'{n_best} captions'}, "
            f"image {often[0]!r} for one; expected {'one' if n_best == 1 else 'no more'} each"
        )
    marked = sum(has_special_tokens(caption) for _, caption in pairs)
    if marked:
        notes.append(
            f"{marked} of {len(pairs)} captions in {file.name} hold special tokens (<end>, …): "
            "stripped; a token of an unknown word stays a word"
        )
    return Results(groups, tuple(notes))


def _files_of_folder(folder: Path) -> list[Path]:
    """The files of a folder that ``captioner caption`` wrote, in order.

    Raises:
        CaptionerError: It is another folder, or not complete.
    """
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise CaptionerError(
            f"{folder}: no manifest.json: not a folder that `captioner caption --output` wrote; "
            "name a result file"
        )
    values = read_json(manifest)
    shards = values.get("shards") if isinstance(values, dict) else None
    if not isinstance(values, dict) or not isinstance(shards, dict):
        raise CaptionerError(f"{manifest}: damaged: has no list of files")
    if values.get("complete") is not True:
        raise CaptionerError(
            f"{folder}: not complete: rerun the `captioner caption` command that wrote it"
        )
    files = []
    for _, shard in sorted(shards.items(), key=lambda item: (len(item[0]), item[0])):
        name = shard.get("file") if isinstance(shard, dict) else None
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            raise CaptionerError(f"{manifest}: damaged: no file {shown(name)}")
        files.append(folder / name)
    return files


def _known(image: ImageId, references: References, names: ImageNames) -> ImageId:
    """The image of a COCO result, whose id may be a file name (`--format coco` writes such)."""
    if isinstance(image, str) and image not in references.groups and Path(image).suffix:
        found = names.find(image)
        return image if found is None else found
    return image


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


def _read_lines(file: Path, n_best: int, names: ImageNames) -> _Pairs:
    """Image and caption from JSON Lines; photos that could not be captioned have none."""
    pairs: _Pairs = []
    faults = []
    numbered = enumerate(read_bytes(file).split(b"\n"), start=1)
    lines = [(number, line) for number, line in numbered if line.strip()]
    for number, line in lines:
        try:
            row = parse_json(line.decode())
            if not isinstance(row, dict):
                raise ValueError(f"expected an object, not {shown(row)}")
            if "error" not in row:
                image = _image_of_row(row, names)
                pairs += [(image, check_text(text)) for text in _captions_of_row(row, n_best)]
        except json.JSONDecodeError as error:
            faults.append(f"line {number}: not JSON: {error.msg}")
        except ValueError as error:  # a UnicodeDecodeError is one
            faults.append(f"line {number}: {error}")
    refuse(file, faults, len(lines))
    return pairs


def _read_rows(file: Path, names: ImageNames) -> _Pairs:
    """Image and caption from a table; photos that could not be captioned have none."""
    collector = Collector()
    pairs: _Pairs = []
    faults = []
    for row in read_table(collector, file):
        # (a table of text has no column of errors)
        if not row.error and not row.caption.startswith("error: "):
            try:
                # (a bare number, as other programs write, is an id and no file name)
                number = row.image.isdecimal() and row.image.isascii() and len(row.image) < 20
                image = int(row.image) if number else _image_named(row.image, names)
                pairs.append((image, check_text(row.caption)))
            except ValueError as fault:
                faults.append(f"{row.place}: {fault}")
    faults = [f"{one.place}: {one.message}" for one in collector.loaded.problems] + faults
    refuse(file, faults, len(pairs) + len(faults))
    return pairs


def _image_of_row(row: dict[str, Any], names: ImageNames) -> ImageId:
    if "image_id" in row:
        return check_id(row["image_id"])
    if not isinstance(row.get("image"), str):
        raise ValueError(f'expected an object with "image_id" or "image", not {shown(row)}')
    return _image_named(row["image"], names)


def _image_named(name: str, names: ImageNames) -> ImageId:
    """The image of a photo; the photo's own name, which has no references, if there is none."""
    found = names.find(name)
    return name if found is None else found


def _captions_of_row(row: dict[str, Any], n_best: int) -> Sequence[object]:
    if "caption" not in row:
        raise ValueError(f'expected an object with "caption", not {shown(row)}')
    others = row.get("candidates")
    if n_best == 1 or not isinstance(others, list):
        return [row["caption"]]
    return [other.get("caption") if isinstance(other, dict) else other for other in others[:n_best]]


def _kind(value: object) -> str:
    names = {dict: "an object", str: "a text", type(None): "null"}
    return names.get(type(value), "a number")

"""Read captions from result files of this and other programs.

- A COCO result file is a list, `[{"image_id": 7, "caption": "a dog"}, …]`, with one caption per
  image, or several, best first, if allowed.
- A `.jsonl` file has the records of `captioner caption --format jsonl`, one per line.
- A `.csv`, `.tsv` or `.txt` file is a table of photos and captions, as written by
  `captioner caption` with `--format csv` or `--format text`.
- A folder is an output folder of `captioner caption --output FOLDER/`.

Records with a photo's name instead of an image id are matched to the images that have references
(`references.ImageNames`). Special tokens in captions are stripped (`special_tokens`).
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
        notes: Remarks for the reader of the scores.
    """

    groups: dict[ImageId, list[str]]
    notes: tuple[str, ...] = field(default=())


def read_results(path: Path | str) -> dict[ImageId, str]:
    """Read one caption per image from a COCO result file.

    Raises:
        UsageError: There is no such file.
        CaptionerError: It is not a result file, an image has two captions, or a caption is not a
            string. The message says where and how often.
    """
    return {image: captions[0] for image, captions in read_candidates(path).items()}


def read_candidates(
    path: Path | str, *, n_best: int = 1, images: Collection[ImageId] = ()
) -> dict[ImageId, list[str]]:
    """Read the captions of each image, best first, with `load_results`.

    Args:
        path: The file.
        n_best: Maximum number of captions per image.
        images: Known image ids.
    """
    return load_results(path, References({image: [] for image in images}), n_best=n_best).groups


def load_results(path: Path | str, references: References, *, n_best: int = 1) -> Results:
    """Read the captions of each image, best first, from a result file of any format.

    Args:
        path: The file or folder.
        references: The known images, to which photos are matched by name.
        n_best: Maximum number of captions per image. JSON Lines `candidates` beyond it are ignored;
            a COCO file with more is refused.

    Raises:
        UsageError: There is no such file.
        CaptionerError: The format is wrong, an image has too many captions, or a caption is not a
            string. The message says where and how often.
    """
    file = Path(path)
    if not file.exists():
        raise UsageError(f"no result file {file}")
    names = ImageNames(references.groups.keys(), references.names)
    notes = []
    if file.is_dir():
        parts = files_of_folder(file)
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
                f"image_id in {file.name} is interpreted as an image id, not as a file name, but "
                f"the file name {shown(misleading)} looks like the id of another image; "
                "use JSON Lines with file names to avoid the ambiguity"
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
            f"{'one caption' if n_best == 1 else f'{n_best} captions'}, for example image "
            f"{often[0]!r}; at most {n_best} per image"
        )
    marked = sum(has_special_tokens(caption) for _, caption in pairs)
    if marked:
        notes.append(
            f"{marked} of {len(pairs)} captions in {file.name} contain special tokens (<end>, …), "
            "which are stripped; tokens for unknown words stay"
        )
    return Results(groups, tuple(notes))


def files_of_folder(folder: Path) -> list[Path]:
    """Return the shard files of an output folder of `captioner caption`, in order.

    Raises:
        CaptionerError: It is not such a folder, or it is incomplete.
    """
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise CaptionerError(
            f"{folder}: no manifest.json, so not an output folder of `captioner caption`; "
            "pass a result file"
        )
    values = read_json(manifest)
    shards = values.get("shards") if isinstance(values, dict) else None
    if not isinstance(values, dict) or not isinstance(shards, dict):
        raise CaptionerError(f"{manifest}: damaged: no list of files")
    if values.get("complete") is not True:
        raise CaptionerError(
            f"{folder}: incomplete; rerun the `captioner caption` command that wrote it"
        )
    files = []
    for _, shard in sorted(shards.items(), key=lambda item: (len(item[0]), item[0])):
        name = shard.get("file") if isinstance(shard, dict) else None
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            raise CaptionerError(f"{manifest}: damaged: no file {shown(name)}")
        files.append(folder / name)
    return files


def _known(image: ImageId, references: References, names: ImageNames) -> ImageId:
    """Return the image of a COCO entry, whose id may be a file name, as `--format coco` writes."""
    if isinstance(image, str) and image not in references.groups and Path(image).suffix:
        found = names.find(image)
        return image if found is None else found
    return image


def _rows(file: Path) -> list[object]:
    """Return the entries of a COCO result file."""
    try:
        rows = read_json(file)
    except CaptionerError as error:
        if read_bytes(file).startswith(b"{"):
            raise CaptionerError(f"{error} (if it is JSON Lines, rename it to .jsonl)") from error
        raise
    if not isinstance(rows, list):
        annotations = isinstance(rows, dict) and "annotations" in rows
        raise CaptionerError(
            f'{file}: expected a list of {{"image_id": …, "caption": …}}, '
            f"not {_kind(rows)}{' (is this an annotation file?)' * annotations}"
        )
    return rows


def _read_lines(file: Path, n_best: int, names: ImageNames) -> _Pairs:
    """Read images and captions from JSON Lines, skipping records of failed photos."""
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
                image = image_of_row(row, names)
                pairs += [(image, check_text(text)) for text in _captions_of_row(row, n_best)]
        except json.JSONDecodeError as error:
            faults.append(f"line {number}: not JSON: {error.msg}")
        except ValueError as error:  # a UnicodeDecodeError is one
            faults.append(f"line {number}: {error}")
    refuse(file, faults, len(lines))
    return pairs


def _read_rows(file: Path, names: ImageNames) -> _Pairs:
    """Read images and captions from a table, skipping rows of failed photos."""
    collector = Collector()
    pairs: _Pairs = []
    faults = []
    for row in read_table(collector, file):
        # A table in text format has no error column, so its captions hold the errors.
        if not row.error and not row.caption.startswith("error: "):
            try:
                # Other programs write bare numbers, which are ids rather than file names.
                number = row.image.isdecimal() and row.image.isascii() and len(row.image) < 20
                image = int(row.image) if number else _image_named(row.image, names)
                pairs.append((image, check_text(row.caption)))
            except ValueError as fault:
                faults.append(f"{row.place}: {fault}")
    faults = [f"{one.place}: {one.message}" for one in collector.loaded.problems] + faults
    refuse(file, faults, len(pairs) + len(faults))
    return pairs


def image_of_row(row: dict[str, Any], names: ImageNames) -> ImageId:
    """Return the image of a record of JSON Lines.

    Raises:
        ValueError: The record names no image, or several images match.
    """
    if "image_id" in row:
        return check_id(row["image_id"])
    if not isinstance(row.get("image"), str):
        raise ValueError(f'expected an object with "image_id" or "image", not {shown(row)}')
    return _image_named(row["image"], names)


def _image_named(name: str, names: ImageNames) -> ImageId:
    """Return the image of a photo, or its name (which has no references) if there is none."""
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

"""JSON Lines, for people's own photos: one photo with its captions on each line.

``{"image": "a/b.jpg", "captions": ["…", "…"], "split": "train", "id": 17}``

``image`` is a path under the folder of the photos, ``split`` is "train", "val" or "test" and must
be given: a photo that is scored by mistake with what it was trained on makes every score a lie.
``id`` is a number or a text, by default the image's path. Other keys are ignored.
"""

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from captioner.datasets.records import Collector, Loaded
from captioner.errors import UsageError, shown
from captioner.files.json_file import first_folder, parse_json

_USUAL_NAME = "captions.jsonl"


def load(root: Path, *, images: Path | None = None, annotations: Path | None = None) -> Loaded:
    """Read photos and captions from JSON Lines.

    Args:
        root: Folder of the data set.
        images: Folder of the photos; else ``root``.
        annotations: The file; else ``captions.jsonl`` or the only ``*.jsonl`` in ``root``.

    Raises:
        UsageError: The file or folder is not there, or several files are.
        CaptionerError: The file cannot be read.
    """
    file = annotations or _find_file(root)
    folder = first_folder([images or root], "photos")
    collector = Collector()
    for place, line in collector.lines(file):
        try:
            entry = _parse(line)
        except ValueError as fault:
            collector.report(file, place, str(fault))
            continue
        collector.add(
            image_id=entry.get("id", entry["image"]),
            folder=folder,
            name=entry["image"],
            captions=entry["captions"],
            split=entry["split"],
            file=file,
            place=place,
        )
    return collector.loaded


def _find_file(root: Path) -> Path:
    if (root / _USUAL_NAME).is_file():
        return root / _USUAL_NAME
    found = sorted(root.glob("*.jsonl"))
    if not found:
        raise UsageError(
            f"no JSON Lines file in {root}: looked for {_USUAL_NAME} and *.jsonl; "
            "name another with data.annotations"
        )
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise UsageError(f"{root} holds {names}: choose one with data.annotations")
    return found[0]


def _parse(line: str) -> dict[str, Any]:
    """One line's object, with image, captions (a list) and split; else ValueError says why not."""
    try:
        entry = parse_json(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"column {error.colno}: not JSON: {error.msg}") from None
    if not isinstance(entry, dict):
        raise ValueError(
            f'must be an object {{"image": …, "captions": […], "split": …}}, not {shown(entry)}'
        )
    for key in ("image", "captions", "split"):
        if key not in entry:
            near = get_close_matches(key, entry, n=1)
            hint = f' (there is "{near[0]}")' if near else ""
            raise ValueError(f'has no "{key}"{hint}')
    if not isinstance(entry["captions"], list):
        raise ValueError(f'"captions" must be a list of texts, not {shown(entry["captions"])}')
    return entry

"""Photo files of a folder in a settled order; the id in a name."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".dib", ".tif"}
    | {".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"}
)
"""Endings, in lower case, of the files of a folder that are taken for photos."""


def image_of_photo(path: Path) -> int | str:
    """COCO's number in a file name (COCO_val2014_000000391895.jpg, 391895.jpg), else the name."""
    number = re.fullmatch(r"(?:COCO_\w+_)?([0-9]+)", path.stem)
    return int(number[1]) if number else path.name


def pictures_below(folder: Path) -> Iterator[Path]:
    """Files and links with a picture's ending in a folder and below it, sorted by path.

    A folder's own names are sorted when it is their turn, so that a million photos in a thousand
    folders take the memory of one folder.
    """
    try:
        with os.scandir(folder) as entries:
            # With a slash behind it a folder stands where its paths do among those of the files.
            names = sorted(
                entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name
                for entry in entries
            )
    except OSError:  # no permission, or gone by now
        return
    for name in names:
        if name.endswith("/"):
            yield from pictures_below(folder / name)
        elif Path(name).suffix.lower() in SUFFIXES and not (folder / name).is_dir():
            yield folder / name

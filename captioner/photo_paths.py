"""What a user names on the command line, as photo files in a settled order; the id in a name."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
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


def expand(names: Iterable[str], standard_input: Iterable[str]) -> Iterator[Path]:
    """Photo files of files, folders, globs, and `-` for a list on standard input.

    A folder gives the pictures in it and below it, sorted by path; a glob what it matches, sorted;
    everything else itself, there or not: that it cannot be read is told with its record.

    Args:
        names: as on the command line.
        standard_input: lines of paths for `-`.
    """
    for name in names:
        if name == "-":
            for line in standard_input:
                path = line.rstrip("\r\n")
                if path.strip():
                    yield Path(path)
        elif Path(name).is_dir():
            yield from pictures_below(Path(name))
        elif glob.has_magic(name) and not os.path.lexists(name):
            # Not Path.glob: it takes no absolute pattern.
            matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207
            for match in matches or [Path(name)]:
                yield from pictures_below(match) if match.is_dir() else [match]
        else:
            yield Path(name)


def pictures_below(folder: Path) -> list[Path]:
    """Files and links with a picture's ending in a folder and below it, sorted by path."""
    found = [
        Path(parent) / name
        for parent, _, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    ]
    return sorted(found, key=str)

"""Names of photo files: which endings are read, the id in a name, spellings of one name."""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".bmp", ".dib"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"}
)
"""Endings, in lower case, of the files of a folder that are taken for photos."""

HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
"""As `SUFFIXES`, where the optional package pillow-heif is installed."""


def image_of_photo(path: Path) -> int | str:
    """COCO's number in a file name (COCO_val2014_000000391895.jpg, 391895.jpg), else the name."""
    number = re.fullmatch(r"(?:COCO_\w+_)?([0-9]{1,18})", path.stem)
    return int(number[1]) if number else path.name


class FileNames:
    r"""The names in one folder, found in whichever Unicode form they are asked for.

    macOS stores "é" as "e" and a combining accent (NFD); most annotations hold one character (NFC).
    Both look alike, and file systems other than Apple's tell them apart.

    Args:
        names: As the folder lists them.

    Example:
        >>> names = FileNames(["cafe\u0301.jpg"])
        >>> names.find("caf\u00e9.jpg") == "cafe\u0301.jpg"
        True
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._by_form: dict[str, str] | None = None

    def __contains__(self, name: object) -> bool:
        """Return whether the name is there in exactly this form."""
        return name in self._names

    def find(self, name: str) -> str | None:
        """Return the name as the folder lists it, or None; the exact form wins over another one."""
        if name in self._names:
            return name
        if name.isascii():  # has one form only
            return None
        if self._by_form is None:
            odd = sorted(one for one in self._names if not one.isascii())
            self._by_form = {unicodedata.normalize("NFC", one): one for one in odd}
        return self._by_form.get(unicodedata.normalize("NFC", name))


class Spellings:
    """Finds files whose path on disk has another Unicode form; each folder is listed once."""

    def __init__(self) -> None:
        self._listings: dict[str, FileNames] = {}

    def on_disk(self, path: Path) -> Path:
        """The path of the file as the disk spells it; the path itself if there is no such file.

        Folders on the way may be spelled otherwise too. A path that is there as it is written, or
        that is plain ASCII, costs one question to the file system and no listing.
        """
        if str(path).isascii() or os.path.lexists(path):
            return path
        found = Path(path.anchor)
        for part in path.relative_to(found).parts:
            name = part if part == ".." else self._list(found).find(part)
            if name is None:
                return path
            found = found / name
        return found

    def _list(self, folder: Path) -> FileNames:
        key = str(folder)
        if key not in self._listings:
            try:
                names = [entry.name for entry in folder.iterdir()]
            except OSError:
                names = []
            self._listings[key] = FileNames(names)
        return self._listings[key]

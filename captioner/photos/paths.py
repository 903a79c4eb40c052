"""Names of photo files: supported extensions, ids in names, and Unicode forms of names."""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".bmp", ".dib"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif"}
)
"""Extensions of photos in a folder, in lower case."""

HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
"""Further extensions if the optional package pillow-heif is installed."""


def image_of_photo(path: Path) -> int | str:
    """Return COCO's id in a file name (COCO_val2014_000000391895.jpg), or the name.

    Example:
        >>> image_of_photo(Path("COCO_val2014_000000391895.jpg")), image_of_photo(Path("dog.jpg"))
        (391895, 'dog.jpg')
    """
    number = re.fullmatch(r"(?:COCO_\w+_)?([0-9]{1,18})", path.stem)
    return int(number[1]) if number else path.name


class FileNames:
    r"""The names in one folder, looked up in any Unicode form.

    macOS stores "é" as "e" and a combining accent (NFD), while most annotations use one character
    (NFC). They look alike, but most file systems distinguish them.

    Args:
        names: The names listed in the folder.

    Example:
        >>> names = FileNames(["cafe\u0301.jpg"])
        >>> names.find("caf\u00e9.jpg") == "cafe\u0301.jpg"
        True
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._by_form: dict[str, str] | None = None

    def __contains__(self, name: object) -> bool:
        """Return whether the folder has the name in exactly this form."""
        return name in self._names

    def find(self, name: str) -> str | None:
        """Return the name as listed in the folder, preferring the exact form, or None."""
        if name in self._names:
            return name
        if self._by_form is None:
            # An ASCII name can be another form too: the Kelvin sign's canonical form is "K".
            odd = sorted(one for one in self._names if not one.isascii())
            self._by_form = {unicodedata.normalize("NFC", one): one for one in odd}
        return self._by_form.get(unicodedata.normalize("NFC", name))


class Spellings:
    """Find files whose path on disk has another Unicode form; list each folder once."""

    def __init__(self) -> None:
        self._listings: dict[str, FileNames] = {}

    def on_disk(self, path: Path) -> Path:
        """Return the path of a file in its form on disk, or the path itself if it does not exist.

        Parent folders may differ in form, too. A path that exists as given or is ASCII needs at
        most one system call and no listing.
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

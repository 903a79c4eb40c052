"""Find the photos in a folder, recursively and in order, and count the files that are skipped.

Folders also contain hidden thumbnail caches, macOS AppleDouble files and pictures in unsupported
formats. Hidden files and system files are skipped, unless they are named directly. Other skipped
files are counted by extension.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from captioner.photos.formats import heif_is_read
from captioner.photos.paths import HEIF_SUFFIXES, SUFFIXES

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")
"""Extensions of tar files, in lower case."""

COMPANIONS = frozenset(
    {".txt", ".caption", ".cls", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".toml"}
    | {".xml", ".xmp", ".md", ".html", ".log", ".idx", ".index", ".lock"}
)
"""Extensions of files expected beside photos, which are skipped without being counted."""

_LITTER = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information"}
    | {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
)
_LISTED = 8
"""Number of extensions listed individually in the message."""


@dataclass
class Skipped:
    """Counts of skipped files.

    Attributes:
        endings: Number of files by extension, in lower case; "" for files without one.
        hidden: Number of hidden files and folders.
        links: Number of links to folders, which could be circular.
    """

    endings: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    links: int = 0

    def add(self, name: str) -> None:
        """Count a file that is not a photo."""
        ending = PurePath(name).suffix.lower()
        if ending not in COMPANIONS:
            self.endings[ending if ending.isprintable() and len(ending) <= 12 else "other"] += 1

    def sentence(self) -> str | None:
        """Return a one-line message, or None if nothing was skipped."""
        parts = []
        if self.endings:
            ordered = sorted(self.endings.items(), key=lambda item: (-item[1], item[0]))
            listed = [f"{count:,} {ending or 'without ending'}" for ending, count in ordered]
            if len(listed) > _LISTED:
                rest = sum(count for _, count in ordered[_LISTED:])
                listed[_LISTED:] = [f"{rest:,} of other endings"]
            total = sum(self.endings.values())
            what = _count(total, "file")
            parts.append(f"{what} in formats that are not read ({', '.join(listed)})")
        if self.hidden:
            parts.append(_count(self.hidden, "hidden file or folder", "hidden files or folders"))
        if self.links:
            parts.append(_count(self.links, "link to a folder", "links to folders"))
        if not parts:
            return None
        heif = not heif_is_read() and any(self.endings[ending] for ending in HEIF_SUFFIXES)
        hint = "; to read HEIC and HEIF: pip install 'captioner[heic]'" if heif else ""
        return f"skipped {'; '.join(parts)}{hint}"


@dataclass(frozen=True)
class Found:
    """A photo or tar found in a folder, or a folder that cannot be listed.

    Attributes:
        path: Its path.
        error: Why a folder cannot be listed; None for a file.
    """

    path: Path
    error: str | None = None


def is_shard(name: str) -> bool:
    """Return whether a file has the extension of a tar."""
    return name.lower().endswith(SHARD_SUFFIXES)


def is_photo(name: str) -> bool:
    """Return whether a file has the extension of a supported picture format."""
    ending = PurePath(name).suffix.lower()
    return ending in SUFFIXES or (ending in HEIF_SUFFIXES and heif_is_read())


def is_hidden(parts: Sequence[str]) -> bool:
    """Return whether a path inside a folder or tar is hidden or a system file."""
    return any(
        _is_litter(part) or (part.startswith(".") and part not in (".", "..")) for part in parts
    )


def files_below(folder: Path, skipped: Skipped) -> Iterator[Found]:
    """Yield the photos and tars in a folder, recursively, sorted by path.

    Each folder is listed only when it is reached, so memory is bounded by the largest folders on
    one path. Folders may be nested to any depth. Links to files are followed, links to folders are
    not.

    Args:
        folder: The folder, which itself may be hidden or a link.
        skipped: Counts the files that are skipped.
    """
    stack: list[tuple[Path, list[str]]] = []  # per level: folder and its remaining names, reversed
    entering: Path | None = folder
    while True:
        if entering is not None:
            try:
                stack.append((entering, _names(entering, skipped)))
            except OSError as error:
                yield Found(entering, f"the folder cannot be listed: {error.strerror or error}")
            entering = None
        elif not stack:
            return
        elif not stack[-1][1]:
            stack.pop()
        else:
            place, names = stack[-1]
            name = names.pop()
            if name.endswith("/"):
                entering = place / name
            else:
                yield Found(place / name)


def _names(folder: Path, skipped: Skipped) -> list[str]:
    """Return the names to read in a folder, in descending order; folders end in a slash.

    With the slash, a folder sorts where its paths sort among those of files.
    """
    kept = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if _is_litter(name):
                continue
            if name.startswith("."):
                skipped.hidden += 1
            elif entry.is_dir(follow_symlinks=False):
                kept.append(name + "/")
            elif entry.is_symlink() and (folder / name).is_dir():
                skipped.links += 1
            elif is_photo(name) or is_shard(name):
                kept.append(name)
            else:
                skipped.add(name)
    return sorted(kept, reverse=True)


def _is_litter(name: str) -> bool:
    return name.startswith("._") or name == ".DS_Store" or name.lower() in _LITTER


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"

"""Expand the inputs of a command to photos, lazily and in a fixed order.

Inputs are photos, their addresses (URLs), folders, globs, brace ranges (`{000..099}`), lists of
paths, COCO files and tar shards. Photos are found one by one, so memory does not grow with their
number. A photo that cannot be read is yielded with the reason.
"""

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.errors import UsageError, shown
from captioner.files.json_file import as_list, first_folder, read_json
from captioner.photos.address import Address, refusal, scheme_of
from captioner.photos.folders import Skipped, files_below, is_shard
from captioner.photos.lists import read_list, resolve
from captioner.photos.paths import Spellings
from captioner.photos.source import PhotoSource
from captioner.photos.tar import Member, TarError, members

MAX_RANGE = 10**6
"""Maximum number of names that brace ranges may expand to."""


@dataclass(frozen=True)
class PhotoInput:
    """An input photo, before it is read.

    Attributes:
        path: Path as in `PhotoSource`.
        member: The member, for a photo in a tar.
        error: Why it cannot be read.
    """

    path: Path
    member: Member | None = None
    error: str | None = None

    @property
    def stamp(self) -> str:
        """The name and a member's size, which identify the input."""
        size = "" if self.member is None else f":{self.member.size}"
        return f"{self.path}{size}"

    def source(self) -> PhotoSource:
        """Return the photo. Read a tar member before requesting the next input."""
        if self.member is None or self.error is not None:
            return PhotoSource(self.path, error=self.error)
        try:
            return PhotoSource(self.path, self.member.content())
        except TarError as error:
            return PhotoSource(self.path, error=str(error))


def expand(
    names: Iterable[str],
    standard_input: Iterable[str] = (),
    *,
    lists: Sequence[str] = (),
    images: Path | None = None,
    allow_url: bool = False,
    note: Callable[[str], None] = lambda sentence: None,
    whole_tars: bool = False,
) -> Iterator[PhotoInput]:
    """Yield the photos of the given inputs, in order.

    - A folder yields its photos and tars recursively, sorted by path, and an error for each folder
      that cannot be listed. Hidden files and folders are skipped.
    - A glob yields its matches, sorted. `shards-{000..099}.tar` expands to a hundred names.
    - `-` and `@F` yield the paths on standard input and in file F, one per line.
    - A COCO file (`.json`) yields its images, a tar its pictures, named `shard.tar/member.jpg`.
    - An address (`https://…`) yields itself, or an error unless `allow_url` is set.
    - Any other name yields itself, whether or not it exists.

    A name that does not exist is looked up in its folder in other Unicode forms.

    Args:
        names: Inputs as on the command line.
        standard_input: Lines of paths for `-`.
        lists: Files with one path per line, which follow the names.
        images: Folder of the photos of COCO files. Default: search near the file.
        allow_url: Whether addresses are downloaded.
        note: Called with a message for each folder or tar in which files were skipped.
        whole_tars: Whether to yield a tar itself instead of its pictures, without opening it.

    Raises:
        UsageError: A list does not exist, a brace range is invalid, or a COCO file's photos are not
            found.
        CaptionerError: A COCO file is invalid.
    """
    naming = _Naming(images, note, allow_url, whole_tars)
    for name in names:
        if name == "-":
            yield from naming.listed(standard_input)
        elif name.startswith("@") and not os.path.lexists(name):
            yield from naming.listed(read_list(Path(name[1:])))
        elif scheme_of(name):
            yield naming.address(name)
        elif os.path.lexists(name):
            yield from naming.there(Path(name))
        else:
            for one in braces(name):
                yield from naming.pattern(one)
    for name in lists:
        yield from naming.listed(read_list(Path(name)))


def check_lists(names: Iterable[str], lists: Iterable[str]) -> None:
    """Check that all lists exist and are text, before starting work.

    Raises:
        UsageError: A list does not exist, or is not text.
    """
    named = [name[1:] for name in names if name.startswith("@") and not os.path.lexists(name)]
    for name in [*named, *lists]:
        if not Path(name).is_file():
            raise UsageError(f"--list: no file {name}")
        next(read_list(Path(name)), None)


def braces(name: str) -> list[str]:
    """Expand the brace ranges of a name.

    Raises:
        UsageError: A range runs backwards, or expands to too many names.

    Example:
        >>> braces("a-{08..10}.tar")
        ['a-08.tar', 'a-09.tar', 'a-10.tar']
    """
    found = re.search(r"\{([0-9]{1,12})\.\.([0-9]{1,12})\}", name)
    if found is None:
        return [name]
    first, last = int(found[1]), int(found[2])
    if last < first:
        raise UsageError(f"{found[0]} in {name!r}: the range runs backwards")
    rest = braces(name[found.end() :])
    if (last - first + 1) * len(rest) > MAX_RANGE:
        raise UsageError(f"{name!r} expands to more than {MAX_RANGE:,} names")
    width = max(len(found[1]), len(found[2])) if found[1].startswith("0") else 0
    head = name[: found.start()]
    return [f"{head}{number:0{width}}{tail}" for number in range(first, last + 1) for tail in rest]


class _Naming:
    """Implementation of `expand`, with a cache of folder listings."""

    def __init__(
        self,
        images: Path | None,
        note: Callable[[str], None],
        allow_url: bool,
        whole_tars: bool,
    ) -> None:
        self.images = images
        self.whole_tars = whole_tars
        self.note = note
        self.allow_url = allow_url
        self.spellings = Spellings()

    def pattern(self, name: str) -> Iterator[PhotoInput]:
        """Yield the matches of a name with wildcards, or the name itself."""
        # Path.glob does not support absolute patterns.
        matches = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else []  # noqa: PTH207
        for match in matches or [str(self.spellings.on_disk(Path(name)))]:
            yield from self.there(Path(match))

    def there(self, path: Path) -> Iterator[PhotoInput]:
        """Yield the photos of an existing folder, COCO file, tar or photo."""
        if _is_dir(path):
            yield from self.folder(path)
        elif path.suffix.lower() == ".json" and _is_file(path):
            yield from self.coco(path)
        else:
            yield from self.one(path)

    def folder(self, folder: Path) -> Iterator[PhotoInput]:
        """Yield the photos of a folder and of the tars in it."""
        skipped = Skipped()
        for found in files_below(folder, skipped):
            if found.error is not None:
                yield PhotoInput(found.path, error=found.error)
            else:
                yield from self.one(found.path, skipped)
        self._say(folder, skipped)

    def one(self, path: Path, skipped: Skipped | None = None) -> Iterator[PhotoInput]:
        """Yield a photo, or the members of a tar followed by its error, if any."""
        if self.whole_tars or not is_shard(path.name):
            yield PhotoInput(path)
            return
        counted = skipped or Skipped()
        try:
            for member in members(path, counted):
                yield PhotoInput(path / member.name.lstrip("/"), member, member.error)
        except TarError as error:
            yield PhotoInput(path, error=str(error))
        if skipped is None:
            self._say(path, counted)

    def address(self, name: str) -> PhotoInput:
        """Return the photo at an address."""
        return PhotoInput(Address(name), error=refusal(name, allowed=self.allow_url))

    def listed(self, lines: Iterable[str]) -> Iterator[PhotoInput]:
        """Yield the photos and members of tars listed in lines."""
        for line in lines:
            path = line.rstrip("\r\n")
            if scheme_of(path):
                yield self.address(path.rstrip())
            elif path.strip():
                yield from self.one(resolve(path, self.spellings))

    def coco(self, file: Path) -> Iterator[PhotoInput]:
        """Yield the images of a COCO annotation or image-info file, in its order."""
        entries = as_list(read_json(file), file, "images")
        folder = self.images or _photo_folder(file, entries)
        for index, entry in enumerate(entries):
            name = entry.get("file_name") if isinstance(entry, dict) else None
            place = file / f"images[{index}]"
            if not isinstance(name, str) or not name.strip() or "\0" in name:
                yield PhotoInput(place, error=f'"file_name" is no file name: {shown(name)}')
            elif Path(name).anchor or ".." in Path(name).parts:
                yield PhotoInput(place, error=f"{shown(name)} is outside its folder")
            else:
                yield PhotoInput(self.spellings.on_disk(folder / name))

    def _say(self, place: Path, skipped: Skipped) -> None:
        sentence = skipped.sentence()
        if sentence is not None:
            self.note(f"{place}: {sentence}")


def _photo_folder(file: Path, entries: Sequence[object]) -> Path:
    """Return the photo folder of a COCO file such as `annotations/captions_val2014.json`."""
    base = re.sub(r"^(captions|instances|image_info|person_keypoints)_", "", file.stem)
    roots = dict.fromkeys((file.parent.parent, file.parent))
    folders = [root / place for root in roots for place in (base, f"images/{base}", "images", "")]
    first = entries[0].get("file_name") if entries and isinstance(entries[0], dict) else None
    if isinstance(first, str) and "\0" not in first:
        with_first = next((folder for folder in folders if _is_file(folder / first)), None)
        if with_first is not None:
            return with_first
    try:
        return first_folder([folder for folder in folders if folder not in roots], "photos")
    except UsageError as error:
        raise UsageError(
            f"{file}: its photos were not found; set their folder with --images"
        ) from (error)


def _is_file(path: Path) -> bool:
    """Return `Path.is_file`, or False for a name that is too long."""
    try:
        return path.is_file()
    except OSError:
        return False


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False

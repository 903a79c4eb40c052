"""Records, the one in-memory form of every source, and what every source checks to make them.

A source (`coco`, `karpathy`, `flickr8k`, `jsonl`, `csv_file`, `sidecar`) reads its own files and
hands what it finds to a `Collector`, which decides in one place what a usable photo and a usable
caption are. What is not usable becomes a `Problem`; whether problems end the run is the caller's
choice (`load`).
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from captioner.errors import UsageError, shown
from captioner.files.json_file import read_bytes
from captioner.photos.paths import FileNames

ImageId = int | str

MAX_CAPTION = 10_000
"""Characters of a caption; METEOR takes gigabytes of memory for one of 600,000."""

SPLITS = ("train", "val", "test")

SPLIT_NAMES = {name: name for name in SPLITS} | {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "testing": "test",
}
"""What people call the three splits, in lower case."""

UNDIVIDED = ""
"""The split of a record whose source gives none, until `data.split` divides the data set."""


@dataclass(frozen=True, slots=True)
class Record:
    """One photo with its captions.

    Attributes:
        image_id: Number or text, unique in its data set, also when written as text.
        path: The photo; it was there when the record was made.
        captions: At least one, each on one line with single blanks and none at its ends.
        split: "train", "val" or "test".
    """

    image_id: ImageId
    path: Path
    captions: tuple[str, ...]
    split: str


class Kind(Enum):
    """What sort of thing is wrong, where it matters which."""

    MALFORMED = "entries that are not of the format"
    MISSING_PHOTO = "photos that are missing"
    IN_TWO_SPLITS = "photos listed in two splits"
    LISTED_TWICE = "photos listed twice in one split"
    NO_CAPTION = "photos without captions"
    EMPTY_CAPTION = "captions that are empty"


class BadEntryError(ValueError):
    """An entry that is wrong in a way worth counting apart."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a source.

    Attributes:
        file: The annotation file it stands in.
        place: Where in the file: a line number, an annotation id, an image id.
        message: What is wrong, and what would be right.
        kind: What sort of thing that is.
    """

    file: Path
    place: str
    message: str
    kind: Kind = Kind.MALFORMED

    def __str__(self) -> str:
        return f"{self.file}, {self.place}: {self.message}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a source held.

    Attributes:
        records: The usable photos, in the order of the source.
        problems: What was left out because something is wrong with it.
        notes: What was left out although nothing is wrong with it, a sentence each.
    """

    records: list[Record]
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def by_split(records: Iterable[Record], split: str) -> list[Record]:
    """Return the records of one split, in their order.

    Raises:
        UsageError: There is no such split.
    """
    if split not in SPLITS:
        raise UsageError(f"unknown split {shown(split)}: choose from {', '.join(SPLITS)}")
    return [record for record in records if record.split == split]


class Collector:
    """Makes records, and keeps the problems of what could not become one.

    Photos are looked up in a listing of their folder, one for each folder: on a network disk a
    question for each of 120,000 photos would take minutes.

    Args:
        divided_later: Accept photos without a split; their records have the split
            `UNDIVIDED` until `captioner.datasets.division.divide` gives them one.
    """

    def __init__(self, *, divided_later: bool = False) -> None:
        self.loaded = Loaded([])
        self._divided_later = divided_later
        self._by_id: dict[str, Record] = {}
        self._by_path: dict[str, Record] = {}
        self._listings: dict[str, FileNames] = {}

    def report(self, file: Path, place: str, fault: str | ValueError) -> None:
        """Keep a problem."""
        kind = fault.kind if isinstance(fault, BadEntryError) else Kind.MALFORMED
        self.loaded.problems.append(Problem(file, place, str(fault), kind))

    def note(self, sentence: str) -> None:
        """Keep a remark on what was left out for no fault of its own."""
        self.loaded.notes.append(sentence)

    def add(
        self,
        *,
        image_id: object,
        folder: Path,
        name: object,
        captions: Sequence[object],
        split: object,
        file: Path,
        place: str,
        caption_place: Callable[[int], str] | None = None,
        other_folders: Sequence[Path] = (),
    ) -> None:
        """Make a record of a photo if all is well with it; a bad caption is left out alone.

        Args:
            image_id: Its id, as found.
            folder: Folder that photos must lie in.
            name: Its path below `folder`, as found.
            captions: Its captions, as found.
            split: Its split, as found; None where the source gives none.
            file: File that names the photo.
            place: Where in it.
            caption_place: Where the caption of an index stands; `place` and a number if None.
            other_folders: Folders to look in for a photo that `folder` does not hold.
        """
        try:
            later = split is None and self._divided_later
            checked_split = UNDIVIDED if later else check_split(split)
            checked_id = check_id(image_id)
            photo = self._find_photo([folder, *other_folders], name)
            self._refuse_doubles(checked_id, photo, checked_split)
        except ValueError as fault:
            self.report(file, place, fault)
            return
        usable = []
        for index, caption in enumerate(captions):
            try:
                usable.append(check_caption(caption))
            except ValueError as fault:
                where = caption_place(index) if caption_place else f"{place}, caption {index + 1}"
                self.report(file, where, fault)
        if not usable:
            left = " left" if captions else ""
            message = f"photo {shown(name)} has no caption{left}: give it one or more"
            self.report(file, place, BadEntryError(Kind.NO_CAPTION, message))
            return
        record = Record(checked_id, photo, tuple(usable), checked_split)
        self._by_id[str(checked_id)] = self._by_path[str(photo)] = record
        self.loaded.records.append(record)

    def lines(self, file: Path) -> Iterator[tuple[str, str]]:
        """Yield the lines of a text file that are not blank, each with its place.

        Lines end in LF or CRLF and nothing else: a U+2028 inside a caption does not end one. A line
        that is not UTF-8 is a problem and is left out.
        """
        for number, raw in enumerate(read_bytes(file).split(b"\n"), start=1):
            place = f"line {number}"
            try:
                line = raw.removesuffix(b"\r").decode()
            except UnicodeDecodeError as error:
                self.report(file, place, f"not UTF-8 at byte {error.start + 1} of the line")
                continue
            if line.strip():
                yield place, line

    def _find_photo(self, folders: Sequence[Path], name: object) -> Path:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"a photo's name must be text, not {shown(name)}")
        if not _is_text(name) or "\0" in name:
            raise ValueError(f"{shown(name)} cannot be a file name")
        relative = Path(name)
        if relative.anchor or ".." in relative.parts:
            raise ValueError(f"photo {shown(name)} leads outside its folder {folders[0]}")
        for folder in folders:
            parent, base = os.path.split(folder / relative)
            found = self._list(parent).find(base)
            if found is not None:
                return Path(parent, found)
        message = f"photo {shown(name)} is missing from {folders[0]}"
        raise BadEntryError(Kind.MISSING_PHOTO, message)

    def _list(self, folder: str) -> FileNames:
        if folder not in self._listings:
            try:
                with os.scandir(folder) as entries:
                    names = FileNames(entry.name for entry in entries if entry.is_file())
            except (FileNotFoundError, NotADirectoryError):
                names = FileNames([])
            except OSError as error:
                raise ValueError(f"folder {folder} cannot be listed: {error.strerror}") from None
            self._listings[folder] = names
        return self._listings[folder]

    def _refuse_doubles(self, image_id: ImageId, photo: Path, split: str) -> None:
        what = f"image id {shown(image_id)}"
        other = self._by_id.get(str(image_id))
        if other is None:
            what, other = f"photo {str(photo)!r}", self._by_path.get(str(photo))
        if other is None:
            return
        if other.split != split:
            message = f"{what} is in {other.split} too: a photo belongs to one split"
            raise BadEntryError(Kind.IN_TWO_SPLITS, message)
        message = f"{what} occurs twice: list a photo once, with all its captions"
        raise BadEntryError(Kind.LISTED_TWICE, message)


# -- what single values must be; each check returns the value, or a ValueError says what is wrong


def check_split(split: object) -> str:
    """Return a split's name."""
    if split is None:
        raise ValueError('has no split: write "train", "val" or "test", or set data.split 80/10/10')
    if isinstance(split, str) and split in SPLITS:
        return split
    raise ValueError(f'unknown split {shown(split)}: write "train", "val" or "test"')


def check_id(image_id: object) -> ImageId:
    """Return an image's id: a whole number or a text."""
    if isinstance(image_id, int) and not isinstance(image_id, bool):
        return image_id
    if isinstance(image_id, str) and image_id.strip() and _is_text(image_id):
        return image_id
    raise ValueError(f"an image id must be a whole number or text, not {shown(image_id)}")


def check_length(caption: str) -> None:
    """Refuse a caption that no score can align in bounded time and memory.

    Raises:
        ValueError: It has more than `MAX_CAPTION` characters.
    """
    if len(caption) > MAX_CAPTION:
        raise ValueError(
            f"a caption has {len(caption):,} characters, more than the {MAX_CAPTION:,} allowed"
        )


def check_caption(caption: object) -> str:
    """A caption as one line: runs of blanks and line separators of all kinds become one blank."""
    if not isinstance(caption, str):
        raise ValueError(f"a caption must be text, not {shown(caption)}")
    check_length(caption)
    text = " ".join(caption.split())
    if not text:
        raise BadEntryError(Kind.EMPTY_CAPTION, "empty caption: write one or leave it out")
    if not _is_text(text):
        raise ValueError(f"caption {shown(text)} holds half a surrogate pair: not valid Unicode")
    return text


def _is_text(text: str) -> bool:
    """Return whether a string can be written: JSON lets one half of a surrogate pair through."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

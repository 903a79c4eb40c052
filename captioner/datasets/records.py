"""Records, the in-memory form of every data format, and the checks they must pass.

A format module (`coco`, `karpathy`, `flickr8k`, `jsonl`, `csv_file`, `sidecar`) reads its files and
passes each photo to a `Collector`. The collector alone decides which photos and captions are
usable. Anything else becomes a `Problem`; the caller (`load`) decides whether problems are fatal.
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
"""Maximum characters per caption. METEOR needs gigabytes of memory for 600,000 characters."""

SPLITS = ("train", "val", "test")

SPLIT_NAMES = {name: name for name in SPLITS} | {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "testing": "test",
}
"""Common names of the three splits, in lower case."""

UNDIVIDED = ""
"""Split of a record whose source has no splits, until `data.split` assigns one."""


@dataclass(frozen=True, slots=True)
class Record:
    """One photo with its captions.

    Attributes:
        image_id: Integer or string, unique in its data set, also when converted to a string.
        path: Path of the photo, which existed when the record was created.
        captions: One or more captions, each one line with normalised white space.
        split: "train", "val" or "test".
    """

    image_id: ImageId
    path: Path
    captions: tuple[str, ...]
    split: str


class Kind(Enum):
    """Kinds of problems that are counted separately."""

    MALFORMED = "entries with a wrong format"
    MISSING_PHOTO = "photos that are missing"
    IN_TWO_SPLITS = "photos listed in two splits"
    LISTED_TWICE = "photos listed twice in one split"
    NO_CAPTION = "photos without captions"
    EMPTY_CAPTION = "captions that are empty"


class BadEntryError(ValueError):
    """An invalid entry whose kind of problem is counted separately."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem in a source.

    Attributes:
        file: The annotation file.
        place: Location in the file: a line number, an annotation id or an image id.
        message: What is wrong and how to correct it.
        kind: Kind of problem.
    """

    file: Path
    place: str
    message: str
    kind: Kind = Kind.MALFORMED

    def __str__(self) -> str:
        return f"{self.file}, {self.place}: {self.message}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The content of a source.

    Attributes:
        records: The usable photos, in the order of the source.
        problems: Entries skipped because they are invalid.
        notes: Remarks on entries skipped although they are valid, one sentence each.
    """

    records: list[Record]
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def by_split(records: Iterable[Record], split: str) -> list[Record]:
    """Return the records of one split, in order.

    Raises:
        UsageError: The split is unknown.
    """
    if split not in SPLITS:
        raise UsageError(f"unknown split {shown(split)}; choose from {', '.join(SPLITS)}")
    return [record for record in records if record.split == split]


class Collector:
    """Create records, and collect the problems of entries that are not usable.

    Each folder is listed once and photos are looked up in the listing. On a network disk, checking
    120,000 photos one by one would take minutes.

    Args:
        divided_later: Whether to accept photos without a split. Their records have the split
            `UNDIVIDED` until `captioner.datasets.division.divide` assigns one.
    """

    def __init__(self, *, divided_later: bool = False) -> None:
        self.loaded = Loaded([])
        self._divided_later = divided_later
        self._by_id: dict[str, Record] = {}
        self._by_path: dict[str, Record] = {}
        self._listings: dict[str, FileNames] = {}

    def report(self, file: Path, place: str, fault: str | ValueError) -> None:
        """Record a problem."""
        kind = fault.kind if isinstance(fault, BadEntryError) else Kind.MALFORMED
        self.loaded.problems.append(Problem(file, place, str(fault), kind))

    def note(self, sentence: str) -> None:
        """Record a remark on entries that were skipped although they are valid."""
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
        """Create the record of a photo, or report a problem. Invalid captions are skipped singly.

        Args:
            image_id: The image id, unchecked.
            folder: Folder that must contain the photo.
            name: Path of the photo relative to `folder`, unchecked.
            captions: The captions, unchecked.
            split: The split, unchecked; None if the source has none.
            file: File that lists the photo.
            place: Location in that file.
            caption_place: Returns the location of a caption by index. Default: `place` and number.
            other_folders: Further folders to search for the photo.
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
            message = f"photo {shown(name)} has no caption{left}; add at least one"
            self.report(file, place, BadEntryError(Kind.NO_CAPTION, message))
            return
        record = Record(checked_id, photo, tuple(usable), checked_split)
        self._by_id[str(checked_id)] = self._by_path[str(photo)] = record
        self.loaded.records.append(record)

    def lines(self, file: Path) -> Iterator[tuple[str, str]]:
        """Yield the non-blank lines of a text file with their locations.

        Only LF and CRLF end a line; U+2028 inside a caption does not. A line that is not UTF-8 is
        reported as a problem and skipped.
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
            raise ValueError(f"a photo's name must be a string, not {shown(name)}")
        if not _is_text(name) or "\0" in name:
            raise ValueError(f"{shown(name)} is not a valid file name")
        relative = Path(name)
        if relative.anchor or ".." in relative.parts:
            raise ValueError(f"photo {shown(name)} is outside its folder {folders[0]}")
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
            message = f"{what} is also in {other.split}; a photo belongs to one split"
            raise BadEntryError(Kind.IN_TWO_SPLITS, message)
        message = f"{what} occurs twice; list a photo once, with all its captions"
        raise BadEntryError(Kind.LISTED_TWICE, message)


# -- checks of single values: each returns the value or raises a ValueError


def check_split(split: object) -> str:
    """Check the name of a split and return it.

    Raises:
        ValueError: It is missing or unknown.
    """
    if split is None:
        raise ValueError('no split; add "train", "val" or "test", or set data.split 80/10/10')
    if isinstance(split, str) and split in SPLITS:
        return split
    raise ValueError(f'unknown split {shown(split)}; choose "train", "val" or "test"')


def check_id(image_id: object) -> ImageId:
    """Check an image id, an integer or a non-empty string, and return it.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(image_id, int) and not isinstance(image_id, bool):
        return image_id
    if isinstance(image_id, str) and image_id.strip() and _is_text(image_id):
        return image_id
    raise ValueError(f"an image id must be an integer or a string, not {shown(image_id)}")


def check_length(caption: str) -> None:
    """Refuse a caption too long to be scored in bounded time and memory.

    Raises:
        ValueError: It has more than `MAX_CAPTION` characters.
    """
    if len(caption) > MAX_CAPTION:
        raise ValueError(
            f"a caption has {len(caption):,} characters; at most {MAX_CAPTION:,} are allowed"
        )


def check_caption(caption: object) -> str:
    """Check a caption and return it as one line, with runs of white space as single spaces.

    Raises:
        ValueError: It is not a string, is too long, or is not valid Unicode.
        BadEntryError: It is empty.
    """
    if not isinstance(caption, str):
        raise ValueError(f"a caption must be a string, not {shown(caption)}")
    check_length(caption)
    text = " ".join(caption.split())
    if not text:
        raise BadEntryError(Kind.EMPTY_CAPTION, "empty caption; write one or remove it")
    if not _is_text(text):
        raise ValueError(
            f"caption {shown(text)} is not valid Unicode: it has half a surrogate pair"
        )
    return text


def _is_text(text: str) -> bool:
    """Return whether a string is valid Unicode; JSON accepts half a surrogate pair."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

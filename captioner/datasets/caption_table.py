"""Tables of captions: one row per caption or per photo, columns found by their headings.

The heading line decides: the first of tab, bar, semicolon and comma that yields a column of photos
and a column of captions is the delimiter. Other columns (an index, a caption's number, licences)
are ignored, but for a split. A table without a heading is read where its first cell names a photo:
the first column then holds photos, the second captions.

Tables written without care are common, so a row is forgiving:

- a cell that does not begin with a quote is taken as it stands, quotes included;
- a row with more cells than the heading gives the surplus to its caption, delimiters included;
- a quoted cell may run over several lines; where no quote ever closes it, that row alone is wrong;
- where the caption's number and the caption stand in one cell (Flickr30k's `results.csv` has one
  such row), they are taken apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from captioner.datasets.records import SPLIT_NAMES, Collector
from captioner.errors import CaptionerError, UsageError, shown, suggestion
from captioner.photos.paths import SUFFIXES

DELIMITERS = ("\t", "|", ";", ",")

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image": (
        *("image", "file_name", "filename", "image_name", "image_file", "image_path", "filepath"),
        *("file", "path", "photo", "img", "img_path", "image_id"),
    ),
    "caption": (
        *("caption", "captions", "comment", "text", "texts", "sentence", "sentences"),
        *("description", "raw"),
    ),
    "split": ("split", "subset", "partition", "set"),
    "number": ("comment_number", "caption_number", "number"),
    "error": ("error",),
}
"""What a column may be called, in lower case; the first name that is there is taken."""

NAMEABLE = ("image", "caption", "split")
"""Columns that `data.columns` may name."""

_MAX_LINES = 20  # of one quoted cell
_QUOTED = re.compile(r'\s*"((?:[^"]|"")*)"[^\S\t]*')


@dataclass(frozen=True)
class Row:
    """One caption of a table.

    Attributes:
        place: Where it stands.
        image: The photo's name.
        caption: The caption as found.
        split: The split as found; None without such a column.
        error: Why the photo has no caption; empty but in tables of `captioner caption`.
    """

    place: str
    image: str
    caption: str
    split: str | None = None
    error: str = ""


class Cell(NamedTuple):
    """One cell of a row: as it stands, as it is read, and whether it is quoted."""

    raw: str
    value: str
    quoted: bool = False


@dataclass(frozen=True)
class _Layout:
    """How the rows of a table are read: delimiter, headings, and the place of each column."""

    delimiter: str
    headings: tuple[str, ...]
    at: Mapping[str, int]

    @property
    def width(self) -> int:
        """Cells in a row."""
        return len(self.headings)

    def fault(self, line: str) -> str:
        """Return what to say of a line that is no row."""
        plain = self.delimiter.join(self.headings)
        caption = self.headings[self.at["caption"]]
        quoted = self.delimiter.join(
            f'"{heading}"' if heading == caption else heading for heading in self.headings
        )
        return f"must be {plain} or {quoted} with quotes doubled inside, not {shown(line)}"


def parse_columns(text: str | None) -> dict[str, str]:
    """Return the setting `data.columns`: `image=photo, caption=title, split=part`.

    Raises:
        UsageError: It is not of this form.

    Example:
        >>> parse_columns("image = Photo, caption=Title")
        {'image': 'Photo', 'caption': 'Title'}
    """
    named: dict[str, str] = {}
    for part in text.split(",") if text else []:
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not (equals and ours and theirs):
            raise UsageError(
                f"data.columns: {shown(part)}: write image=HEADING, caption=HEADING, split=HEADING"
            )
        if ours not in NAMEABLE:
            raise UsageError(f"data.columns: unknown {shown(ours)}; {suggestion(ours, NAMEABLE)}")
        named[ours] = theirs
    return named


def has_heading(line: str, columns: Mapping[str, str] | None = None) -> bool:
    """Return whether the first line of a file is the heading of such a table."""
    return _from_heading(line, columns or {}) is not None


def read_table(
    collector: Collector, file: Path, columns: Mapping[str, str] | None = None
) -> Iterator[Row]:
    """Yield the rows of a table in order; what is no row is reported to the collector.

    Args:
        collector: Takes problems and notes.
        file: The table.
        columns: Headings of unusual names, as `parse_columns` returns them.

    Raises:
        UsageError: There is no such file.
        CaptionerError: It is empty, or its first line is neither a heading nor a row.
    """
    lines = list(collector.lines(file))
    if not lines:
        raise CaptionerError(f"{file}: holds no captions")
    place, first = lines[0]
    layout = _from_heading(first, columns or {})
    if layout is not None:
        lines = lines[1:]
    elif columns or (layout := _without_heading(first)) is None:
        raise CaptionerError(f"{file}, {place}: {_no_heading(first, columns or {})}")
    repaired = 0
    for place, cells in _cells(collector, file, lines, layout):
        fitted, was_repaired = _fit(cells, layout)
        if fitted is None:
            line = layout.delimiter.join(cell.raw for cell in cells)
            collector.report(file, place, layout.fault(line))
            continue
        repaired += was_repaired
        named = {name: fitted[index] for name, index in layout.at.items()}
        split = named.get("split", "").strip() or None
        yield Row(
            place,
            named["image"].strip(),
            named["caption"],
            SPLIT_NAMES.get(split.lower(), split) if split else None,
            named.get("error", "").strip(),
        )
    if repaired:
        rows = "1 row" if repaired == 1 else f"{repaired} rows"
        collector.note(f"{file}: {rows} lacked a delimiter behind the caption's number: repaired")


def split_cells(line: str, delimiter: str) -> list[Cell] | None:
    r"""Return the cells of a row; None where a quoted one is not closed.

    Raises:
        ValueError: Text follows a closing quote.

    Example:
        >>> cells = split_cells('a.jpg,"A dog, ""Rex"", runs",5 " tall', ",")
        >>> [cell.value for cell in cells]
        ['a.jpg', 'A dog, "Rex", runs', '5 " tall']
        >>> split_cells('a.jpg,"A dog', ",") is None
        True
    """
    if '"' not in line:
        return [Cell(value, value) for value in line.split(delimiter)]
    cells = []
    at = 0
    while True:
        quoted = _QUOTED.match(line, at)
        if quoted and (quoted.end() == len(line) or line[quoted.end()] == delimiter):
            end, value = quoted.end(), quoted[1].replace('""', '"')
        elif line.startswith('"', at):
            if quoted:
                raise ValueError("text behind a closing quote")
            return None
        else:
            quoted = None
            end = line.find(delimiter, at)
            end = len(line) if end < 0 else end
            value = line[at:end]
        cells.append(Cell(line[at:end], value, quoted is not None))
        if end == len(line):
            return cells
        at = end + 1


def _cells(
    collector: Collector, file: Path, lines: Sequence[tuple[str, str]], layout: _Layout
) -> Iterator[tuple[str, list[Cell]]]:
    """Yield the cells of each row, whose quoted cells may run over several lines."""
    at = 0
    while at < len(lines):
        place, line = lines[at]
        at += 1
        text, further = line, at
        try:
            cells = split_cells(text, layout.delimiter)
            while cells is None:
                if further == min(len(lines), at + _MAX_LINES):
                    raise ValueError("a quote is not closed")
                text += "\n" + lines[further][1]
                further += 1
                cells = split_cells(text, layout.delimiter)
        except ValueError:
            collector.report(file, place, layout.fault(line))
        else:
            at = further
            yield place, cells


def _from_heading(line: str, columns: Mapping[str, str]) -> _Layout | None:
    for delimiter in DELIMITERS:
        headings = tuple(cell.value.strip() for cell in _try_split(line, delimiter))
        lower = [heading.lower() for heading in headings]
        at = {}
        for name, usual in COLUMNS.items():
            wanted = (columns[name].lower(),) if name in columns else usual
            found = next((heading for heading in wanted if heading in lower), None)
            if found is not None:
                at[name] = lower.index(found)
        if "image" in at and "caption" in at and at.keys() >= columns.keys():
            return _Layout(delimiter, headings, at)
    return None


def _without_heading(line: str) -> _Layout | None:
    for delimiter in DELIMITERS:
        cells = _try_split(line, delimiter)
        if len(cells) > 1 and Path(cells[0].value.strip()).suffix.lower() in SUFFIXES:
            return _Layout(delimiter, ("image", "caption"), {"image": 0, "caption": 1})
    return None


def _try_split(line: str, delimiter: str) -> list[Cell]:
    try:
        return split_cells(line, delimiter) or []
    except ValueError:
        return []


def _fit(cells: Sequence[Cell], layout: _Layout) -> tuple[list[str] | None, bool]:
    """As many values as there are headings, and whether the row was repaired; None if too few."""
    values = [cell.value for cell in cells]
    caption, surplus = layout.at["caption"], len(cells) - layout.width
    if surplus == 0:
        return values, False
    if surplus > 0:  # an unquoted caption with delimiters in it
        end = caption + surplus + 1
        others = [*cells[: caption + 1], *cells[end:]]
        if any(cell.quoted for cell in others):
            return None, False
        joined = layout.delimiter.join(cell.raw for cell in cells[caption:end])
        return [*values[:caption], joined, *values[end:]], False
    number = layout.at.get("number")
    if surplus == -1 and number is not None and number + 1 == caption:
        both = re.fullmatch(r"\s*([0-9]+)\s+(\S.*)", values[number])
        if both:
            return [*values[:number], both[1], both[2], *values[number + 1 :]], True
    return None, False


def _no_heading(line: str, columns: Mapping[str, str]) -> str:
    if columns:
        wanted = ", ".join(f"{name}={title}" for name, title in columns.items())
        return f"the heading {shown(line)} has not the columns of data.columns ({wanted})"
    return (
        f"must be a heading with a column of photos and one of captions, as image,caption, "
        f"not {shown(line)}; name the columns with data.columns"
    )

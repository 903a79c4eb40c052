"""Caption tables: one row per caption or per photo, with columns identified by their headings.

The delimiter is the first of tab, bar, semicolon and comma for which the heading has a column of
photos and a column of captions. Other columns (an index, a caption number, licences) are ignored,
except for a split. A table without a heading is accepted if its first cell is a photo's name; then
the first column holds photos and the second captions.

Rows are parsed leniently, because carelessly written tables are common:

- A cell that does not begin with a quote is read literally, including quotes.
- In a row with too many cells, the surplus belongs to the caption, including delimiters.
- A quoted cell may span several lines. If its quote is never closed, only that row is invalid.
- A caption number and a caption in one cell are separated (Flickr30k's `results.csv` has one such
  row).
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
"""Accepted headings of each column, in lower case. The first one present is used."""

NAMEABLE = ("image", "caption", "split")
"""Columns whose heading `data.columns` can set."""

_MAX_LINES = 20  # of one quoted cell
_QUOTED = re.compile(r'\s*"((?:[^"]|"")*)"[^\S\t]*')


@dataclass(frozen=True)
class Row:
    """One caption of a table.

    Attributes:
        place: Location in the file.
        image: Name of the photo.
        caption: The caption, unchecked.
        split: The split, unchecked; None without such a column.
        error: Why the photo has no caption, in tables written by `captioner caption`.
    """

    place: str
    image: str
    caption: str
    split: str | None = None
    error: str = ""


class Cell(NamedTuple):
    """One cell of a row: its raw text, its value, and whether it is quoted."""

    raw: str
    value: str
    quoted: bool = False


@dataclass(frozen=True)
class _Layout:
    """The layout of a table: delimiter, headings and the index of each column."""

    delimiter: str
    headings: tuple[str, ...]
    at: Mapping[str, int]

    @property
    def width(self) -> int:
        """Number of cells per row."""
        return len(self.headings)

    def fault(self, line: str) -> str:
        """Return the error message for a line that is not a row."""
        plain = self.delimiter.join(self.headings)
        caption = self.headings[self.at["caption"]]
        quoted = self.delimiter.join(
            f'"{heading}"' if heading == caption else heading for heading in self.headings
        )
        return f"expected {plain} or {quoted} with inner quotes doubled, not {shown(line)}"


def parse_columns(text: str | None) -> dict[str, str]:
    """Parse the setting `data.columns`, such as `image=photo, caption=title, split=part`.

    Raises:
        UsageError: The text does not have this form.

    Example:
        >>> parse_columns("image = Photo, caption=Title")
        {'image': 'Photo', 'caption': 'Title'}
    """
    named: dict[str, str] = {}
    for part in text.split(",") if text else []:
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not (equals and ours and theirs):
            raise UsageError(
                f"data.columns: {shown(part)}; expected image=HEADING, caption=HEADING or "
                "split=HEADING"
            )
        if ours not in NAMEABLE:
            raise UsageError(f"data.columns: unknown {shown(ours)}; {suggestion(ours, NAMEABLE)}")
        named[ours] = theirs
    return named


def has_heading(line: str, columns: Mapping[str, str] | None = None) -> bool:
    """Return whether the first line of a file is the heading of a caption table."""
    return _from_heading(line, columns or {}) is not None


def is_table(file: Path, columns: Mapping[str, str] | None = None) -> bool:
    """Return whether a file begins like a caption table.

    Raises:
        CaptionerError: It cannot be read.
    """
    _, first = next(Collector().lines(file), ("", ""))
    layout = _from_heading(first, columns or {})
    return layout is not None or (not columns and _without_heading(first) is not None)


def read_table(
    collector: Collector, file: Path, columns: Mapping[str, str] | None = None
) -> Iterator[Row]:
    """Yield the rows of a table in order, and report invalid lines to the collector.

    Args:
        collector: Collects problems and notes.
        file: The table.
        columns: Custom headings, as returned by `parse_columns`.

    Raises:
        UsageError: There is no such file.
        CaptionerError: It is empty, or its first line is neither a heading nor a row.
    """
    lines = list(collector.lines(file))
    if not lines:
        raise CaptionerError(f"{file}: no captions")
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
        collector.note(f"{file}: {rows} repaired: no delimiter after the caption number")


def split_cells(line: str, delimiter: str) -> list[Cell] | None:
    r"""Split a row into cells. Return None if a quoted cell is not closed.

    Raises:
        ValueError: There is text after a closing quote.

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
                raise ValueError("text after a closing quote")
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
    """Yield the location and cells of each row; quoted cells may span several lines."""
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
    """Fit cells to the headings; return the values (None if too few) and whether repaired."""
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
        return f"the heading {shown(line)} lacks columns of data.columns ({wanted})"
    return (
        f"expected a heading with a column of photos and one of captions, such as image,caption, "
        f"not {shown(line)}; set their names with data.columns"
    )

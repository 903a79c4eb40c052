"""Draw one picture of photos, each with its generated caption below.

The photos are named on the command line, or are a checkpoint's held-out photos with references:

    python scripts/contact_sheet.py photo.jpg holiday/ --output s.png
    python scripts/contact_sheet.py --checkpoint runs/shapes/checkpoints/best.ckpt --output s.png

Prints each photo's caption. The exit code is 1 if a photo could not be read.
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageDraw, ImageFont

from captioner.build import read_records
from captioner.datasets.records import by_split
from captioner.display import one_line
from captioner.errors import CaptionerError
from captioner.inference.predictor import Predictor
from captioner.photos.decode import read_photo
from captioner.photos.folders import is_shard
from captioner.photos.inputs import expand

T = TypeVar("T")

CELL = 300
"""Column width in pixels."""
PHOTO = 200
"""Longer side of a photo in pixels."""
MARGIN = 14
LINE = 17
INK, GREY, PAPER = (20, 20, 30), (130, 130, 140), (255, 255, 255)


@dataclass(frozen=True)
class Cell:
    """Content of one cell: a photo, its caption or why there is none, and references."""

    path: Path
    caption: str
    references: Sequence[str] = ()
    is_readable: bool = True


def draw_cell(shown: Cell) -> Image.Image:
    """Draw one photo with its caption in black and its references in grey below."""
    bold, plain = ImageFont.load_default(15), ImageFont.load_default(12)
    lines = [(line, bold, INK) for line in textwrap.wrap(shown.caption, 36)]
    for reference in shown.references:
        wrapped = textwrap.wrap(reference, 46, initial_indent="· ", subsequent_indent="  ")
        lines += [(line, plain, GREY) for line in wrapped]
    cell = Image.new("RGB", (CELL, PHOTO + 2 * MARGIN + LINE * len(lines)), PAPER)
    if shown.is_readable:
        photo = read_photo(shown.path)
        scale = PHOTO / max(photo.size)
        size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
        cell.paste(photo.resize(size, Image.Resampling.LANCZOS), (MARGIN, MARGIN))
    draw = ImageDraw.Draw(cell)
    for i, (line, font, colour) in enumerate(lines):
        draw.text((MARGIN, PHOTO + MARGIN + 6 + i * LINE), line, fill=colour, font=font)
    return cell


def draw_sheet(shown: Sequence[Cell], columns: int) -> Image.Image:
    """Draw all photos, row by row; a row is as high as its highest cell."""
    cells = [draw_cell(cell) for cell in shown]
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    sheet = Image.new("RGB", (CELL * min(columns, len(cells)), sum(heights) + MARGIN), PAPER)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            sheet.paste(cell, (column * CELL, top))
        top += height
    return sheet


def spread(found: Sequence[T], count: int) -> Sequence[T]:
    """Return at most `count` items, spread evenly, so that the sheet shows more than the best."""
    return found[:: max(1, -(-len(found) // count))]


def named_cells(predictor: Predictor, names: Sequence[str], count: int) -> list[Cell]:
    """Caption the named photos and return their cells; tars are left out.

    Raises:
        CaptionerError: There is no photo.
    """
    named = [found for found in expand(names) if not is_shard(found.path.name)]
    if not named:
        raise CaptionerError(f"no photo in {', '.join(names)}")
    shown = spread(named, count)
    if len(shown) < len(named):
        print(f"contact_sheet: {len(shown)} of {len(named)} photos are shown", file=sys.stderr)
    return [
        Cell(found.path, found.caption or f"({found.error})", is_readable=found.error is None)
        for found in predictor.caption(one.source() for one in shown)
    ]


def held_out_cells(predictor: Predictor, options: argparse.Namespace) -> list[Cell]:
    """Caption photos of a split and return their cells, with references.

    Raises:
        CaptionerError: The split is empty.
    """
    data = predictor.trained.config.data
    if options.root:
        data = replace(data, root=options.root)
    records = by_split(read_records(data).records, options.split)
    if not records:
        raise CaptionerError(f"{data.root}: the {options.split} split is empty")
    shown = spread(records, options.count)
    found = predictor.caption(record.path for record in shown)
    return [
        Cell(
            record.path,
            one.caption or f"({one.error})",
            record.captions[: options.references],
            one.error is None,
        )
        for record, one in zip(shown, found, strict=True)
    ]


def main() -> int:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("paths", nargs="*", help="photos and folders; default: held-out photos")
    parser.add_argument("--checkpoint", help="default: the pretrained captioner")
    parser.add_argument("--output", required=True, help=".png or .jpg file")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--root", help="data.root; default: the checkpoint's")
    parser.add_argument("--count", type=int, default=12, help="maximum of photos; default: 12")
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--references", type=int, default=3, help="per photo; default: 3")
    options = parser.parse_args()
    try:
        checkpoint = [] if options.checkpoint is None else [options.checkpoint]
        predictor = Predictor.load(*checkpoint)
        if options.paths:
            cells = named_cells(predictor, options.paths, options.count)
        else:
            cells = held_out_cells(predictor, options)
    except CaptionerError as error:
        print(f"contact_sheet: {error}", file=sys.stderr)
        return error.exit_code
    output = Path(options.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    draw_sheet(cells, options.columns).save(output)
    for cell in cells:
        print(f"{one_line(cell.path.name)}\t{one_line(cell.caption)}")
    return 0 if all(cell.is_readable for cell in cells) else 1


if __name__ == "__main__":
    sys.exit(main())

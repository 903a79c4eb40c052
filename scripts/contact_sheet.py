"""Draw one picture of held-out photos, each with the caption written for it and its references.

python scripts/contact_sheet.py --checkpoint runs/shapes/checkpoints/best.ckpt --output sheet.png
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from captioner.build import read_records
from captioner.datasets.records import Record, by_split
from captioner.errors import CaptionerError
from captioner.inference.predictor import Predictor
from captioner.photos.decode import read_photo

CELL = 300
"""Pixels of a column's width."""
PHOTO = 200
"""Pixels of a photo's longer side."""
MARGIN = 14
LINE = 17
INK, GREY, PAPER = (20, 20, 30), (130, 130, 140), (255, 255, 255)


def draw_cell(record: Record, caption: str, references: int) -> Image.Image:
    """One photo with its caption in black and its references in grey below."""
    bold, plain = ImageFont.load_default(15), ImageFont.load_default(12)
    lines = [(line, bold, INK) for line in textwrap.wrap(caption, 36)]
    for reference in record.captions[:references]:
        wrapped = textwrap.wrap(reference, 46, initial_indent="· ", subsequent_indent="  ")
        lines += [(line, plain, GREY) for line in wrapped]
    cell = Image.new("RGB", (CELL, PHOTO + 2 * MARGIN + LINE * len(lines)), PAPER)
    photo = read_photo(record.path)
    scale = PHOTO / max(photo.size)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    cell.paste(photo.resize(size, Image.Resampling.LANCZOS), (MARGIN, MARGIN))
    draw = ImageDraw.Draw(cell)
    for i, (line, font, colour) in enumerate(lines):
        draw.text((MARGIN, PHOTO + MARGIN + 6 + i * LINE), line, fill=colour, font=font)
    return cell


def draw_sheet(
    records: Sequence[Record], captions: Sequence[str], columns: int, references: int
) -> Image.Image:
    """All photos, row by row; a row is as high as its highest cell."""
    cells = [
        draw_cell(record, caption, references)
        for record, caption in zip(records, captions, strict=True)
    ]
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    sheet = Image.new("RGB", (CELL * columns, sum(heights) + MARGIN), PAPER)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            sheet.paste(cell, (column * CELL, top))
        top += height
    return sheet


def main() -> int:
    """Draw the sheet that the arguments ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--output", required=True, help="a .png or .jpg file")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--root", help="data.root, if not the checkpoint's")
    parser.add_argument("--count", type=int, default=12, help="photos shown")
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--references", type=int, default=3, help="references shown a photo")
    options = parser.parse_args()
    try:
        predictor = Predictor.load(options.checkpoint)
        data = predictor.trained.config.data
        if options.root:
            data = replace(data, root=options.root)
        records = by_split(read_records(data).records, options.split)
        if not records:
            raise CaptionerError(f"{data.root}: the {options.split} split is empty")
        # Evenly spread over the split, so that the sheet is no choice of the best.
        stride = max(1, len(records) // options.count)
        shown = records[::stride][: options.count]
        captions = [
            found.caption or f"({found.error})"
            for found in predictor.caption(record.path for record in shown)
        ]
    except CaptionerError as error:
        print(f"contact_sheet: {error}", file=sys.stderr)
        return error.exit_code
    draw_sheet(shown, captions, options.columns, options.references).save(Path(options.output))
    for record, caption in zip(shown, captions, strict=True):
        print(f"{record.path.name}\t{caption}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

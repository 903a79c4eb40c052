"""Draw attention on a photo: one panel per word, with the photo lit where the word attends.

The weights of a word are one number per region. Where the regions are cells of a grid, bicubic
interpolation enlarges them to the part of the photo that the grid covers. The centre of a cell lies
on the centre of its part of the photo, whether the photo was cropped or squashed for the network.
Where a detector found the regions, the weights of boxes that overlap add up. Every panel greys what
the network does not see (the edges of a cropped photo).
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from captioner.display import one_line
from captioner.errors import CaptionerError
from captioner.inference.result import AttentionMap, Candidate, PhotoCaptions
from captioner.photos.transform import Box

PANEL = 260
"""Longest side of a panel's picture, in pixels."""

_COLUMNS = 6
"""Maximum number of panels per row."""

_MARGIN, _TEXT = 12, 44
"""Pixels around panels, and height of the two text lines above each."""

_INK, _PALE, _PAPER = (32, 33, 36), (110, 114, 120), (255, 255, 255)
_GLOW = (255, 214, 64)
"""Colour of the light where a word attends most."""

_DARKEST = 0.3
"""Brightness of the photo where a word does not attend."""

_RESTING = 0.95
"""Where the sentinel of every word has more than this, the figure says why its panels are dark."""

_LONGEST_TITLE = 300
"""Maximum number of characters of a caption above its panels."""


@dataclass(frozen=True)
class Fonts:
    """Fonts of a figure: DejaVu, which comes with matplotlib and covers most alphabets."""

    title: ImageFont.FreeTypeFont
    word: ImageFont.FreeTypeFont
    small: ImageFont.FreeTypeFont

    @classmethod
    def load(cls) -> "Fonts":
        """Read the font files."""
        import matplotlib

        folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
        plain, bold = str(folder / "DejaVuSans.ttf"), str(folder / "DejaVuSans-Bold.ttf")
        return cls(
            title=ImageFont.truetype(plain, 18),
            word=ImageFont.truetype(bold, 15),
            small=ImageFont.truetype(plain, 12),
        )


def weight_map(
    weights: np.ndarray, grid: tuple[int, int], box: Box, size: tuple[int, int]
) -> np.ndarray:
    """Enlarge the attention weights of one word to the pixels of a photo.

    Args:
        weights: Weights (R,) of the regions, row by row.
        grid: Rows and columns of the regions.
        box: Part of the photo that the grid covers: left, top, right, bottom, in pixels.
        size: Width and height of the photo in pixels.

    Returns:
        (height, width) float32, non-negative: a cell's weight at its centre, 0 outside the box.
    """
    width, height = size
    rows, columns = grid
    left, top, right, bottom = (
        round(min(max(edge, 0.0), most))
        for edge, most in zip(box, (width, height, width, height), strict=True)
    )
    cells = np.asarray(weights, np.float32).reshape(rows, columns)
    part = (max(right - left, 1), max(bottom - top, 1))
    # Cells beyond the edge repeat those at the edge; Pillow would extrapolate.
    padded = Image.fromarray(np.pad(cells, 2, mode="edge"))
    inner = (2, 2, 2 + columns, 2 + rows)
    enlarged = np.asarray(padded.resize(part, Image.Resampling.BICUBIC, box=inner))
    whole = np.zeros((height, width), np.float32)
    # A photo may be thinner than one pixel of the box.
    inside = whole[top : top + part[1], left : left + part[0]]
    inside[:] = enlarged[: inside.shape[0], : inside.shape[1]].clip(0)
    return whole


def box_map(weights: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draw the attention weights of one word to a detector's boxes.

    Args:
        weights: Weights (R,) of the regions.
        boxes: Left, top, right and bottom edge of each region in pixels (R, 4).
        size: Width and height of the photo in pixels.

    Returns:
        (height, width) float32: at each pixel the sum of the weights of all boxes there.
    """
    width, height = size
    whole = np.zeros((height, width), np.float32)
    edges = np.clip(boxes, 0, [width, height, width, height]).round().astype(int)
    for weight, (left, top, right, bottom) in zip(weights.tolist(), edges.tolist(), strict=True):
        # A box may be thinner than one pixel of a small photo.
        left, top = min(left, width - 1), min(top, height - 1)
        whole[top : max(bottom, top + 1), left : max(right, left + 1)] += weight
    return whole


def attention_figure(
    captioned: PhotoCaptions, *, captions: int = 1, fonts: Fonts | None = None
) -> bytes:
    """Draw the attention of the words of a photo's captions.

    Args:
        captioned: A photo with captions, their attention and a preview.
        captions: Number of captions to draw, best first.
        fonts: Loaded fonts, to share them among many figures; None loads them.

    Returns:
        A PNG file.

    Raises:
        CaptionerError: The attention has no position on the photo, as in an ensemble whose members
            see different parts of it.
    """
    attention, preview = captioned.attention, captioned.preview
    if attention is None or preview is None:
        raise CaptionerError("a figure needs attention and a preview of the photo")
    if attention.size is None or (attention.box is None and attention.boxes is None):
        raise CaptionerError(
            "attention cannot be drawn: the checkpoints see different parts of the photo, or the "
            "region files hold no boxes; give one checkpoint, or files with boxes"
        )
    fonts = fonts or Fonts.load()
    photo = fitted(Image.fromarray(preview), PANEL)
    (width, height), (own_width, own_height) = photo.size, attention.size
    x, y = width / own_width, height / own_height
    box = scaled(attention.box or (0, 0, own_width, own_height), x, y)
    boxes = None if attention.boxes is None else attention.boxes * [x, y, x, y]

    def spread(weights: np.ndarray) -> np.ndarray:
        if boxes is not None:
            return box_map(weights, boxes, photo.size)
        return weight_map(weights, attention.grid, box, photo.size)

    shown = captioned.candidates[:captions]
    blocks = [
        _block(photo, candidate, attention, place, box, fonts, spread)
        for place, candidate in enumerate(shown)
    ]
    width = max(block.width for block in blocks)
    figure = Image.new("RGB", (width, sum(block.height for block in blocks)), _PAPER)
    top = 0
    for block in blocks:
        figure.paste(block, (0, top))
        top += block.height
    file = io.BytesIO()
    figure.save(file, "PNG")
    return file.getvalue()


def _block(
    photo: Image.Image,
    candidate: Candidate,
    attention: AttentionMap,
    place: int,
    box: Box,
    fonts: Fonts,
    spread: Callable[[np.ndarray], np.ndarray],
) -> Image.Image:
    """Draw one caption: its text, the photo, and a panel per word."""
    maps = [spread(weights) for weights in attention.weights[place, : len(candidate.words)]]
    panels = [_unlit(photo, box)]
    # One scale for all words of a caption: a word that attends only to its sentinel stays dark, and
    # uniform weights light the photo by about half.
    regions = attention.weights.shape[2]
    brightest = max([2 / regions, *(float(one.max()) for one in maps)])
    panels += [lit(photo, one, brightest) for one in maps]
    notes = [_Note("photo", "", None)]
    for i, word in enumerate(candidate.words):
        share = None if attention.sentinel is None else float(attention.sentinel[place, i])
        probability = np.exp(candidate.word_log_probs[i])
        notes.append(_Note(word, f"p {probability:.2f}", share))
    title = f"“{candidate.caption}”"
    shares = [note.sentinel for note in notes if note.sentinel is not None]
    if shares and min(shares) > _RESTING:
        title += " — every word looks at its sentinel, hardly any at the photo"
    return _laid_out(panels, notes, title, fonts)


@dataclass(frozen=True)
class _Note:
    """Text above a panel: a word, a remark, and the sentinel's weight if there is one."""

    word: str
    remark: str
    sentinel: float | None


def _laid_out(
    panels: Sequence[Image.Image], notes: Sequence[_Note], title: str, fonts: Fonts
) -> Image.Image:
    width, height = panels[0].size
    cell = max(width, 110)  # the words above a tall, narrow photo need space too
    columns = min(_COLUMNS, len(panels), max(2, 1600 // (cell + _MARGIN)))
    rows = -(-len(panels) // columns)
    across = columns * (cell + _MARGIN) + _MARGIN
    lines = _wrapped(title, fonts.title, across - 2 * _MARGIN)
    head = _MARGIN + 24 * len(lines) + 4
    figure = Image.new("RGB", (across, head + rows * (_TEXT + height + _MARGIN) + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(figure)
    for i, line in enumerate(lines):
        draw.text((_MARGIN, _MARGIN + 24 * i), line, _INK, fonts.title)
    for i, (panel, note) in enumerate(zip(panels, notes, strict=True)):
        left = _MARGIN + i % columns * (cell + _MARGIN)
        top = head + i // columns * (_TEXT + height + _MARGIN)
        _annotate(draw, note, left, top, cell, fonts)
        figure.paste(panel, (left, top + _TEXT))
    return figure


def _annotate(
    draw: ImageDraw.ImageDraw, note: _Note, left: int, top: int, width: int, fonts: Fonts
) -> None:
    """Draw the lines above a panel; the sentinel's weight as a number and a bar."""
    draw.text((left, top), _fitting(one_line(note.word), fonts.word, width), _INK, fonts.word)
    line = top + 22
    draw.text((left, line), note.remark, _PALE, fonts.small)
    if note.sentinel is None:
        return
    text = f"sentinel {note.sentinel:.2f}"
    start = left + width - int(fonts.small.getlength(text))
    draw.text((start, line), text, _PALE, fonts.small)
    bar = (start, line + 17, left + width - 1, line + 19)
    draw.rectangle(bar, (226, 228, 231))
    filled = start + round((bar[2] - start) * min(max(note.sentinel, 0.0), 1.0))
    if filled > start:
        draw.rectangle((start, bar[1], filled, bar[3]), (60, 99, 180))


def fitted(photo: Image.Image, side: int) -> Image.Image:
    """Resize a photo to a long side in pixels; its short side keeps at least one."""
    scale = side / max(photo.size)
    width, height = (max(1, round(edge * scale)) for edge in photo.size)
    return photo.resize((width, height), Image.Resampling.LANCZOS)


def lit(photo: Image.Image, weights: np.ndarray, brightest: float) -> Image.Image:
    """Return the photo in a warm light where a word attends, dark and grey elsewhere.

    Args:
        photo: The photo, (height, width) pixels.
        weights: Weights (height, width), as from `weight_map`.
        brightest: Weight of full light.
    """
    light = ((weights / brightest).clip(0, 1) ** 0.8)[..., None]  # keeps half a weight visible
    pixels = np.asarray(photo, np.float32)
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    dark = _DARKEST * (0.7 * grey[..., None] + 0.3 * pixels)
    glowing = 0.7 * pixels + 0.3 * np.array(_GLOW, np.float32)
    return Image.fromarray((dark * (1 - light) + glowing * light).round().astype(np.uint8))


def _unlit(photo: Image.Image, box: Box) -> Image.Image:
    """Return the photo, greyed where the network does not see it."""
    pixels = np.asarray(photo, np.float32)
    seen = np.zeros(pixels.shape[:2], bool)
    left, top, right, bottom = (round(edge) for edge in box)
    seen[max(top, 0) : max(bottom, 1), max(left, 0) : max(right, 1)] = True
    grey = pixels.mean(2, keepdims=True) * 0.45 + 255 * 0.55
    return Image.fromarray(np.where(seen[..., None], pixels, grey).round().astype(np.uint8))


def scaled(box: Box, x: float, y: float) -> Box:
    """A box in pixels of a photo that was made so many times as wide and as high."""
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Wrap a text into lines of a width; truncate a very long text."""
    text = one_line(text)
    if len(text) > _LONGEST_TITLE:
        text = text[:_LONGEST_TITLE] + "…"
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and font.getlength(longer) > width:
            lines.append(_fitting(word, font, width))
        else:
            lines[-1] = _fitting(longer, font, width)
    return lines


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Truncate a text to a width."""
    if len(text) <= 4096 and font.getlength(text) <= width:
        return text
    kept = text[:200]
    while kept and font.getlength(kept + "…") > width:
        kept = kept[:-1]
    return kept + "…"

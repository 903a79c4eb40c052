"""Files of figures in a folder: a name for each photo, and the photo's path inside the file.

A figure is called like its photo. Where another photo of that name has its figure there already,
a digest of the path tells them apart; the path that a PNG carries says whose figure it is, so that
a rerun replaces its own figures and no others.
"""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from captioner.analysis.attention_figure import Fonts, attention_figure
from captioner.display import one_line
from captioner.errors import CaptionerError
from captioner.files.atomic import write_whole
from captioner.inference.result import PhotoCaptions

ATTENTION = ".attention.png"
"""How the name of a figure of attention ends."""

_PHOTO = "Photo"
"""The text in a PNG that holds the path of its photo."""

_LONGEST = 160
"""Bytes of a photo's name that its figure's name repeats; file systems allow 255 in all."""


def make_folder(folder: Path) -> None:
    """Make a folder for figures, and those above it.

    Raises:
        CaptionerError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CaptionerError(f"{folder}: cannot be made: {error.strerror or error}") from error


def figure_path(folder: Path, photo: Path, ending: str) -> Path:
    """Where the figure of a photo belongs.

    Args:
        folder: of the figures.
        photo: its path, as it was named.
        ending: of the figure's name, `.png` last.
    """
    name = os.fsdecode(os.fsencode(photo.name)[:_LONGEST]).replace("\0", "_") or "photo"
    path = folder / f"{name}{ending}"
    if not path.exists() or _photo_of(path) == one_line(str(photo)):
        return path
    digest = hashlib.blake2b(os.fsencode(str(photo)), digest_size=4).hexdigest()
    return folder / f"{name}-{digest}{ending}"


def write_figure(path: Path, picture: bytes, photo: Path) -> None:
    """Write a PNG with the path of its photo inside.

    Raises:
        CaptionerError: it cannot be written.
    """
    info = PngInfo()
    info.add_itxt(_PHOTO, one_line(str(photo)))
    file = io.BytesIO()
    with Image.open(io.BytesIO(picture), formats=["PNG"]) as image:
        image.save(file, "PNG", pnginfo=info)
    write_whole(path, file.getvalue())


def draw_all(
    captioned: Iterable[PhotoCaptions], folder: Path, *, keep: bool = True
) -> Iterator[PhotoCaptions]:
    """Draw the attention of each photo's captions, and hand the photo on once that is written.

    Args:
        captioned: photos with attention and previews; those without a caption get no figure.
        folder: of the figures; made where it is missing.
        keep: whether what is handed on still holds the attention.

    Raises:
        CaptionerError: a figure cannot be drawn or written.
    """
    make_folder(folder)
    fonts = Fonts.load()
    for one in captioned:
        if one.error is None:
            figure = attention_figure(one, captions=len(one.candidates), fonts=fonts)
            write_figure(figure_path(folder, one.path, ATTENTION), figure, one.path)
        yield one if keep else replace(one, attention=None)


def _photo_of(figure: Path) -> str | None:
    """The path inside a figure; None where there is none to be read."""
    try:
        with Image.open(figure, formats=["PNG"]) as image:
            return image.info.get(_PHOTO)  # it stands before the pixels, which are not read
    except (OSError, ValueError, SyntaxError):
        return None

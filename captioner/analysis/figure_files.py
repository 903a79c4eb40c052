"""Write figures to a folder: one file name per photo, with the photo's path inside the file.

A figure is named like its photo. If another photo of that name has a figure there, a digest of the
path distinguishes them. The path inside a PNG identifies its photo, so that a rerun replaces only
its own figures.
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
"""Suffix of an attention figure's file name."""

_PHOTO = "Photo"
"""PNG text field that holds the path of the photo."""

_LONGEST = 160
"""Bytes of a photo's name to repeat in the figure's name; file systems allow 255 in total."""


def make_folder(folder: Path) -> None:
    """Create a folder for figures, with its parents.

    Raises:
        CaptionerError: The folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CaptionerError(f"{folder}: cannot be created: {error.strerror or error}") from error


def figure_path(folder: Path, photo: Path, ending: str) -> Path:
    """Return the path of a photo's figure.

    Args:
        folder: Folder of the figures.
        photo: Path of the photo, as given by the user.
        ending: End of the file name, including `.png`.
    """
    name = os.fsdecode(os.fsencode(photo.name)[:_LONGEST]).replace("\0", "_") or "photo"
    path = folder / f"{name}{ending}"
    if not path.exists() or _photo_of(path) == one_line(str(photo)):
        return path
    digest = hashlib.blake2b(os.fsencode(str(photo)), digest_size=4).hexdigest()
    return folder / f"{name}-{digest}{ending}"


def write_figure(path: Path, picture: bytes, photo: Path) -> None:
    """Write a PNG that contains the path of its photo.

    Raises:
        CaptionerError: The file cannot be written.
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
    """Draw the attention of each photo's captions, and yield each photo once its figure is written.

    Args:
        captioned: Photos with attention and previews; those without a caption get no figure.
        folder: Folder of the figures; created if missing.
        keep: Whether the yielded photos keep their attention.

    Raises:
        CaptionerError: A figure cannot be drawn or written.
    """
    make_folder(folder)
    fonts = Fonts.load()
    for one in captioned:
        if one.error is None:
            figure = attention_figure(one, captions=len(one.candidates), fonts=fonts)
            write_figure(figure_path(folder, one.path, ATTENTION), figure, one.path)
        yield one if keep else replace(one, attention=None)


def _photo_of(figure: Path) -> str | None:
    """Return the photo path in a figure; None if there is none or the file is unreadable."""
    try:
        with Image.open(figure, formats=["PNG"]) as image:
            return image.info.get(_PHOTO)  # it precedes the pixels, which are not read
    except (OSError, ValueError, SyntaxError):
        return None

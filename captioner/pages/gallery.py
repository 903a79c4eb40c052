"""A gallery: one HTML file with the thumbnails and captions of many photos.

The page holds everything it shows, its thumbnails as `data:` addresses, so that it opens from disk
and can be sent to others. Control characters and marks that reorder text become visible escapes.
"""

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from PIL import Image

from captioner.console import warn
from captioner.display import one_line
from captioner.files.atomic import write_output
from captioner.inference.result import Candidate, PhotoCaptions
from captioner.pages.page import render
from captioner.photos.source import PhotoSource, Read, read_pixels

THUMBNAIL = 256
"""Longest side of a thumbnail, in pixels."""

MOST = 20_000
"""Photos of a page at most: they are some 12 KB each, and a browser opens all of them at once."""

_QUALITY = 75
"""Of the thumbnails' JPEG."""


@dataclass(frozen=True)
class Entry:
    """A photo on the page.

    Attributes:
        path: where it lies.
        name: its file's name.
        captions: best first; none where there is an error.
        error: why there is no caption.
        thumbnail: a JPEG in base64; None where the photo could not be read.
        width: of the thumbnail, in pixels.
        height: of the thumbnail, in pixels.
    """

    path: str
    name: str
    captions: tuple[str, ...] = ()
    error: str | None = None
    thumbnail: str | None = None
    width: int = 0
    height: int = 0

    @classmethod
    def of(cls, captioned: PhotoCaptions) -> Self:
        """The entry of a photo that was captioned, with a preview, or could not be."""
        path, name = one_line(str(captioned.path)), one_line(captioned.path.name)
        if captioned.error is not None:
            return cls(path, name, error=one_line(captioned.error))
        captions = tuple(one_line(one.caption) or "(empty)" for one in captioned.candidates)
        if captioned.preview is None:
            return cls(path, name, captions)
        picture, (width, height) = _thumbnail(captioned.preview)
        return cls(path, name, captions, None, picture, width, height)


def gathered(captioned: Iterable[PhotoCaptions], page: str) -> Iterator[PhotoCaptions]:
    """Hand photos on, and write their gallery when the last one is through.

    Args:
        captioned: photos with previews.
        page: the file; where there is no photo at all it is not written.

    Raises:
        CaptionerError: the file cannot be written.
    """
    entries: list[Entry] = []
    left_out = 0
    for one in captioned:
        if len(entries) < MOST:
            entries.append(Entry.of(one))
        else:
            left_out += 1
        yield one
    if left_out:
        warn(f"{page}: a gallery holds {MOST:,} photos; {left_out:,} are left out of it")
    if entries:
        write_output(page, gallery(entries, left_out=left_out))


def gathered_from_records(
    captioned: Iterable[tuple[PhotoSource, Mapping[str, Any]]], page: str
) -> None:
    """Write the gallery of photos whose captions are in a file, by this run or an earlier one.

    Args:
        captioned: photos, and their records as `captioner.inference.writers` describes them; the
            photos are read again for their thumbnails.
        page: the file.

    Raises:
        CaptionerError: the file cannot be written.
    """
    for _ in gathered((_recorded(source, record) for source, record in captioned), page):
        pass


def _recorded(source: PhotoSource, record: Mapping[str, Any]) -> PhotoCaptions:
    """Return a record as captions with a preview; captions only, where the photo is gone."""
    error = record.get("error")
    if error is not None:
        return PhotoCaptions(source.path, error=str(error))
    texts = [one["caption"] for one in record.get("candidates", [record])]
    candidates = tuple(Candidate(text, 0.0, 0.0, (), ()) for text in texts)
    read = read_pixels(source, [], THUMBNAIL)
    preview = read.preview if isinstance(read, Read) else None
    return PhotoCaptions(source.path, candidates, preview=preview)


def gallery(entries: Sequence[Entry], *, title: str = "Captions", left_out: int = 0) -> str:
    """The page as HTML.

    Args:
        entries: the photos, in the order shown.
        title: of the page.
        left_out: photos that the page does not show.
    """
    return render(
        "gallery.html",
        styles=("page.css", "gallery.css"),
        scripts=("gallery.js",),
        entries=entries,
        errors=sum(entry.error is not None for entry in entries),
        left_out=left_out,
        title=title,
    )


def _thumbnail(preview: np.ndarray) -> tuple[str, tuple[int, int]]:
    picture = Image.fromarray(preview)
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return base64.b64encode(file.getvalue()).decode(), picture.size

"""Photos of a report: found by name, and copied as thumbnails."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from captioner.console import Progress
from captioner.datasets.records import ImageId
from captioner.evaluation.references import ImageNames
from captioner.photos.decode import open_photo
from captioner.photos.folders import Skipped, files_below
from captioner.photos.limits import PhotoError

_SIDES = ((1500, 320), (3000, 256))
"""Up to so many photos, thumbnails have this longest side, in pixels."""

_SMALLEST = 192
"""The longest side for more photos: 5,000 of them take some 25 MB."""

_QUALITY = 50
"""Quality of WebP, from 0 to 100."""


def find_photos(
    folder: Path, images: Collection[ImageId], names: Mapping[ImageId, str]
) -> dict[ImageId, Path]:
    """Find the photos of images in a folder and the folders below it.

    Args:
        folder: The folder.
        images: The images.
        names: File names of images, where known.
    """
    known = ImageNames(images, names)
    found: dict[ImageId, Path] = {}
    for one in files_below(folder, Skipped()):
        try:
            image = known.find(str(one.path.relative_to(folder)))
        except ValueError:  # several images have this name
            continue
        if image is not None:
            found.setdefault(image, one.path)
    return found


def thumbnail_side(count: int) -> int:
    """Return the longest side of thumbnails, in pixels, for so many photos."""
    return next((side for most, side in _SIDES if count <= most), _SMALLEST)


def write_thumbnails(
    photos: Sequence[Path | None], folder: Path
) -> Iterator[tuple[int, int] | str | None]:
    """Write a thumbnail per photo: `00000.webp` and so on.

    Yields:
        For each photo the width and height of its thumbnail, or why it cannot be read; None where
        no photo is given.
    """
    side = thumbnail_side(sum(photo is not None for photo in photos))

    def write(number: int) -> tuple[int, int] | str | None:
        photo = photos[number]
        if photo is None:
            return None
        try:
            with open_photo(photo) as picture:
                small = picture.copy()
        except PhotoError as error:
            return str(error)
        small.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
        small.save(folder / thumbnail_name(number), "WEBP", quality=_QUALITY, method=2)
        return small.size

    # Decoding and encoding release the GIL.
    with (
        ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool,
        Progress("thumbnails", len(photos)) as progress,
    ):
        for size in pool.map(write, range(len(photos))):
            progress.update()
            yield size


def thumbnail_name(number: int) -> str:
    """Return the file name of a thumbnail."""
    return f"{number:05}.webp"

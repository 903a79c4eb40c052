"""Region features of a detector: one `.npz` or `.npy` file per photo, read as untrusted.

A folder holds a file for each photo, named by its image id or its file name, with or without the
ending: `391895.npz`, `beach.jpg.npy`. In one folder below, `beach/1.npz` belongs to `beach/1.jpg`.

- `.npz`: `features`, `feat` or `x`, (R, F); optional `boxes` or `bbox`, (R, 4); optional size of
  the photo, `image_w` and `image_h` or `width` and `height`.
- `.npy`: the features alone, (R, F); (F,) is one region.
- A grid (rows, columns, F) is its cells, row by row.
- Without boxes in the file, those of a folder beside it are used: `NAME_box` beside `NAME_att`.

Letters: R regions of a photo, F feature size.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from captioner.errors import UsageError
from captioner.files.arrays import ArrayError, read_arrays
from captioner.photos.paths import SUFFIXES

FEATURES = ("features", "feat", "x")
BOXES = ("boxes", "bbox")
SIDES = (("image_w", "image_h"), ("width", "height"))

MAX_REGIONS = 4096
"""Maximum number of regions of a photo; detectors give 10 to 100, a grid of 14 x 14 has 196."""

MAX_VALUES = 2**24
"""Maximum numbers of a photo: 64 MiB as float32."""

_COCO = re.compile(r"(?:COCO_[a-z]+[0-9]+_)?([0-9]{12})")
"""File names of COCO, without the ending; they contain the image id."""


@dataclass(frozen=True)
class PhotoRegions:
    """Regions of one photo.

    Attributes:
        features: (R, F) float32, finite.
        boxes: left, top, right and bottom edge in pixels of the photo (R, 4) float32, if known.
        size: Width and height of the photo in pixels, if known.
    """

    features: np.ndarray
    boxes: np.ndarray | None = None
    size: tuple[int, int] | None = None


class RegionFolder:
    """A folder of region features.

    Args:
        folder: The folder.
        width: Numbers in a region's features, F; None accepts the first file's.

    Raises:
        UsageError: There is no such folder.
    """

    def __init__(self, folder: Path, width: int | None = None) -> None:
        if not folder.is_dir():
            raise UsageError(f"regions: no such folder: {folder}")
        self.folder = folder
        self.width = width
        self._names: dict[str, frozenset[str]] = {}
        self._boxes: Path | None = None
        if folder.name.endswith("_att"):
            beside = folder.with_name(folder.name.removesuffix("_att") + "_box")
            self._boxes = beside if beside.is_dir() else None

    def find(self, names: Sequence[str]) -> Path | None:
        """Return the first file that belongs to a photo of these names, if there is one."""
        paths = [self.folder / name for name in file_names(names)]
        listed = (path for path in paths if path.name in self._listed(str(path.parent)))
        # A file may have come since the folder was listed.
        return next(listed, None) or next((path for path in paths if path.is_file()), None)

    def _listed(self, folder: str) -> frozenset[str]:
        """List a folder once: 120,000 looks at a network disk would take minutes."""
        if folder not in self._names:
            try:
                with os.scandir(folder) as entries:
                    self._names[folder] = frozenset(entry.name for entry in entries)
            except OSError:
                self._names[folder] = frozenset()
        return self._names[folder]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_names": {}}  # a process that reads photos lists for itself

    def read(self, names: Sequence[str]) -> PhotoRegions:
        """Read the regions of a photo that has these names.

        Raises:
            ArrayError: There is no file, it is damaged, or it does not hold region features of the
                expected width; one line that names the file.
        """
        path = self.find(names)
        if path is None:
            stem = next(file_names(names[-1:]), f"{names[0]}.npz")
            raise ArrayError(f"{self.folder}: no region file for {names[0]}, such as {stem}")
        try:
            found = read_regions(path)
            boxes = self._boxes_of(path) if found.boxes is None else found.boxes
        except OSError as error:
            raise ArrayError(f"{path}: cannot be read: {error.strerror or error}") from error
        if self.width is None:
            self.width = found.features.shape[1]
        if found.features.shape[1] != self.width:
            raise ArrayError(
                f"{path}: regions of {found.features.shape[1]:,} numbers, not {self.width:,}"
            )
        if boxes is not None and len(boxes) != len(found.features):
            raise ArrayError(f"{path}: {len(found.features):,} regions, but {len(boxes):,} boxes")
        return PhotoRegions(found.features, boxes, found.size)

    def _boxes_of(self, path: Path) -> np.ndarray | None:
        """Read the boxes of a photo from the folder beside this one."""
        if self._boxes is None:
            return None
        file = self._boxes / path.relative_to(self.folder).with_suffix(".npy")
        if not file.is_file():
            return None
        (array,) = read_arrays(file, ("boxes",), MAX_VALUES).values()
        return checked_boxes(array, file)


def file_names(names: Sequence[str]) -> Iterator[str]:
    """Yield the names that the region file of a photo may have, relative to the folder.

    A name that leaves the folder is left out.

    Example:
        >>> list(file_names(["beach/1.jpg"]))
        ['beach/1.jpg.npz', 'beach/1.jpg.npy', 'beach/1.npz', 'beach/1.npy']
    """
    seen = set()
    for name in names:
        path = Path(name)
        if not name or path.anchor or ".." in path.parts or "\0" in name:
            continue
        stems = [name]
        if path.suffix.lower() in SUFFIXES:
            stems.append(str(path.with_suffix("")))
        coco = _COCO.fullmatch(path.stem)
        if coco is not None:
            stems.append(str(int(coco[1])))
        for stem in stems:
            if stem not in seen:
                seen.add(stem)
                yield f"{stem}.npz"
                yield f"{stem}.npy"


def names_of(path: Path, image_id: object = None) -> list[str]:
    """Return the names by which a photo's region file is looked for."""
    return [path.name] if image_id is None else [str(image_id), path.name]


def read_regions(path: Path) -> PhotoRegions:
    """Read a file of region features.

    Raises:
        ArrayError: It is damaged, or does not hold region features.
        OSError: It cannot be read.
    """
    wanted = (*FEATURES, *BOXES, *(name for pair in SIDES for name in pair))
    arrays = read_arrays(path, wanted, MAX_VALUES)
    features = next((arrays[name] for name in FEATURES if name in arrays), None)
    if features is None and len(arrays) == 1 and not set(arrays) & set(wanted):
        (features,) = arrays.values()
    if features is None:
        raise ArrayError(f"{path}: no array of features ({', '.join(FEATURES)})")
    boxes = next((arrays[name] for name in BOXES if name in arrays), None)
    return PhotoRegions(
        checked_features(features, path),
        None if boxes is None else checked_boxes(boxes, path),
        _size_of(arrays),
    )


def checked_features(array: np.ndarray, path: Path) -> np.ndarray:
    """Return features as (R, F) float32.

    Raises:
        ArrayError: They have another type or shape, or values that are not finite.
    """
    if array.dtype.kind != "f":
        raise ArrayError(f"{path}: features of type {array.dtype}, not float16, float32 or float64")
    if array.ndim == 1:
        array = array[None]
    if array.ndim == 3:
        array = array.reshape(-1, array.shape[2])
    if array.ndim != 2:
        raise ArrayError(f"{path}: features of shape {array.shape}, not (regions, numbers)")
    regions, width = array.shape
    if regions == 0 or width == 0:
        raise ArrayError(f"{path}: no region (its features have the shape {array.shape})")
    if regions > MAX_REGIONS:
        raise ArrayError(f"{path}: {regions:,} regions, more than the {MAX_REGIONS:,} allowed")
    with np.errstate(over="ignore"):
        features = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(features).all():
        raise ArrayError(f"{path}: features that are not finite numbers")
    return features


def checked_boxes(array: np.ndarray, path: Path) -> np.ndarray:
    """Return boxes as (R, 4) float32.

    Raises:
        ArrayError: They have another shape, or values that are not finite.
    """
    with np.errstate(over="ignore"):
        boxes = np.ascontiguousarray(array, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise ArrayError(f"{path}: boxes of shape {array.shape}, not (regions, 4) finite numbers")
    return boxes


def _size_of(arrays: dict[str, np.ndarray]) -> tuple[int, int] | None:
    for names in SIDES:
        sides = [arrays[name] for name in names if name in arrays]
        if len(sides) == 2 and all(side.size == 1 for side in sides):
            width, height = (float(side.reshape(())) for side in sides)
            if 1 <= width <= 2**20 and 1 <= height <= 2**20:
                return round(width), round(height)
    return None

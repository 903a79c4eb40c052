"""Photo preprocessing for an encoder: resize and crop to a square of 8-bit values."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from captioner.errors import UsageError, suggestion
from captioner.photos.decode import read_photo
from captioner.photos.jpeg import QUALITY

if TYPE_CHECKING:
    import torch

FITS = ("crop", "squash")
INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge of a region of a photo, in pixels."""

_JPEG_SIDE = 65_500
"""Longest side that libjpeg can write, in pixels."""

_ABOUT = 5
"""A JPEG whose quality is higher than wanted by at most this is not compressed again."""

_LONGEST = 8
"""Up to this aspect ratio, a photo is resized completely, bit-identical to torchvision."""


@dataclasses.dataclass(frozen=True)
class Transform:
    """The preprocessing of a photo up to 8-bit values; the encoder normalises them.

    Loader processes send 8-bit values to the encoder, a quarter of the bytes of floats. All fields
    are plain values, so that `asdict` can be stored in a checkpoint and in a feature store's key.

    Attributes:
        size: Side S of the output square, in pixels.
        resize: Short side before the crop, in pixels; not used by `squash`.
        fit: `crop` resizes the short side to `resize` and takes the centre S x S (the preprocessing
            of torchvision's ImageNet weights). `squash` resizes the whole photo to S x S, which
            changes its aspect ratio but keeps the edges. `squash` does not change an S x S photo.
        interpolation: `bilinear` or `bicubic`, both with anti-aliasing.
        detail: Short side in pixels to which larger photos are reduced first; None for no
            reduction. A network trained on photos enlarged to `size` has never seen finer detail
            and captions photos with it badly.
        quality: JPEG quality with which photos are compressed after reduction to `detail`; None
            for no compression. A network trained only on small compressed photos relies on JPEG
            artefacts and repeats words without them. JPEGs of `detail` x `detail` pixels and at
            most about this quality are not compressed again.

    Raises:
        UsageError: A value is out of range.

    Example:
        >>> from PIL import Image
        >>> Transform()(Image.new("RGB", (500, 375), "red"))[:, 0, 0]
        tensor([255,   0,   0], dtype=torch.uint8)
    """

    size: int = 224
    resize: int = 256
    fit: str = "crop"
    interpolation: str = "bilinear"
    detail: int | None = None
    quality: int | None = None

    def __post_init__(self) -> None:
        for name in ("size", "resize"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= 4096:
                raise UsageError(f"transform.{name}: {value!r} is not an integer from 1 to 4096")
        if self.detail is not None and (
            type(self.detail) is not int or not 1 <= self.detail <= 4096
        ):
            raise UsageError(
                f"transform.detail: {self.detail!r} is neither null nor an integer from 1 to 4096"
            )
        if self.quality is not None and (
            type(self.quality) is not int or not 1 <= self.quality <= 95 or self.detail is None
        ):
            raise UsageError(
                f"transform.quality: {self.quality!r} is neither null nor an integer from 1 to 95 "
                "beside transform.detail"
            )
        for name, choices in (("fit", FITS), ("interpolation", tuple(INTERPOLATIONS))):
            value = getattr(self, name)
            if value not in choices:
                raise UsageError(f"transform.{name}: {value!r} is not one of {', '.join(choices)}")
        if self.fit == "crop" and self.resize < self.size:
            raise UsageError(
                f"transform.resize: {self.resize} is smaller than transform.size, {self.size};"
                " a crop cannot be larger than the resized photo"
            )

    def __call__(self, photo: Image.Image) -> torch.Tensor:
        """Transform one photo.

        `crop` is bit-identical to torchvision's `Resize(resize, antialias=True)` and
        `CenterCrop(size)` on Pillow images for aspect ratios up to 8. Longer photos would become
        huge (4000 x 3 would be resized to 341,333 x 256), so only the cropped part is computed,
        with Pillow's `box`. There, values may differ by rounding and, for bicubic, by clipping
        between the two axes.

        Args:
            photo: A picture in mode `RGB`.

        Returns:
            (3, S, S) uint8, red, green and blue from 0 to 255.
        """
        import torch  # imported here, so that decoding processes do not load it

        return torch.from_numpy(self.array(photo))

    def array(self, photo: Image.Image) -> np.ndarray:
        """Transform one photo to a numpy array, (3, S, S) uint8."""
        if self.quality is not None and not self._is_compressed(photo):
            photo = self._compressed(self._reduced(photo), self.quality)
        else:
            photo = self._reduced(photo)
        square = self._squash(photo) if self.fit == "squash" else self._crop(photo)
        return np.asarray(square).transpose(2, 0, 1).copy()

    def load(self, path: Path) -> torch.Tensor:
        """Read and transform one photo file, (3, S, S) uint8.

        Raises:
            PhotoError: As in `captioner.photos.decode.read_photo`.
        """
        return self(read_photo(path))

    def detail_for(self, sizes: Sequence[tuple[int, int]]) -> int | None:
        """Return the detail of training photos if most of them must be enlarged, otherwise None.

        Args:
            sizes: Width and height of some training photos, in pixels.

        Returns:
            The median of their short sides; for `squash`, of the square roots of their areas.
        """
        if 2 * sum(self.enlarges(*size) for size in sizes) <= len(sizes):
            return None
        if self.fit == "squash":
            sides = [math.isqrt(width * height) for width, height in sizes]
        else:
            sides = [min(size) for size in sizes]
        return max(1, sorted(sides)[len(sides) // 2])

    def enlarges(self, width: int, height: int) -> bool:
        """Return whether a photo of this size in pixels is enlarged, which adds no detail."""
        if self.fit == "squash":
            return width * height < self.size**2
        return min(width, height) < self.resize

    def box(self, width: int, height: int) -> Box:
        """Return the region of an upright photo that becomes the square.

        A regular grid over the square, such as an attention map, is a regular grid over this box.

        Args:
            width: Width of the photo, in pixels.
            height: Height of the photo, in pixels.

        Example:
            >>> Transform(size=224, resize=256).box(512, 1024)
            (32.0, 288.0, 480.0, 736.0)
        """
        if self.fit == "squash":
            return 0.0, 0.0, float(width), float(height)
        reduced = self._reduced_size(width, height)
        resized, left, top = self._place_of_crop(*reduced)
        x, y = width / resized[0], height / resized[1]
        return left * x, top * y, (left + self.size) * x, (top + self.size) * y

    def asdict(self) -> dict[str, int | str]:
        """Return the values by name, for a checkpoint or key; omit `detail`, `quality` if None."""
        values = dataclasses.asdict(self)
        for name in ("detail", "quality"):
            if values[name] is None:  # as in stores and checkpoints made before them
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Transform:
        """Undo `asdict`; missing names take their defaults.

        Raises:
            UsageError: A name is unknown, or a value is out of range.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                raise UsageError(f"transform.{name}: no such setting; {suggestion(name, names)}")
        return cls(**values)

    def _reduced(self, photo: Image.Image) -> Image.Image:
        """Reduce the short side of a larger photo to `detail` pixels."""
        size = self._reduced_size(*photo.size)
        if size == photo.size:
            return photo
        return photo.resize(size, INTERPOLATIONS[self.interpolation])

    def _reduced_size(self, width: int, height: int) -> tuple[int, int]:
        short = min(width, height)
        if self.detail is not None and self.quality is not None and self.fit == "squash":
            # A side alone too: what is compressed must be as small as the training photos were.
            return min(width, self.detail), min(height, self.detail)
        if self.detail is None or short <= self.detail:
            return width, height
        if self.fit == "squash":
            return self.detail, self.detail
        width, height = (max(1, round(side * self.detail / short)) for side in (width, height))
        return width, height

    def _is_compressed(self, photo: Image.Image) -> bool:
        """Return whether a photo is like those of training: small, and decoded from such a JPEG."""
        found = photo.info.get(QUALITY)
        return (
            photo.size == (self.detail, self.detail)
            and self.quality is not None
            and found is not None
            and found <= self.quality + _ABOUT
        )

    def _compressed(self, photo: Image.Image, quality: int) -> Image.Image:
        """Compress as JPEG."""
        if max(photo.size) > _JPEG_SIDE:  # too long for libjpeg; it is cropped or squashed next
            return photo
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=quality)
        return Image.open(file).convert("RGB")

    def _squash(self, photo: Image.Image) -> Image.Image:
        if photo.size == (self.size, self.size):
            return photo
        return photo.resize((self.size, self.size), INTERPOLATIONS[self.interpolation])

    def _crop(self, photo: Image.Image) -> Image.Image:
        width, height = photo.size
        resized, left, top = self._place_of_crop(width, height)
        right, bottom = left + self.size, top + self.size
        method = INTERPOLATIONS[self.interpolation]
        if max(width, height) <= _LONGEST * min(width, height):
            return photo.resize(resized, method).crop((left, top, right, bottom))
        x, y = width / resized[0], height / resized[1]
        box = (left * x, top * y, right * x, bottom * y)
        return photo.resize((self.size, self.size), method, box=box)

    def _place_of_crop(self, width: int, height: int) -> tuple[tuple[int, int], int, int]:
        """Return the size to resize a photo to, and the left and top edge of the crop."""
        short, long = min(width, height), max(width, height)
        # torchvision's rounding: truncate the long side, round the corner of the crop.
        resized_long = int(self.resize * long / short)
        resized = (self.resize, resized_long) if width <= height else (resized_long, self.resize)
        left = round((resized[0] - self.size) / 2)
        top = round((resized[1] - self.size) / 2)
        return resized, left, top

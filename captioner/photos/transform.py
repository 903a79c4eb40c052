"""The step between a photo and an encoder: resize and crop to a square of 8-bit values."""

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

if TYPE_CHECKING:
    import torch

FITS = ("crop", "squash")
INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge of a part of a photo, in its pixels."""

_JPEG_SIDE = 65_500
"""Pixels of a side that libjpeg writes at most."""

_LONGEST = 8
"""Up to this ratio of sides a photo is resized whole, to the bit as torchvision does it."""


@dataclasses.dataclass(frozen=True)
class Transform:
    """Photo to tensor, as the encoder's weights expect it, before scaling by mean and std.

    Eight-bit values go from the loading processes to the encoder, which does the scaling: a quarter
    of the bytes of floats. Plain values only, so that it goes into a checkpoint
    and into the feature store's key as `asdict`.

    Attributes:
        size: Side S of the square that comes out, in pixels.
        resize: The short side, in pixels, before the crop; not used by `squash`.
        fit: `crop` resizes the short side to `resize` and cuts the middle S x S out (the
            preprocessing of torchvision's ImageNet weights); `squash` resizes the whole photo
            to S x S and gives its aspect ratio up, so that nothing at the edges is lost. A photo
            that is S x S already passes `squash` untouched.
        interpolation: `bilinear` or `bicubic`; both average over all the pixels that fall
            into a new one (anti-aliasing).
        detail: A short side, in pixels, that larger photos are reduced to first; None for no such
            step. A network whose training photos were enlarged to `size` never saw finer detail,
            and writes nonsense about photos that have it.
        quality: JPEG quality that photos are compressed with at `detail`, unless they are `detail`
            pixels high and wide already; None for no such step. A network whose small training
            photos all were compressed takes blocks and ringing for a part of the world: without
            them it repeats words.

    Raises:
        UsageError: For a value out of range.

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
                f"transform.resize: {self.resize} is smaller than transform.size, {self.size}:"
                " a crop cannot be larger than the resized photo"
            )

    def __call__(self, photo: Image.Image) -> torch.Tensor:
        """Fit one photo into the square.

        `crop` equals torchvision's `Resize(resize, antialias=True)` and `CenterCrop(size)` on
        Pillow images to the bit for photos up to eight times as long as wide. A longer one would
        grow with its aspect ratio (4000 x 3 would be resized to 341,333 x 256), so of that only the
        part that is kept is computed, through Pillow's `box`. Its corners are in single precision
        and its axes may be taken in the other order: values may then differ by roundings and, in
        bicubic, by the overshoot that is clipped in between.

        Args:
            photo: A picture in mode `RGB`.

        Returns:
            (3, S, S) uint8, red, green, blue from 0 to 255.
        """
        import torch  # here, so that processes that only decode photos do without it

        return torch.from_numpy(self.array(photo))

    def array(self, photo: Image.Image) -> np.ndarray:
        """Return as calling it, but a numpy array: (3, S, S) uint8."""
        photo = self._compressed(self._reduced(photo), photo.size)
        square = self._squash(photo) if self.fit == "squash" else self._crop(photo)
        return np.asarray(square).transpose(2, 0, 1).copy()

    def load(self, path: Path) -> torch.Tensor:
        """Read one photo file and fit it: (3, S, S) uint8.

        Raises:
            PhotoError: As `captioner.photos.decode.read_photo` does.
        """
        return self(read_photo(path))

    def detail_for(self, sizes: Sequence[tuple[int, int]]) -> int | None:
        """The detail of photos of some sizes, if most of them must be enlarged; None otherwise.

        Args:
            sizes: Width and height, in pixels, of some training photos.

        Returns:
            The median of their short sides (of `squash`: of the sides of squares of their area).
        """
        if 2 * sum(self.enlarges(*size) for size in sizes) <= len(sizes):
            return None
        if self.fit == "squash":
            sides = [math.isqrt(width * height) for width, height in sizes]
        else:
            sides = [min(size) for size in sizes]
        return max(1, sorted(sides)[len(sides) // 2])

    def enlarges(self, width: int, height: int) -> bool:
        """Whether a photo of so many pixels is made larger, which adds smoothness, not detail."""
        if self.fit == "squash":
            return width * height < self.size**2
        return min(width, height) < self.resize

    def box(self, width: int, height: int) -> Box:
        """The part of an upright photo that fills the square: where its edges come from.

        A grid over the square (an attention map, say) is a grid of equal cells over this box.

        Args:
            width: of the photo, in pixels.
            height: of the photo, in pixels.

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
        """Its values by name, for a checkpoint or a key; `detail`, `quality` only where given."""
        values = dataclasses.asdict(self)
        for name in ("detail", "quality"):
            if values[name] is None:  # as stores and checkpoints were keyed before there was any
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Transform:
        """Undo `asdict`; a name left out takes its default.

        Raises:
            UsageError: For an unknown name or a value out of range.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                raise UsageError(f"transform.{name}: no such setting; {suggestion(name, names)}")
        return cls(**values)

    def _reduced(self, photo: Image.Image) -> Image.Image:
        """A photo with more than `detail` pixels on its short side, brought down to that."""
        size = self._reduced_size(*photo.size)
        if size == photo.size:
            return photo
        return photo.resize(size, INTERPOLATIONS[self.interpolation])

    def _reduced_size(self, width: int, height: int) -> tuple[int, int]:
        short = min(width, height)
        if self.detail is None or short <= self.detail:
            return width, height
        if self.fit == "squash":
            return self.detail, self.detail
        width, height = (max(1, round(side * self.detail / short)) for side in (width, height))
        return width, height

    def _compressed(self, photo: Image.Image, original: tuple[int, int]) -> Image.Image:
        """A photo as a JPEG of `quality` shows it, unless it was `detail` pixels high and wide."""
        if self.quality is None or original == (self.detail, self.detail):
            return photo
        if max(photo.size) > _JPEG_SIDE:  # a strip that is cut or squashed next
            return photo
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=self.quality)
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
        """The size that a photo is resized to, and the left and top edge of the crop in that."""
        short, long = min(width, height), max(width, height)
        # torchvision's rounding: the long side is cut to an integer, the crop's corner rounded.
        resized_long = int(self.resize * long / short)
        resized = (self.resize, resized_long) if width <= height else (resized_long, self.resize)
        left = round((resized[0] - self.size) / 2)
        top = round((resized[1] - self.size) / 2)
        return resized, left, top

"""Other views of a training photo: mirrored, or cropped at random.

The features of a frozen encoder are computed once, so augmentation cannot draw a new crop in every
epoch. A few fixed views per photo serve instead: each epoch draws one of them.
"""

import math
import random

from PIL import Image, ImageOps

AREA = (0.6, 1.0)
"""Share of a photo's area that a crop keeps; smaller crops lose what the captions name."""

ASPECT = 4 / 3
"""Largest factor by which a crop's aspect ratio differs from the photo's."""


def view_of(photo: Image.Image, number: int, name: str) -> Image.Image:
    """Return a view of a photo.

    View 0 is the photo, view 1 its mirror image. Further views are crops of random area, aspect
    ratio and place, every second one mirrored. They depend on nothing but their number and `name`.

    Args:
        photo: The photo.
        number: Number of the view, from 0.
        name: Name of the photo, usually its image id.

    Example:
        >>> view_of(Image.new("RGB", (500, 375)), 1, "dog").size
        (500, 375)
    """
    if number >= 2:
        photo = photo.crop(crop_of(*photo.size, random.Random(f"{number} {name}")))
    return ImageOps.mirror(photo) if number % 2 else photo


def crop_of(width: int, height: int, draw: random.Random) -> tuple[int, int, int, int]:
    """Draw the left, top, right and bottom edge of a crop, in pixels."""
    area = draw.uniform(*AREA)
    stretch = math.exp(draw.uniform(-1, 1) * math.log(ASPECT) / 2)
    # Not wider or higher than the photo: the area counts more than the aspect ratio.
    across = min(1.0, max(math.sqrt(area) * stretch, area))
    crop_width = max(1, round(width * across))
    crop_height = max(1, round(height * area / across))
    left = draw.randint(0, width - crop_width)
    top = draw.randint(0, height - crop_height)
    return left, top, left + crop_width, top + crop_height

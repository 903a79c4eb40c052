"""Convert decoded pictures of any mode to opaque 8-bit RGB."""

import numpy as np
from PIL import BmpImagePlugin, Image

from captioner.photos.tiff import Layout


def to_rgb(image: Image.Image, layout: Layout | None = None) -> Image.Image:
    """Convert a picture to RGB as a viewer shows it: on white, with levels scaled to 8 bits.

    Args:
        image: The picture.
        layout: Layout of the TIFF that the picture comes from, if any.
    """
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return _to_8_bits(image, layout).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if isinstance(image, BmpImagePlugin.BmpImageFile) and _is_unused(rgba.getchannel("A")):
            return rgba.convert("RGB")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image.convert("RGB")  # copies an RGB picture, without its metadata


def _is_unused(alpha: Image.Image) -> bool:
    """Return whether a BMP's alpha channel is all 0, which many programs write for opaque."""
    return alpha.getextrema() == (0, 0)


def _to_8_bits(image: Image.Image, layout: Layout | None) -> Image.Image:
    """Scale a grey picture with more than 8 bits to 8 bits.

    Sixteen bits are scaled by 255/65535. Pillow's modes `I` and `F` do not define white, so it is
    inferred from the values: 0 to 65,535 in `I` is 16-bit, 0 to 1 in `F` is black to white, 0 to
    255 in `F` is 8-bit. Any other range is stretched from its minimum to its maximum. Non-finite
    values become black.
    """
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
        if layout is not None and 8 < layout.bits < 16:
            high = 2.0**layout.bits - 1
    else:
        if image.mode == "I" and layout is not None and layout.bits == 32 and layout.is_unsigned:
            values = values.view(np.uint32)
        finite = np.isfinite(values)
        if not finite.all():
            values = np.where(finite, values, values.min(where=finite, initial=0.0))
        low, high = float(values.min()), float(values.max())
        whites = (65535.0,) if image.mode == "I" else (1.0, 255.0)
        if low >= 0:
            low, high = 0.0, next((white for white in whites if high <= white), high)
    scale = 255.0 / (high - low) if high > low else 0.0
    grey = np.empty(values.shape, np.uint8)
    for row, line in enumerate(values):  # by rows, to avoid a copy at 8 bytes per pixel
        grey[row] = np.rint((line.astype(np.float64) - low) * scale)
    if layout is not None and layout.is_deep_white_is_zero:
        np.subtract(255, grey, out=grey)
    return Image.fromarray(grey)

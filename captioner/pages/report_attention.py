"""Attention of a caption's words, small enough for thousands of photos in one report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from captioner.inference.result import PhotoCaptions

LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
"""A character is two weights, of 0 to 7 each: eighths of the caption's largest weight, or of an
equal share of the regions if that is more."""

_WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class WordAttention:
    """Attention of a caption: T words, R regions.

    Attributes:
        words: The words.
        grid: Rows and columns of the regions.
        levels: T x R weights, word by word, two in each character of `LEVELS`.
        place: Left, top, width and height of the grid, as shares of the photo's size.
        sentinel: Weight of the sentence for each word, in percent; None without a sentinel.
    """

    words: tuple[str, ...]
    grid: tuple[int, int]
    levels: str
    place: tuple[float, float, float, float] = _WHOLE
    sentinel: tuple[int, ...] | None = None

    def record(self) -> list[Any]:
        """Return it as plain values, for the page's script."""
        place = [round(share, 4) for share in self.place]
        sentinel = 0 if self.sentinel is None else list(self.sentinel)
        return [*self.grid, place, list(self.words), self.levels, sentinel]


def attention_of(captioned: PhotoCaptions) -> WordAttention | None:
    """Return the attention of a photo's best caption, if it has any."""
    found = captioned.attention
    if found is None or not captioned.candidates:
        return None
    words = captioned.candidates[0].words
    place = _WHOLE
    if found.size is not None and found.box is not None:
        (width, height), (left, top, right, bottom) = found.size, found.box
        place = (left / width, top / height, (right - left) / width, (bottom - top) / height)
    sentinel = None if found.sentinel is None else found.sentinel[0, : len(words)]
    return _encoded(words, found.grid, found.weights[0, : len(words)], sentinel, place)


def attention_of_record(record: object) -> WordAttention | None:
    """Return the attention in a record of `captioner caption --attention`, if it has any.

    Raises:
        ValueError: It does not have the form that the command writes.
    """
    if not isinstance(record, Mapping) or "attention" not in record:
        return None
    found = record["attention"]
    try:
        words = tuple(found["words"])
        rows, columns = found["grid"]
        weights = np.array(found["weights"], dtype=np.float64)
        sentinel = found.get("sentinel")
        own = None if sentinel is None else np.array(sentinel, dtype=np.float64)
        fits = weights.shape == (len(words), int(rows) * int(columns)) and words
        if not fits or not all(isinstance(word, str) for word in words):
            raise ValueError("words, grid and weights do not fit each other")
        if own is not None and own.shape != (len(words),):
            raise ValueError("one sentinel weight per word expected")
        return _encoded(words, (int(rows), int(columns)), weights, own, _WHOLE)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f'invalid "attention": {error}') from None


def _encoded(
    words: tuple[str, ...],
    grid: tuple[int, int],
    weights: np.ndarray,
    sentinel: np.ndarray | None,
    place: tuple[float, float, float, float],
) -> WordAttention:
    weights = np.nan_to_num(np.asarray(weights, dtype=np.float64), posinf=0, neginf=0).clip(min=0)
    # At least the weight of a region if all were equal: a caption that hardly looks stays dark.
    largest = max(weights.max(initial=0.0), 1 / weights.shape[1])
    eighths = np.rint(weights.ravel() / largest * 7).astype(np.int64)
    pairs = np.append(eighths, 0)[: eighths.size + eighths.size % 2].reshape(-1, 2)
    levels = "".join(LEVELS[place] for place in (8 * pairs[:, 0] + pairs[:, 1]).tolist())
    percents = None
    if sentinel is not None:
        percents = tuple(int(100 * share) for share in np.nan_to_num(sentinel).clip(0, 1) + 0.005)
    return WordAttention(words, grid, levels, place, percents)

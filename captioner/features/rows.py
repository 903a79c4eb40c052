"""Rows of a feature store: one photo's features as bytes, in the store's number type.

`float32` and `float16` rows are the numbers themselves. An `int8` row has, for each region (or for
the one vector of pooled features), its least value and its step as float32, and 8 bits per number:

    x = least + step q,    q = 0, ..., 255,    step = (greatest - least) / 255

So no number is off by more than half a step, and a region of large values does not cost the others
their precision.

Letters: B photos, R regions, F feature size.
"""

import math
from collections.abc import Sequence

import numpy as np

DTYPES = ("float16", "float32", "int8")

LEVELS = 255
"""Steps between the least and the greatest value of an int8 region."""


def row_bytes(shape: Sequence[int], dtype: str) -> int:
    """Return the size of one photo's features in bytes."""
    if dtype == "int8":
        return _regions(shape) * (shape[-1] + 8)
    return math.prod(shape) * np.dtype(dtype).itemsize


def value_type(dtype: str) -> np.dtype:
    """Return the type of features before they are stored."""
    return np.dtype(np.float32 if dtype == "int8" else dtype)


def stored_type(dtype: str) -> np.dtype:
    """Return the type of the numbers of a row as it is mapped into memory."""
    return np.dtype(np.uint8 if dtype == "int8" else dtype)


def stored_shape(shape: Sequence[int], dtype: str) -> tuple[int, ...]:
    """Return the shape of a row as it is mapped into memory."""
    return (row_bytes(shape, dtype),) if dtype == "int8" else tuple(shape)


def encoded(features: np.ndarray, dtype: str) -> np.ndarray:
    """Convert features (B, F) or (B, R, F), finite, to rows of a store: (B, *stored shape)."""
    if dtype != "int8":
        return np.ascontiguousarray(features, dtype)
    values = np.ascontiguousarray(features, np.float32).reshape(
        len(features), _regions(features.shape[1:]), features.shape[-1]
    )
    least = values.min(2, keepdims=True)
    # float64: the difference of two float32 values may overflow.
    step = ((values.max(2, keepdims=True).astype(np.float64) - least) / LEVELS).astype(np.float32)
    divisor = np.where(step > 0, step, 1.0)  # all values equal: level 0
    levels = ((values.astype(np.float64) - least) / divisor).round().clip(0, LEVELS)
    parts = (_bytes(least), _bytes(step), levels.astype(np.uint8))
    sizes = [math.prod(part.shape[1:]) for part in parts]
    flat = [part.reshape(len(part), size) for part, size in zip(parts, sizes, strict=True)]
    return np.concatenate(flat, 1)


def decoded(rows: np.ndarray, shape: Sequence[int], dtype: str) -> np.ndarray:
    """Convert rows of a store (B, *stored shape) to features (B, *shape); float32 of int8."""
    if dtype != "int8":
        return rows
    count, regions = len(rows), _regions(shape)
    least, step = (
        np.ascontiguousarray(rows[:, 4 * regions * i : 4 * regions * (i + 1)]).view("<f4")
        for i in range(2)
    )
    levels = rows[:, 8 * regions :].reshape(count, regions, shape[-1])
    features = levels.astype(np.float32)
    features *= step.reshape(count, regions, 1)
    features += least.reshape(count, regions, 1)
    return features.reshape(count, *shape)


def _regions(shape: Sequence[int]) -> int:
    return math.prod(shape[:-1])


def _bytes(values: np.ndarray) -> np.ndarray:
    """Return float32 values (B, R, 1) as bytes (B, R, 4)."""
    return values.astype("<f4").view(np.uint8)

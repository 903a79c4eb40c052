"""The header of a feature store: what its rows are and what they depend on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captioner.errors import CaptionerError
from captioner.features.rows import DTYPES, row_bytes
from captioner.files.atomic import write_whole
from captioner.files.json_file import MAX_SMALL_BYTES, parse_json
from captioner.files.regular import read_regular

FORMAT = 1
"""Version of the files; other versions are refused."""


class StoreError(CaptionerError):
    """A feature store that cannot be read or written; the message states the remedy."""


@dataclasses.dataclass(frozen=True)
class Header:
    """Contents of `store.json`."""

    format: int
    key: dict[str, Any]
    shape: tuple[int, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Size of one row in bytes."""
        return size_in_bytes(1, self.shape, self.dtype)

    @classmethod
    def read(cls, folder: Path) -> Header | None:
        """Read the header of a store; return None if there is none.

        Raises:
            StoreError: The header is damaged or has another format version.
        """
        path = folder / "store.json"
        try:
            values = parse_json(read_regular(path, MAX_SMALL_BYTES).decode())
            if not isinstance(values, dict) or type(values.get("format")) is not int:
                raise ValueError("it is not the header of a feature store")
            if values["format"] != FORMAT:
                age = "a newer" if values["format"] > FORMAT else "an older"
                raise StoreError(
                    f"{path}: written by {age} version of captioner (format {values['format']}, not"
                    f" {FORMAT}); remove the folder and run captioner prepare"
                )
            shape = tuple(values["shape"])
            sound = (
                isinstance(values["key"], dict)
                and values["dtype"] in DTYPES
                and shape
                and all(type(side) is int and side > 0 for side in shape)
            )
            if not sound:
                raise ValueError("a value has the wrong type")
            values["key"].pop("data", None)  # older versions stored the data set's location here
            return cls(FORMAT, values["key"], shape, values["dtype"])
        except FileNotFoundError:
            return None
        except (CaptionerError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(
                f"{path}: damaged ({error}); remove the folder and run captioner prepare"
            ) from error

    def write(self, folder: Path) -> None:
        """Write `store.json` into a store's folder, atomically."""
        write_whole(folder / "store.json", json.dumps(dataclasses.asdict(self), indent=2))

    def check(self, folder: Path, key: Mapping[str, Any], new: Header | None = None) -> None:
        """Refuse features with another key or, when writing, another shape or dtype.

        Raises:
            StoreError: The message names the difference and the remedy.
        """
        wanted = plain(key)
        names = sorted({*self.key, *wanted})
        differ = [name for name in names if self.key.get(name) != wanted.get(name)]
        if differ:
            raise StoreError(
                f"{folder}: these features were computed with another {', '.join(differ)};"
                " run captioner prepare for this configuration"
            )
        if new is not None and (self.shape, self.dtype) != (new.shape, new.dtype):
            raise StoreError(
                f"{folder}: holds {self.dtype} features of shape {self.shape}, not {new.dtype}"
                f" {new.shape}; remove the folder and run captioner prepare"
            )


def size_in_bytes(n: int, shape: Sequence[int], dtype: str) -> int:
    """Return the size of `features.bin` for n photos; the journal adds about 250 each."""
    return n * row_bytes(shape, dtype)


def plain(key: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a key to its JSON form (tuples become lists), so that keys compare equal."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(key), allow_nan=False))
    return plain

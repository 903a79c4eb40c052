"""Settings as nested dictionaries of plain values: flattened, and turned back into dataclasses."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted names and values of nested settings."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Return the dataclass `cls` with `values`, nested ones included: the inverse of `asdict`.

    Unknown keys are dropped and missing ones take their default, so that checkpoints of other
    versions of this program load.
    """
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    return cls(
        **{
            name: from_dict(hints[name], value) if is_dataclass(hints[name]) else value
            for name, value in values.items()
            if name in known
        }
    )

"""Read files written by `torch.save`: tensors and plain values, without executing code.

torch's reader (`weights_only=True`) executes no code, but has no limits. A pickle may request a
`bytearray` of terabytes. For a disallowed name, torch formats its error with a regular expression
that takes quadratic time, so a name of a megabyte takes hours. So the archive and the pickle are
checked before torch reads them.
"""

import pickletools
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from captioner.files.archive import ArchiveError, records_of
from captioner.files.regular import open_regular

MAX_TEXT = 4096
"""Maximum length of a string: the longest are paths, words and tensor names."""

MAX_PICKLE = 2**26
"""Maximum size of the pickle in bytes. It has everything but the tensor data."""

MAX_OPERATIONS = 4_000_000
"""Maximum number of pickle operations. A value takes one to three."""

MAX_BITS = 256
"""Maximum bits of an integer. States of random generators have 128."""

MODULES = frozenset(
    {"torch", "torch._utils", "torch._tensor", "torch.nn.parameter", "torch.storage"}
    | {"torch.serialization", "collections"}
)
"""Modules of the globals in a pickle. torch decides which of their names it accepts."""

OLD_PICKLES = 5
"""Number of pickles at the start of a file from torch before 1.6, which is not a zip: magic number,
protocol, system, contents, tensor names."""


def read_tensors(path: Path) -> Any:
    """Load a file. Tensors are memory-mapped, so only those accessed are read.

    A file from torch before 1.6 is read completely.

    Raises:
        ArchiveError: It was not written by `torch.save`, or exceeds a limit.
        Exception: torch cannot read it; the types vary.
    """
    with open_regular(path) as file:
        zipped = file.read(2) == b"PK"
        if zipped:
            _check_pickle(BytesIO(_pickle_of_archive(file)), MAX_OPERATIONS)
        else:
            file.seek(0)
            for _ in range(OLD_PICKLES):
                _check_pickle(file, MAX_OPERATIONS)
    import torch  # here, because exported graphs are read without it

    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def _pickle_of_archive(file: BinaryIO) -> bytes:
    found = [record for record in records_of(file) if record.name == "data.pkl"]
    if len(found) != 1:
        raise ArchiveError("holds no data.pkl")
    [record] = found
    if record.size > MAX_PICKLE:
        raise ArchiveError(
            f"its data.pkl has {record.size:,} bytes, more than the {MAX_PICKLE:,} allowed"
        )
    file.seek(record.start)
    return file.read(record.size)


def _check_pickle(pickled: BinaryIO, most: int) -> None:
    """Check one pickle without executing it.

    Raises:
        ArchiveError: It exceeds a limit or uses a disallowed name.
        ValueError: It is not a pickle.
    """
    for number, (operation, value, _) in enumerate(_operations(pickled)):
        if number >= most:
            raise ArchiveError(f"its pickle has more than the {most:,} operations allowed")
        if isinstance(value, (str, bytes, bytearray)) and len(value) > MAX_TEXT:
            raise ArchiveError(f"holds a text of {len(value):,} letters")
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise ArchiveError(
                f"holds a number of {value.bit_length():,} bits; at most {MAX_BITS} bits"
            )
        if operation == "GLOBAL" and not _is_needed(str(value)):
            raise ArchiveError(f"names {str(value)[:80]!r}, which no tensor needs")


def _is_needed(name: str) -> bool:
    # torch.Tensor(10**12) would allocate memory far beyond the size of the file.
    return name.partition(" ")[0] in MODULES and not name.endswith("Tensor")


def _operations(pickled: BinaryIO) -> Iterator[tuple[str, Any, Any]]:
    for opcode, value, place in pickletools.genops(pickled):
        yield opcode.name, value, place

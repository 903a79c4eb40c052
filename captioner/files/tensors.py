"""Files that `torch.save` wrote: tensors and plain values, nothing unpickled into code.

torch's own reader (`weights_only=True`) runs nothing, but bounds nothing either. A pickle may ask
for a `bytearray` of terabytes, and where a file names what is not allowed, torch words its
complaint by a regular expression whose time grows with the square of the longest text: a name of a
megabyte takes hours. So the archive and the pickle are checked before torch sees them.
"""

import pickletools
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch

from captioner.files.archive import ArchiveError, records_of
from captioner.files.regular import open_regular

MAX_TEXT = 4096
"""Letters of a text in such a file: a path at most, a word, a tensor's name."""

MAX_PICKLE = 2**26
"""Bytes of the pickle, which holds everything but the tensors' numbers."""

MAX_OPERATIONS = 4_000_000
"""Operations of the pickle; a value takes one to three."""

MAX_BITS = 256
"""Bits of a whole number; states of random generators have 128."""

MODULES = frozenset(
    {"torch", "torch._utils", "torch._tensor", "torch.nn.parameter", "torch.storage"}
    | {"torch.serialization", "collections"}
)
"""Where the names in a pickle may come from. torch decides which of them it accepts."""

OLD_PICKLES = 5
"""Pickles at the beginning of a file of torch before 1.6, which is no zip: magic number, protocol,
system, contents, names of tensors."""


def read_tensors(path: Path) -> Any:
    """Return the contents of a file; tensors are mapped, so what is never touched is never read.

    A file of torch before 1.6 is read as a whole.

    Raises:
        ArchiveError: It is not what `torch.save` writes; the message says why.
        Exception: Of many kinds, where torch cannot read it.
    """
    with open_regular(path) as file:
        zipped = file.read(2) == b"PK"
        if zipped:
            _check_pickle(BytesIO(_pickle_of_archive(file)), MAX_OPERATIONS)
        else:
            file.seek(0)
            for _ in range(OLD_PICKLES):
                _check_pickle(file, MAX_OPERATIONS)
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
    """Go through one pickle without running it.

    Raises:
        ArchiveError: It holds what is out of bounds.
        ValueError: It is no pickle.
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
    # torch.Tensor(10**12) would take memory that the file does not bring.
    return name.partition(" ")[0] in MODULES and not name.endswith("Tensor")


def _operations(pickled: BinaryIO) -> Iterator[tuple[str, Any, Any]]:
    for opcode, value, place in pickletools.genops(pickled):
        yield opcode.name, value, place

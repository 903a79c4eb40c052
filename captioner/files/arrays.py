"""Read numpy's `.npy` and `.npz` files as untrusted input.

`numpy.load` unpickles objects on request, evaluates headers, and takes the memory that a header
asks for. Here the header must have the one form that numpy writes. Only plain numbers are accepted,
as many as the limit allows and the file holds, and no member of an archive expands beyond what its
header claims.
"""

import re
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO

import numpy as np

from captioner.errors import CaptionerError
from captioner.files.archive import ArchiveError, check_directory
from captioner.files.regular import open_regular

MAGIC = b"\x93NUMPY\x01\x00"
"""How a file of version 1.0 begins, the only one that numpy writes for plain numbers."""

MAX_MEMBERS = 64
"""Maximum number of arrays in an archive."""

HEADER = re.compile(
    r"\{'descr': ('[^']{1,20}'|\[.*\]), 'fortran_order': (True|False), "
    r"'shape': \(([0-9L, ]*)\),? ?\}\s*"
)
NUMBERS = re.compile(r"'[<>|=]?[fiu][1248]'")
"""Type of an array of floating-point, signed or unsigned numbers of at most 64 bits."""

_FAULTS = (
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    OverflowError,
    RecursionError,
    NotImplementedError,  # a compression method that is not supported
    RuntimeError,  # an encrypted member
    UnicodeError,
    SyntaxError,
    zlib.error,
    zipfile.BadZipFile,
)


class ArrayError(CaptionerError):
    """A file without a usable array; the message names the file."""


def read_arrays(path: Path, wanted: Collection[str], most: int) -> dict[str, np.ndarray]:
    """Read a `.npy` file, or arrays of a `.npz` archive.

    Args:
        path: The file; its content decides what it is, not its name.
        wanted: Arrays to read from an archive; others are not opened. An archive that holds none of
            these and one array only gives that one.
        most: Maximum number of values of an array.

    Returns:
        Arrays by name. A `.npy` file gives one, named "".

    Raises:
        ArrayError: The file is damaged, too large, or does not hold plain numbers.
        OSError: It cannot be read, or is not a regular file.
    """
    with open_regular(path) as file:
        try:
            start = file.read(4)
            file.seek(0)
            if start.startswith(b"PK"):
                return _read_archive(file, wanted, most)
            array = _read_array(file, most)
            if file.read(1):
                raise ValueError("bytes follow the array")
            return {"": array}
        except (*_FAULTS, MemoryError) as error:
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise ArrayError(f"{path}: not a usable array: {reason}") from None


def _read_archive(file: IO[bytes], wanted: Collection[str], most: int) -> dict[str, np.ndarray]:
    try:
        check_directory(file, MAX_MEMBERS)
    except ArchiveError as error:
        raise ValueError(str(error)) from None
    found = {}
    with zipfile.ZipFile(file) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        chosen = [name for name in names if name in wanted] or names
        if not any(name in wanted for name in chosen) and len(chosen) != 1:
            held = ", ".join(names[:8]) or "none"
            raise ValueError(f"it holds none of the arrays {', '.join(wanted)} (it has {held:.80})")
        for name in chosen:
            info = archive.getinfo(f"{name}.npy")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name:.40} is compressed in an unusual way")
            with archive.open(info) as member:
                found[name] = _read_array(member, most)
                if member.read(1):  # also checks the member's checksum
                    raise ValueError(f"bytes follow the array {name:.40}")
    return found


def _read_array(file: IO[bytes], most: int) -> np.ndarray:
    """Read one array in the format of `numpy.save`.

    Raises:
        ValueError: It is not such an array, or has too many values.
    """
    shape, fortran, dtype = _read_header(file)
    count = 1
    for side in shape:
        count *= side
        if count > most:
            raise ValueError(f"it has more than the {most:,} values allowed")
    size = count * dtype.itemsize
    data = _read_exactly(file, size)
    array = np.frombuffer(data, dtype)
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the shape, the order (True if the first index varies fastest) and the type."""
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError("it is not a file of numpy's format 1.0")
    length = int.from_bytes(_read_exactly(file, 2), "little")
    text = _read_exactly(file, length).decode("latin-1")
    # numpy evaluates this text as a Python literal. What numpy writes has one form only.
    header = HEADER.fullmatch(text)
    if header is None:
        raise ValueError("its header is damaged")
    if NUMBERS.fullmatch(header[1]) is None:
        raise ValueError(f"its values are of type {header[1][:40]}, not plain numbers")
    sides = [side.strip(" L") for side in header[3].split(",")]
    if any(len(side) > 19 for side in sides):
        raise ValueError("a size is out of range")
    shape = tuple(int(side) for side in sides if side)
    return shape, header[2] == "True", np.dtype(header[1].strip("'"))


def _read_exactly(file: IO[bytes], size: int) -> bytes:
    """Read a number of bytes; memory is taken as they arrive, so a false size costs nothing."""
    parts, left = [], size
    while left:
        part = file.read(min(left, 2**20))
        if not part:
            raise ValueError(f"{left:,} of its {size:,} bytes are missing")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)

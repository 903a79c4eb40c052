"""Files that `torch.save` wrote: tensors and plain values, nothing unpickled into code.

torch's own reader (`weights_only=True`) runs nothing. But where a file names what is not allowed,
it words its complaint by a regular expression whose time grows with the square of the longest text
in it: a name of 6,000 letters takes 3 s, one of a megabyte hours. So texts are looked at first.
"""

import pickletools
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch

MAX_TEXT = 4096
"""Letters of a text in such a file: a path at most, a word, a tensor's name."""

OLD_PICKLES = 5
"""Pickles at the beginning of a file of torch before 1.6, which is no zip: magic number, protocol,
system, contents, names of tensors."""


def read_tensors(path: Path, *, mapped: bool = False) -> Any:
    """The contents of a file.

    Args:
        path: the file.
        mapped: map it instead of reading it: of what is never touched nothing is read.

    Raises:
        Exception: of many kinds, where it is not such a file.
    """
    for pickled in _pickles(path):
        for _, text, _ in pickletools.genops(pickled):
            if isinstance(text, (str, bytes)) and len(text) > MAX_TEXT:
                raise ValueError(f"holds a text of {len(text):,} letters")
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _pickles(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            # By torch's reader, which may see another file in a crafted zip than Python's does.
            yield BytesIO(torch._C.PyTorchFileReader(str(path)).get_record("data.pkl"))
            return
        file.seek(0)
        for _ in range(OLD_PICKLES):
            yield file

"""Selected parts of a file as a file, without copying."""

import bisect
import io
from typing import BinaryIO


class Excerpt:
    """Parts of a binary file, concatenated into one file.

    Args:
        file: The underlying file.
        parts: Start and end (exclusive) of each part, in bytes.

    Example:
        >>> Excerpt(io.BytesIO(b"0123456789"), [(0, 2), (7, 9)]).read()
        b'0178'
    """

    def __init__(self, file: BinaryIO, parts: list[tuple[int, int]]) -> None:
        self._file = file
        self._parts = parts
        self._starts = [0]  # of each part in the excerpt, and the end
        for first, behind in parts:
            self._starts.append(self._starts[-1] + behind - first)
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """Read like `BinaryIO.read`."""
        end = self._starts[-1] if size < 0 else min(self._at + size, self._starts[-1])
        pieces = []
        while self._at < end:
            index = bisect.bisect_right(self._starts, self._at) - 1
            wanted = min(end, self._starts[index + 1]) - self._at
            self._file.seek(self._parts[index][0] + self._at - self._starts[index])
            piece = self._file.read(wanted)
            if not piece:  # the file has become shorter
                break
            pieces.append(piece)
            self._at += len(piece)
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek like `BinaryIO.seek`."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Return the position, like `BinaryIO.tell`."""
        return self._at

    def fileno(self) -> int:
        """There is none: the parts are not a file of the system."""
        raise io.UnsupportedOperation("fileno")

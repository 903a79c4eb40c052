"""Limits on the memory and time of decoding a photo, enforced before the work is done.

A few bytes can describe a picture of gigabytes, or hours of decoding. Each limit is checked against
the file's header, before pixels are decoded.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from captioner.errors import CaptionerError

MAX_PIXELS = 2**27
"""134 million, more than the largest cameras (108 million); 0.5 GiB at Pillow's 4 bytes each."""

MAX_BYTES = 2**29
"""512 MiB: an uncompressed 8-bit TIFF of `MAX_PIXELS` fits."""

MAX_MEMORY = 2**31
"""Maximum memory of all photos decoded at the same time in a process: 2 GiB."""

MAX_SCANNED = 2**31
"""Maximum pixels times scans of a progressive JPEG: 16 scans of `MAX_PIXELS`; cameras use 10."""

MAX_SCANS = 1000
"""Maximum scans of a JPEG; each takes time even for a single pixel."""

MAX_PARTS = 2**16
"""Maximum chunks of a PNG or segments of a JPEG: `MAX_BYTES` in libpng's chunks of 8 KiB."""

MAX_HEADER_READS = 2**19
"""Maximum reads before the first pixel; each takes about 1 µs in Python."""

MAX_READS = 2**23
"""Maximum reads for the pixels; a run-length encoded BMP needs two per run."""


class PhotoError(CaptionerError):
    """A file that cannot be read as a photo.

    The message is only the reason ("the file is empty"), without the path. It becomes the `error`
    of a caption record or of the feature store, both of which also store the path.
    """


class Memory:
    """A memory budget shared by the threads that decode photos; threads wait until it suffices.

    Requests are served in order, so that a large photo does not starve. A photo that needs more
    than the capacity waits until it is alone.

    Args:
        capacity: Capacity in bytes.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free = capacity
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, wanted: int) -> Iterator[None]:
        """Hold a number of bytes while the block runs."""
        amount = min(wanted, self.capacity)
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket and self._free >= amount)
                self._free -= amount
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()


DECODING = Memory(MAX_MEMORY)
"""The budget of all photos being decoded in this process."""


class Metered:
    """A binary file with a limited number of reads.

    Some of Pillow's readers parse metadata in small steps in Python, so a file full of comments
    takes minutes. Limiting the number of reads bounds this for every format.

    Args:
        file: The file.
        reads: Maximum number of reads.
    """

    def __init__(self, file: BinaryIO, reads: int = MAX_HEADER_READS) -> None:
        self.file = file
        self.left = reads
        self.seek = file.seek
        self.tell = file.tell
        self.fileno = file.fileno

    def read(self, size: int = -1) -> bytes:
        """Read like `BinaryIO.read`.

        Raises:
            PhotoError: The number of reads is used up.
        """
        self.left -= 1
        if self.left < 0:
            raise PhotoError("comments or metadata in too many small parts")
        return self.file.read(size)

    def close(self) -> None:
        """Do nothing: the caller closes the file."""

"""What one photo may cost, stated in one place and enforced before the work is done.

A few bytes can describe a picture of gigabytes or a decoder's work of hours. Each limit here is
checked against what the file's header claims, before pixels are decoded.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from captioner.errors import CaptionerError

MAX_PIXELS = 2**27
"""134 million: past the largest cameras (102 and 108 million); 0.5 GiB at Pillow's 4 bytes each."""

MAX_BYTES = 2**29
"""512 MiB: an uncompressed 8-bit TIFF of `MAX_PIXELS` fits."""

MAX_MEMORY = 2**31
"""Bytes that the photos decoded at one time in a process may take together, 2 GiB."""

MAX_SCANNED = 2**31
"""Pixels times scans of a progressive JPEG: 16 passes over `MAX_PIXELS`; cameras write about 10."""

MAX_SCANS = 1000
"""Scans of a JPEG: each costs time even where the picture has a single pixel."""

MAX_PARTS = 2**16
"""Chunks of a PNG or segments of a JPEG: `MAX_BYTES` in libpng's usual chunks of 8 KiB."""

MAX_HEADER_READS = 2**19
"""Reads before the first pixel: readers in Python take about a microsecond for each."""

MAX_READS = 2**23
"""Reads for all of the pixels (a run-length encoded BMP needs two for each run)."""


class PhotoError(CaptionerError):
    """A file that cannot be read as a photo.

    The message is the bare reason ("the file is empty"), without the path: it is the `error` of
    a caption record or of the feature store, both of which hold the path beside it.
    """


class Memory:
    """Memory shared by the threads that decode photos: who finds too little left waits.

    Whoever asks first is served first, so that a large photo is not kept waiting for ever. A photo
    that needs more than there is in all waits until it is alone.

    Args:
        capacity: In bytes.
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
"""The memory of all photos that are being decoded in this process."""


class Metered:
    """A binary file that may be read a limited number of times.

    Some of Pillow's readers go through metadata byte by byte or block by block in Python, so that
    a file of comments costs minutes. The number of reads bounds that for every format.

    Args:
        file: What is read.
        reads: How often.
    """

    def __init__(self, file: BinaryIO, reads: int = MAX_HEADER_READS) -> None:
        self.file = file
        self.left = reads
        self.seek = file.seek
        self.tell = file.tell
        self.fileno = file.fileno

    def read(self, size: int = -1) -> bytes:
        """Return as `BinaryIO.read`.

        Raises:
            PhotoError: After the last read.
        """
        self.left -= 1
        if self.left < 0:
            raise PhotoError("comments or metadata in too many small parts")
        return self.file.read(size)

    def close(self) -> None:
        """Leave the file open: it belongs to the caller."""

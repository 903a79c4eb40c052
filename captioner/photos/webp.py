"""The size of a WebP picture from its header, before the decoder allocates memory."""

from typing import BinaryIO

from captioner.photos.limits import PhotoError


def canvas_size(file: BinaryIO) -> tuple[int, int]:
    """Return the width and height of a WebP file (RFC 9649).

    Raises:
        PhotoError: Its first chunk is not the start of a picture.
    """
    file.seek(0)
    head = file.read(30)
    kind, content = head[12:16], head[20:]
    if kind == b"VP8X" and len(content) == 10:
        width, height = (int.from_bytes(content[i : i + 3], "little") + 1 for i in (4, 7))
    elif kind == b"VP8 " and content[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(content[i : i + 2], "little") & 0x3FFF for i in (6, 8))
    elif kind == b"VP8L" and content[:1] == b"\x2f":
        bits = int.from_bytes(content[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        raise PhotoError("truncated or damaged WebP file: its first chunk is no picture")
    return width, height

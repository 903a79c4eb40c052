"""Read photos from tar files (WebDataset shards) sequentially, without extracting anything.

The standard `tarfile` is not used: it keeps every header in memory, reads extended headers of any
size, and follows links. Here, a header takes at most `MAX_HEADER` bytes, unwanted members are
skipped, and anything but a regular file is an error of that member.

Formats: ustar, GNU (long names, large numbers) and pax (`path` and `size`), as written by tar and
tarfile, optionally compressed with gzip. Headers follow POSIX.1-2001, "pax".
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from captioner.photos.folders import Skipped, is_hidden, is_photo
from captioner.photos.limits import MAX_BYTES

MAX_HEADER = 2**20
"""Maximum size of an extended header (a long name, pax records): 1 MiB. More means damage."""

MAX_RECORDS = 1000
"""Maximum records of a pax header; tar writes about ten."""

MAX_UNPACKED = 2**30
"""Uncompressed size always allowed for a compressed tar: 1 GiB, plus 100 times its own size. Photos
hardly compress."""

_BLOCK = 512
_FILES = (b"0", b"\0", b"7")
_KINDS = {
    b"1": "a link, not a photo",
    b"2": "a link, not a photo",
    b"3": "a device, not a photo",
    b"4": "a device, not a photo",
    b"6": "a pipe, not a photo",
    b"S": "a sparse file, which is not read",
}


class TarError(Exception):
    """A tar file is missing, invalid or damaged."""


@dataclass(frozen=True)
class Member:
    """A picture in a tar, or a member that cannot be read.

    Attributes:
        name: Path inside the tar.
        size: Size in bytes.
        error: Why it cannot be read; None for a picture.
        file: The tar, positioned at the member's first byte until the next member is requested.
    """

    name: str
    size: int
    error: str | None
    file: IO[bytes]

    def content(self) -> bytes:
        """Read the member's bytes. Call this before requesting the next member.

        Raises:
            TarError: The tar is truncated.
        """
        return _exactly(self.file, self.size)


def members(path: Path, skipped: Skipped | None = None) -> Iterator[Member]:
    """Yield the pictures of a tar in order, selected by extension.

    Folders, text files and hidden members are skipped, and other files are counted in `skipped`.
    Links, devices, names outside the tar and oversized pictures are yielded with an error.

    Raises:
        TarError: The file is missing, not a tar, damaged or truncated. Earlier members are valid.
    """
    with _explained(), _open(path) as file:
        yield from _members(file, path.stat().st_size, skipped or Skipped())


def members_of(
    file: IO[bytes], name: str, size: int, skipped: Skipped | None = None
) -> Iterator[Member]:
    """Yield the pictures of an open tar, which object storage may hold; otherwise like `members`.

    Args:
        file: The file, which must support `seek`.
        name: Its name; one that does not end in `.tar` is uncompressed while it is read.
        size: Its size in bytes.
        skipped: Counts the other files in it.

    Raises:
        TarError: As in `members`.
    """
    with _explained():
        if not name.lower().endswith(".tar"):
            file = cast("IO[bytes]", gzip.GzipFile(fileobj=file))
        yield from _members(file, size, skipped or Skipped())


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise TarError("no such file") from error
    except (OSError, EOFError, zlib.error) as error:  # gzip's complaints are among them
        reason = getattr(error, "strerror", None) or str(error)
        raise TarError(f"the tar cannot be read: {reason}") from error


def _open(path: Path) -> IO[bytes]:
    if path.is_dir():
        raise TarError("a folder, not a tar")
    if path.exists() and not path.is_file():
        raise TarError("not a regular file (a pipe, socket or device)")
    if path.name.lower().endswith(".tar"):
        return path.open("rb")
    return cast("IO[bytes]", gzip.open(path, "rb"))


def _members(file: IO[bytes], size_on_disk: int, skipped: Skipped) -> Iterator[Member]:
    start = 0  # of the next header
    end = _length(file)
    long_name: bytes | None = None
    pax: dict[bytes, bytes] = {}
    first = True
    unpacked = MAX_UNPACKED + 100 * size_on_disk
    while True:
        if isinstance(file, gzip.GzipFile) and start > unpacked:
            raise TarError(f"it unpacks to more than {unpacked:,} bytes, too much for photos")
        file.seek(start)
        header = file.read(_BLOCK)
        if not header.strip(b"\0"):
            if first and not header:
                raise TarError("the file is empty")
            if file.tell() < start:
                raise TarError("cut short in the middle of a member")
            return  # the zeros that end a tar; some writers leave them out
        size, kind = _checked(header, first, start)
        if kind not in (b"L", b"K", b"x", b"g") and b"size" in pax:
            size = _whole_number(pax[b"size"], 10, start)
        first = False
        if size > end - start - _BLOCK:
            raise TarError(f"truncated or damaged at byte {start:,}")
        content = start + _BLOCK
        start = content + -(-size // _BLOCK) * _BLOCK
        if kind in (b"L", b"K", b"x", b"g"):
            if size > MAX_HEADER:
                raise TarError(f"a header of {size:,} bytes at byte {content - _BLOCK:,}")
            if kind == b"L":
                long_name = _exactly(file, size).rstrip(b"\0")
            elif kind == b"x":
                pax = _pax_records(_exactly(file, size), content)
            continue
        name = pax.get(b"path", long_name)
        if name is None:
            name = _name(header)
        long_name, pax = None, {}
        found = _member(name.decode(errors="surrogateescape"), size, kind, file, skipped)
        if found is not None:
            yield found


def _member(name: str, size: int, kind: bytes, file: IO[bytes], skipped: Skipped) -> Member | None:
    """Return the member of a header, or None to skip it."""
    path = PurePosixPath(name)
    if kind == b"5" or name.endswith("/"):
        return None
    error = _KINDS.get(kind)
    if is_hidden(path.parts):
        skipped.hidden += not path.name.startswith("._")
        return None
    if error is None and (kind not in _FILES or not is_photo(path.name)):
        if kind in _FILES:
            skipped.add(path.name)
        return None
    if error is None and "\0" in name:
        error = "a null byte in its name"
    elif path.is_absolute() or ".." in path.parts:
        error = "its name leads outside the tar"
    elif error is None and size > MAX_BYTES:
        error = f"the file has {size:,} bytes: more than the {MAX_BYTES:,} allowed"
    return Member(name, size, error, file)


def _checked(header: bytes, first: bool, start: int) -> tuple[int, bytes]:
    """Verify the checksum of a header and return its size and type."""
    blank = header[:148] + b" " * 8 + header[156:]
    try:
        stated = _whole_number(header[148:156].strip(b" \0"), 8, start)
    except TarError:
        stated = -1
    if len(header) < _BLOCK or stated != sum(blank):
        raise TarError("not a tar file" if first else f"truncated or damaged at byte {start:,}")
    field = header[124:136]
    if field[0] & 0x80:  # GNU's way of writing 8 GiB and more
        size = int.from_bytes(field, "big") & (1 << 88) - 1
    else:
        size = _whole_number(field.strip(b" \0") or b"0", 8, start)
    kind = header[156:157]
    return (0 if kind in (b"1", b"2", b"3", b"4", b"5", b"6") else size), kind


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0]
    # GNU's format has times where ustar has the prefix of a long name.
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name


def _pax_records(content: bytes, start: int) -> dict[bytes, bytes]:
    """Parse pax records: total length, space, key, "=", value and line end."""
    records = {}
    at = number = 0
    while at < len(content) and content[at : at + 1] != b"\0":
        digits, blank, _ = content[at : at + 12].partition(b" ")
        length = _whole_number(digits, 10, start)
        record = content[at : at + length]
        if not blank or length <= len(digits) + 2 or not record.endswith(b"\n"):
            raise TarError(f"a damaged header at byte {start:,}")
        key, _, value = record[len(digits) + 1 : -1].partition(b"=")
        records[key] = value
        at += length
        number += 1
        if number > MAX_RECORDS:
            raise TarError(f"a header of more than {MAX_RECORDS:,} records at byte {start:,}")
    return records


def _whole_number(digits: bytes, base: int, start: int) -> int:
    if not digits.isdigit() or len(digits) > 20:
        raise TarError(f"a damaged header at byte {start:,}")
    try:
        return int(digits, base)
    except ValueError as error:
        raise TarError(f"a damaged header at byte {start:,}") from error


def _length(file: IO[bytes]) -> int:
    """Return the size of the file in bytes; a huge number for a compressed one."""
    if isinstance(file, gzip.GzipFile):
        return 2**62
    return file.seek(0, 2)


def _exactly(file: IO[bytes], size: int) -> bytes:
    try:
        content = file.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise TarError(f"the tar cannot be read: {error}") from error
    if len(content) < size:
        raise TarError("cut short in the middle of a member")
    return content

"""Checks of the zip archives of `torch.save`, before torch reads them.

torch writes uncompressed records, one after another, each with its CRC-32. But it reads any zip,
including compressed records that expand to gigabytes and records that overlap, and it verifies no
checksums. `records_of` accepts only archives as `torch.save` writes them, using the central
directory and the local headers. `damaged_records` verifies the checksums.
"""

import os
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from captioner.files.regular import open_regular

MAX_RECORDS = 20_000
"""Maximum number of records, one per tensor. A model of 1,000 tensors with Adam has 3,000."""

MAX_DIRECTORY = 2**23
"""Maximum size of the central directory, in bytes."""

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_LOCAL = struct.Struct("<4s5H3L2H")
_CHUNK = 2**20


class ArchiveError(ValueError):
    """An archive that was not written by `torch.save`, or is damaged."""


@dataclass(frozen=True)
class Record:
    """One stored record.

    Attributes:
        name: Name without the archive's top folder.
        start: Offset of the first byte in the file.
        size: Size in bytes.
        crc32: Stored checksum of its bytes.
    """

    name: str
    start: int
    size: int
    crc32: int


def records_of(file: BinaryIO) -> list[Record]:
    """Return the records of an archive, in file order.

    Raises:
        ArchiveError: A record is compressed or encrypted, records overlap, headers contradict each
            other, or there are too many records.
    """
    check_directory(file, MAX_RECORDS)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
            end = archive.start_dir
    except (zipfile.BadZipFile, NotImplementedError, struct.error, UnicodeError) as error:
        raise ArchiveError(f"not a whole archive: {error}") from None
    if len(entries) > MAX_RECORDS:
        raise ArchiveError(f"holds {len(entries):,} records, more than the {MAX_RECORDS:,} allowed")
    records = []
    free = 0  # first byte not used by a record
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ArchiveError(f"its record {entry.filename[:80]!r} is compressed")
        if entry.flag_bits & 1:
            raise ArchiveError(f"its record {entry.filename[:80]!r} is encrypted")
        start = _start_of(file, entry)
        if entry.header_offset < free or start + entry.file_size > end:
            raise ArchiveError(f"its record {entry.filename[:80]!r} shares bytes with another")
        free = start + entry.file_size
        name = entry.filename.partition("/")[2]
        records.append(Record(name, start, entry.file_size, entry.CRC))
    if len({entry.filename.lower() for entry in entries}) < len(entries):
        raise ArchiveError("two of its records have the same name")
    return records


def damaged_records(path: Path) -> list[str]:
    """Return the names of the records whose checksum does not match.

    This reads the whole file, about 1 s per gigabyte.

    Raises:
        ArchiveError: As in `records_of`.
        OSError: The file cannot be read.
    """
    damaged = []
    with open_regular(path) as file:
        for record in records_of(file):
            file.seek(record.start)
            left, crc = record.size, 0
            while left and (chunk := file.read(min(left, _CHUNK))):
                crc = zlib.crc32(chunk, crc)
                left -= len(chunk)
            if left or crc != record.crc32:
                damaged.append(record.name)
    return damaged


def checksums_of(path: Path) -> frozenset[tuple[int, int]]:
    """Return the stored size and CRC-32 of every record; empty for a file that is not a zip.

    Raises:
        ArchiveError: As in `records_of`.
        OSError: The file cannot be read.
    """
    with open_regular(path) as file:
        if file.read(2) != b"PK":
            return frozenset()
        return frozenset((record.size, record.crc32) for record in records_of(file))


def check_directory(file: IO[bytes], most: int) -> None:
    """Check that the central directory of a zip archive is small and unambiguous.

    The end record must be last in the file: if a comment follows, zip readers disagree about which
    end record is valid.

    Args:
        file: The archive.
        most: Maximum number of records.

    Raises:
        ArchiveError: It is not, or there is none.
    """
    size = file.seek(0, os.SEEK_END)
    tail_size = min(size, _END.size + _LOCATOR_64.size + _END_64.size)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    if len(tail) < _END.size:
        raise ArchiveError("not a whole archive: too short")
    end = _END.unpack(tail[-_END.size :])
    if end[0] != b"PK\x05\x06" or end[7] != 0:
        raise ArchiveError("not a whole archive: its end is missing")
    count, length, start = end[4], end[5], end[6]
    after = size - _END.size
    locator = tail[-_END.size - _LOCATOR_64.size : -_END.size]
    if locator.startswith(b"PK\x06\x07"):
        after -= _LOCATOR_64.size + _END_64.size
        wide = _END_64.unpack(tail[: _END_64.size]) if len(tail) == tail_size and after >= 0 else ()
        located = len(locator) == _LOCATOR_64.size and _LOCATOR_64.unpack(locator)[2] == after
        if not located or not wide or wide[0] != b"PK\x06\x06":
            raise ArchiveError("not a whole archive: its end contradicts itself")
        count, length, start = wide[7], wide[8], wide[9]
    if start + length != after:
        raise ArchiveError("not a whole archive: its directory is not where its end says")
    if count > most or length > min(MAX_DIRECTORY, most * 2**12):
        raise ArchiveError(f"holds {count:,} records, more than the {most:,} allowed")


def _start_of(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Return the offset of a record's data, from a local header that agrees with the directory."""
    file.seek(entry.header_offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\x03\x04"):
        raise ArchiveError(f"its record {entry.filename[:80]!r} is not where the directory says")
    fields = _LOCAL.unpack(header)
    name_size, extra_size = fields[9], fields[10]
    name = file.read(name_size)
    if fields[3] != zipfile.ZIP_STORED or name != entry.orig_filename.encode():
        raise ArchiveError(f"its record {entry.filename[:80]!r} has another header than it says")
    return entry.header_offset + _LOCAL.size + name_size + extra_size

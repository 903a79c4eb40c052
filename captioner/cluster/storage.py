"""Files on this machine or in object storage (`s3://`, `gs://`), by pyarrow's file systems.

Schemes that pyarrow does not know are opened by fsspec where it is installed. Names are taken
literally: `%` and spaces are part of a key. Options of a file system follow a question mark, as in
`s3://bucket/photos?endpoint_override=http://127.0.0.1:9000`.
"""

import fnmatch
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import pyarrow as pa
from pyarrow import fs

from captioner.errors import CaptionerError, UsageError

_URI = re.compile(r"([a-z][a-z0-9+.-]*)://([^?]*)(\?[A-Za-z_]+=.*)?", re.DOTALL)


def is_uri(name: str) -> bool:
    """Return whether a name is a URI such as `s3://bucket/key`.

    Example:
        >>> is_uri("s3://bucket/dog.jpg"), is_uri("photos/dog.jpg")
        (True, False)
    """
    return _URI.fullmatch(name) is not None


def divide(uri: str) -> tuple[str, str, str]:
    """Split a URI into scheme, path with the bucket, and options.

    Example:
        >>> divide("s3://bucket/a b.jpg?region=eu-west-1")
        ('s3', 'bucket/a b.jpg', '?region=eu-west-1')
    """
    found = _URI.fullmatch(uri)
    if found is None:
        raise UsageError(f"{uri}: not a URI such as s3://bucket/photos")
    return found[1], found[2], found[3] or ""


def without_options(name: str) -> str:
    """Return the name of a file for records: a URI without the options of its file system.

    Example:
        >>> without_options("s3://bucket/dog.jpg?region=eu-west-1"), without_options("dog.jpg")
        ('s3://bucket/dog.jpg', 'dog.jpg')
    """
    if not is_uri(name):
        return name
    scheme, path, _ = divide(name)
    return f"{scheme}://{path}"


def opened(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI, and the path in it.

    Raises:
        UsageError: The scheme is unknown or an option is wrong.
    """
    scheme, path, options = divide(uri)
    root = "" if scheme == "file" else path.split("/")[0]
    return _file_system(scheme, root, options), path


@cache
def _file_system(scheme: str, root: str, options: str) -> fs.FileSystem:
    uri = f"{scheme}://{root or '/'}{options}"
    try:
        return fs.FileSystem.from_uri(uri)[0]
    except (pa.ArrowException, ValueError, OSError) as error:
        other = _by_fsspec(scheme) if not options else None
        if other is not None:
            return other
        raise UsageError(f"{uri}: cannot be opened: {_short(error)}") from error


def _by_fsspec(scheme: str) -> fs.FileSystem | None:
    """Return a file system of fsspec, or None if it has none of that scheme."""
    try:
        import fsspec

        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))
    except (ImportError, ValueError):
        return None


@contextmanager
def readable(uri: str) -> Iterator[Any]:
    """Explain errors of a file system in one line.

    Raises:
        CaptionerError: Something in the block could not be read.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise CaptionerError(f"{uri}: no such file or folder") from error
    except (OSError, pa.ArrowException) as error:
        raise CaptionerError(f"{uri}: cannot be read: {_short(error)}") from error


def content(uri: str, limit: int) -> bytes:
    """Read a file.

    Args:
        uri: The file.
        limit: Most bytes to read; a larger file gives `limit + 1` bytes.

    Raises:
        CaptionerError: It cannot be read.
    """
    with readable(uri):
        system, path = opened(uri)
        with system.open_input_stream(path) as file:
            return cast("bytes", file.read(limit + 1))


def files_below(uri: str) -> list[str]:
    """Return the files of a folder and its subfolders, or the matches of a glob, sorted.

    A name that is a file returns itself; one that does not exist returns an empty list.

    Raises:
        CaptionerError: The folder cannot be listed.
    """
    scheme, path, options = divide(uri)
    wild = re.search(r"[*?\[]", path)
    base = path[: path.rfind("/", 0, wild.start())] if wild else path.rstrip("/")
    with readable(uri):
        system, _ = opened(uri)
        about = system.get_file_info(base)
        if about.type == fs.FileType.File:
            return [f"{scheme}://{base}{options}"]
        if about.type == fs.FileType.NotFound:
            return []
        selector = fs.FileSelector(base, recursive=True)
        found = [one.path for one in system.get_file_info(selector) if one.type == fs.FileType.File]
    if wild:
        found = [one for one in found if fnmatch.fnmatchcase(one, path)]
    return [f"{scheme}://{one}{options}" for one in sorted(found)]


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 240 else f"{text[:237]}..."

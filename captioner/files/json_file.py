"""Read untrusted text and JSON files with limits; errors are one line with the location."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captioner.errors import CaptionerError, UsageError
from captioner.files.regular import read_regular

MAX_BYTES = 2**30
"""Maximum size of an annotation file: twice COCO's largest. Parsed values may take 20 times it."""

MAX_SMALL_BYTES = 2**26
"""Maximum size of a JSON file written by this program: a description, a manifest, a header."""

MAX_DEPTH = 100
"""Maximum nesting depth of a JSON text."""


def read_bytes(file: Path, most: int = MAX_BYTES) -> bytes:
    """Read a regular file of at most `most` bytes as UTF-8 without a byte order mark.

    UTF-16 with a byte order mark is converted.

    Raises:
        UsageError: There is no such file.
        CaptionerError: It cannot be read, or is damaged UTF-16.
    """
    try:
        data = read_regular(file, most)
    except FileNotFoundError:
        raise UsageError(f"no annotation file {file}") from None
    except OSError as error:
        raise CaptionerError(f"{file}: cannot be read: {error.strerror or error}") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16").encode()
        except UnicodeDecodeError:
            raise CaptionerError(f"{file}: damaged UTF-16 text; save it as UTF-8") from None
    return data.removeprefix(b"\xef\xbb\xbf")


def read_json(file: Path, most: int = MAX_BYTES) -> object:
    """Read a JSON file of at most `most` bytes.

    Raises:
        UsageError: There is no such file.
        CaptionerError: It is not JSON. The message has line and column.
    """
    data = read_bytes(file, most)
    try:
        return parse_json(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CaptionerError(f"{file}, line {line}: not UTF-8") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise CaptionerError(f"{file}, {place}: not JSON: {error.msg}") from None
    except ValueError as error:
        raise CaptionerError(f"{file}: not JSON: {error}") from None


def parse_json(text: str) -> object:
    """Parse JSON nested at most `MAX_DEPTH` deep.

    Raises:
        ValueError: It is not JSON, or nested too deeply.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise ValueError("nested too deeply")
    return value


def _depth(value: object) -> int:
    """Return the nesting depth of lists and objects, without recursion."""
    depth = 0
    level: list[Any] = [value] if isinstance(value, (list, dict)) else []
    while level:
        depth += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (list, dict))
        ]
    return depth


def first_folder(candidates: Sequence[Path], what: str) -> Path:
    """Return the first existing folder.

    Raises:
        UsageError: None exists. The message lists them.
    """
    for folder in candidates:
        if folder.is_dir():
            return folder
    tried = ", ".join(str(folder) for folder in dict.fromkeys(candidates))
    raise UsageError(f"no folder with {what}: looked for {tried}; name it with data.images")


def as_list(value: object, file: Path, key: str) -> list[Any]:
    """Return the list under a key of a JSON object.

    Raises:
        CaptionerError: The value is not an object, or has no list under this key.
    """
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise CaptionerError(f'{file}: must be an object with a list "{key}"')
    return found

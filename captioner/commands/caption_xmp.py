"""`captioner caption --write-xmp`: write each caption into its photo, and keep a copy."""

import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.console import Progress, say, warn
from captioner.errors import CaptionerError, UsageError
from captioner.files.atomic import write_whole
from captioner.files.regular import read_regular
from captioner.photos.address import Address
from captioner.photos.limits import MAX_BYTES

if TYPE_CHECKING:
    from captioner.inference.result import PhotoCaptions
    from captioner.photos.inputs import PhotoInput
    from captioner.photos.source import PhotoSource

KEPT = "_original"
"""Appended to the name of the copy, as exiftool does."""

_OTHERS = ("output", "format", "devices", "share", "shard_size", "sidecar")


def add_xmp_argument(parser: ArgumentParser) -> None:
    """Add the flag."""
    parser.add_argument(
        "--write-xmp",
        action="store_true",
        help="write each caption into its JPEG as the XMP description; the file as it was is kept "
        f"as dog.jpg{KEPT}, and photos that have such a copy are skipped",
    )


def check_xmp_arguments(options: Namespace) -> None:
    """Check that no other output is wanted.

    Raises:
        UsageError: One is.
    """
    for name in _OTHERS if options.write_xmp else ():
        if getattr(options, name) is not None:
            raise UsageError(
                f"--{name.replace('_', '-')}: --write-xmp writes into the photos; leave one out"
            )


def write_descriptions(
    options: Namespace,
    photos: Iterator["PhotoInput"],
    caption: Callable[[Iterator["PhotoSource"]], Iterator["PhotoCaptions"]],
) -> int:
    """Caption the photos that have no copy yet, and write the captions; return the exit code."""
    counts = {"written": 0, "skipped": 0, "failed": 0}

    def fail(path: Path, reason: str) -> None:
        warn(f"{path}: {reason}")
        counts["failed"] += 1

    def left() -> Iterator["PhotoSource"]:
        for photo in photos:
            if isinstance(photo.path, Address) or photo.member is not None:
                fail(photo.path, "only a photo in a file of its own can hold its caption")
            elif photo.path.is_symlink():
                fail(photo.path, "a link; name the photo itself")
            elif _copy_of(photo.path).exists():
                counts["skipped"] += 1
            else:
                yield photo.source()

    with Progress("photos") as progress:
        for result in caption(left()):
            progress.update()
            try:
                if result.caption is None:
                    raise CaptionerError(str(result.error))
                describe(result.path, result.caption)
                counts["written"] += 1
            except CaptionerError as error:
                fail(result.path, str(error))
    say(
        f"{counts['written']:,} photos described, {counts['skipped']:,} skipped that had a copy, "
        f"{counts['failed']:,} failed"
    )
    if not any(counts.values()):
        raise CaptionerError("no photo found in the given paths")
    return 1 if counts["failed"] else 0


def describe(path: Path, text: str) -> None:
    """Write a description into a JPEG, after a copy of it is complete.

    Raises:
        CaptionerError: It is no JPEG, has XMP already, or cannot be read or written.
    """
    from captioner.photos.xmp import with_description

    try:
        before = read_regular(path, MAX_BYTES)
        after = with_description(before, text)
        copy = _copy_of(path)
        write_whole(copy, before)
        shutil.copystat(path, copy)
        write_whole(path, after)
        shutil.copymode(copy, path)
    except OSError as error:
        raise CaptionerError(f"cannot be described: {error.strerror or error}") from error


def _copy_of(path: Path) -> Path:
    return path.with_name(path.name + KEPT)

"""Flags that name photos, and the photos that they name."""

import argparse
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.console import Progress
from captioner.errors import CaptionerError, UsageError

if TYPE_CHECKING:
    from captioner.photos.inputs import PhotoInput


def add_input_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the flags that name photos, and return their group."""
    inputs = parser.add_argument_group("input")
    inputs.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="photos, folders, globs, COCO files, tars or ranges of tars (shards-{000..099}.tar); "
        "- reads paths from standard input, @F from file F",
    )
    inputs.add_argument(
        "--list", action="append", default=[], metavar="F", help="file with one path per line"
    )
    inputs.add_argument(
        "--images", metavar="FOLDER", help="photos of COCO files; default: search near each file"
    )
    inputs.add_argument(
        "--recursive",
        action="store_true",
        help="read the subfolders of folders; this is always done",
    )
    add_url_argument(inputs)
    return inputs


def add_url_argument(parser: argparse._ActionsContainer) -> None:
    """Add the flag that allows downloads."""
    parser.add_argument(
        "--allow-url",
        action="store_true",
        help="download photos given as https:// or http:// addresses, up to 64 MiB in 60 s each",
    )


def check_urls(names: Sequence[str], *, allowed: bool) -> None:
    """Check that the addresses among the arguments may be downloaded.

    Raises:
        UsageError: One may not.
    """
    from captioner.photos.address import refusal, scheme_of

    for name in names:
        reason = refusal(name, allowed=allowed) if scheme_of(name) else None
        if reason is not None:
            raise UsageError(f"{name}: {reason}")


def named_photos(
    options: Namespace, note: Callable[[str], None] = lambda sentence: None
) -> Iterator["PhotoInput"]:
    """Check the flags, and return the photos that they name, which are found one by one.

    Raises:
        UsageError: A list or folder does not exist, or an address may not be downloaded.
    """
    from captioner.photos.inputs import check_lists, expand
    from captioner.photos.lists import paths_of_stream

    check_lists(options.paths, options.list)
    check_urls(options.paths, allowed=options.allow_url)
    images = None if options.images is None else Path(options.images)
    if images is not None and not images.is_dir():
        raise UsageError(f"--images: no such folder: {images}")
    return expand(
        options.paths,
        paths_of_stream(sys.stdin),
        lists=options.list,
        images=images,
        allow_url=options.allow_url,
        note=note,
    )


@contextmanager
def counted(options: Namespace, progress: Progress) -> Iterator[None]:
    """Count the photos in the background, so that progress can estimate the remaining time.

    Standard input and tars are not counted, because that would read them twice.
    """
    ended = threading.Event()

    def count() -> None:
        with suppress(CaptionerError, OSError):  # captioning meets and reports the same error
            total = None
            for number, photo in enumerate(named_photos(options), 1):
                if photo.member is not None or ended.is_set():
                    return
                total = number
            progress.total = total

    if "-" not in options.paths and progress.is_shown:
        threading.Thread(target=count, daemon=True).start()
    try:
        yield
    finally:
        ended.set()

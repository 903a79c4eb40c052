"""`captioner caption --sidecar .txt`: each caption in a text file beside its photo."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.console import Progress, say, warn
from captioner.errors import CaptionerError, UsageError
from captioner.files.atomic import write_whole
from captioner.photos.address import Address
from captioner.photos.paths import HEIF_SUFFIXES, SUFFIXES

if TYPE_CHECKING:
    from captioner.inference.result import PhotoCaptions
    from captioner.photos.inputs import PhotoInput
    from captioner.photos.source import PhotoSource

NAMES = frozenset({"sidecar", "prefix", "suffix", "overwrite"})
"""The flags, as names of parsed arguments."""

Caption = Callable[[Iterator["PhotoSource"]], Iterable["PhotoCaptions"]]


def add_sidecar_arguments(parser: ArgumentParser) -> None:
    """Add the flags of sidecars."""
    group = parser.add_argument_group(
        "sidecars", "A text file beside each photo, as other tools read captions."
    )
    group.add_argument(
        "--sidecar",
        metavar=".txt",
        help="write dog.txt beside dog.jpg instead of to the terminal; photos that have one are "
        "skipped",
    )
    group.add_argument("--prefix", metavar="TEXT", help="before each caption in a sidecar")
    group.add_argument("--suffix", metavar="TEXT", help="after each caption in a sidecar")
    group.add_argument(
        "--overwrite", action="store_true", help="replace sidecars that are there already"
    )


def check_sidecar_arguments(options: Namespace) -> None:
    """Refuse flags that contradict one another.

    Raises:
        UsageError: The first contradiction, or an ending that is none.
    """
    ending = options.sidecar
    if ending is None:
        for name in ("prefix", "suffix", "overwrite"):
            if getattr(options, name):
                raise UsageError(f"--{name}: requires --sidecar .txt")
        return
    if len(ending) < 2 or not ending.startswith(".") or set(ending) & set("/\\\0"):
        raise UsageError(f"--sidecar: {ending!r} is no file name ending; write it as .txt")
    if ending.lower() in SUFFIXES | HEIF_SUFFIXES:
        raise UsageError(f"--sidecar: {ending} is the ending of photos, which it would replace")
    for name in ("output", "format", "devices", "shard_size"):
        if getattr(options, name) is not None:
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag}: sidecars are text files beside the photos; leave it out")


def write_sidecars(options: Namespace, photos: Iterator["PhotoInput"], caption: Caption) -> int:
    """Caption the photos that have no sidecar, and write one for each; returns the exit code."""
    sidecars = Sidecars(options)
    with Progress("photos") as progress:
        for result in caption(sidecars.missing(photos)):
            progress.update()
            sidecars.write(result)
    say(
        f"{sidecars.written:,} sidecars written, {sidecars.skipped:,} photos skipped that had one, "
        f"{sidecars.failed:,} photos failed"
    )
    if not sidecars.written + sidecars.skipped + sidecars.failed:
        raise CaptionerError("no photo found in what was named")
    return 1 if sidecars.failed else 0


class Sidecars:
    """The sidecars of one run.

    Args:
        options: The parsed arguments.

    Attributes:
        written: How many were written.
        skipped: Photos that had one.
        failed: Photos that have none now.
    """

    def __init__(self, options: Namespace) -> None:
        self.ending: str = options.sidecar
        self.prefix: str = options.prefix or ""
        self.suffix: str = options.suffix or ""
        self.overwrite: bool = options.overwrite
        self.written = self.skipped = self.failed = 0
        self._taken: dict[Path, Path] = {}  # sidecars of this run, and whose they are

    def missing(self, photos: Iterator["PhotoInput"]) -> Iterator["PhotoSource"]:
        """Yield the photos that are to be captioned."""
        for photo in photos:
            if isinstance(photo.path, Address):
                self._fail(photo.path, "an address has no folder for a sidecar")
                continue
            place = photo.path.with_suffix(self.ending)
            if photo.member is not None:
                self._fail(photo.path, "a member of a tar has no folder for a sidecar")
            elif place == photo.path:
                self._fail(photo.path, f"the sidecar {self.ending} would replace the photo")
            elif place in self._taken:
                if self._taken[place] != photo.path:
                    other = self._taken[place].name
                    self._fail(photo.path, f"{place.name} is the sidecar of {other} already")
            elif place.exists() and not self.overwrite:
                self.skipped += 1
            else:
                self._taken[place] = photo.path
                yield photo.source()

    def write(self, result: "PhotoCaptions") -> None:
        """Write one sidecar."""
        if result.caption is None:
            self._fail(result.path, str(result.error))
            return
        place = result.path.with_suffix(self.ending)
        try:
            write_whole(place, f"{self.prefix}{result.caption}{self.suffix}\n")
        except CaptionerError as error:
            self._fail(result.path, str(error))
            return
        self.written += 1

    def _fail(self, path: Path, reason: str) -> None:
        warn(f"{path}: {reason}")
        self.failed += 1

"""Pictures that `caption` writes besides its records: figures of attention, and a gallery."""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.errors import UsageError
from captioner.files.atomic import check_folder

if TYPE_CHECKING:
    from captioner.inference.result import PhotoCaptions
    from captioner.photos.source import PhotoSource

FIGURE_SIDE = 640
"""Longest side, in pixels, of the photo copies that figures are drawn on."""

THUMBNAIL_SIDE = 256
"""The same for a gallery without figures."""


def add_picture_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags for figures and gallery."""
    group = parser.add_argument_group("pictures")
    group.add_argument(
        "--attention",
        action="store_true",
        help="add the photo regions that each word attends to; needs --format jsonl; "
        "--attention out/ is short for --attention-figures out/",
    )
    group.add_argument(
        "--attention-figures",
        metavar="FOLDER",
        help="draw the attention of each word: one PNG per photo, with --n-best per caption",
    )
    group.add_argument(
        "--gallery",
        metavar="F",
        help="write one HTML page with thumbnails and captions, which opens without a network",
    )


def with_figures(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse arguments in which `--attention` may name a folder of figures.

    `--attention` alone takes no value, and a photo or a folder of photos may follow it. The next
    argument is the folder of figures if it ends in a slash, other photos are named, and it contains
    no photos except figures.
    """
    rewritten = list(arguments)
    end = rewritten.index("--") if "--" in rewritten else len(rewritten)
    for i, following in enumerate(rewritten[1:end]):
        if rewritten[i] == "--attention" and following.endswith("/") and not _has_photos(following):
            rewritten[i] = "--attention-figures"
    options = parser.parse_args(rewritten)
    if rewritten != list(arguments) and not (options.paths or options.list):
        return parser.parse_args(list(arguments))
    return options


def _has_photos(folder: str) -> bool:
    """Return whether a folder, at any depth, contains a photo that is not one of our figures."""
    if not Path(folder).is_dir():
        return False
    from captioner.analysis.figure_files import ATTENTION
    from captioner.photos.folders import Skipped, files_below

    names = (one.path.name for one in files_below(Path(folder), Skipped()))
    return any(not name.endswith(ATTENTION) for name in names)


def check_picture_arguments(options: argparse.Namespace) -> None:
    """Check the flags before any work.

    Raises:
        UsageError: The folder of figures is a file, or the gallery cannot be written, or the run
            writes a folder of captions.
    """
    figures = options.attention_figures
    if figures is not None and Path(figures).exists() and not Path(figures).is_dir():
        raise UsageError(f"--attention-figures: {figures} is a file; name a folder")
    check_folder(options.gallery, "--gallery")
    to_folder = options.shard_size is not None or (options.output or "").endswith("/")
    if options.gallery is not None and to_folder:
        raise UsageError(
            f"--gallery: {options.output} is a folder of captions, which may hold millions; name "
            "a file with --output, or remove it"
        )


def with_what_is_drawn(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options of a predictor that adds what the pictures need."""
    if options.attention_figures is not None:
        return argparse.Namespace(**vars(options) | {"attention": True, "preview": FIGURE_SIDE})
    if options.gallery is not None:
        return argparse.Namespace(**vars(options), preview=THUMBNAIL_SIDE)
    return options


def with_pictures(
    options: argparse.Namespace, captioned: Iterator["PhotoCaptions"]
) -> Iterator["PhotoCaptions"]:
    """Draw the pictures, and yield each caption once its figure exists."""
    if options.attention_figures is not None:
        from captioner.analysis.figure_files import draw_all

        captioned = draw_all(captioned, Path(options.attention_figures), keep=options.attention)
    if options.gallery is not None:
        from captioner.pages.gallery import gathered

        captioned = gathered(captioned, options.gallery)
    return captioned


def write_gallery(
    page: str,
    sources: Iterable["PhotoSource"],
    records: Iterable[Mapping[str, Any]],
) -> None:
    """Write the gallery of a run that resumes, once all its captions are known."""
    from captioner.pages.gallery import gathered_from_records

    gathered_from_records(zip(sources, records, strict=False), page)

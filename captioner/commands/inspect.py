"""`captioner inspect`: draw what happens in the recurrence while a caption is written."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.commands.input_flags import add_url_argument, check_urls
from captioner.commands.parser import CHECKPOINT_HELP, Parser, positive
from captioner.config.schema import DEFAULT_CHECKPOINT
from captioner.console import say, warn
from captioner.errors import CaptionerError, UsageError

if TYPE_CHECKING:
    from captioner.checkpoint.file import Checkpoint
    from captioner.inference.predictor import Predictor
    from captioner.photos.source import PhotoSource

ENDING = ".inspect.png"
"""File name suffix of a page; its SVG and its numbers differ only in the last part."""


def run(arguments: list[str]) -> int:
    """Write a page and its numbers for each photo."""
    options = build_parser().parse_args(arguments)
    folder = Path(options.output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output: {folder} is a file; name a folder")
    check_urls(options.paths, allowed=options.allow_url)

    from captioner import checkpoint
    from captioner.analysis.figure_files import make_folder
    from captioner.device import choose_device
    from captioner.inference.predictor import Predictor
    from captioner.inference.strategy import Strategy
    from captioner.photos.inputs import expand
    from captioner.photos.lists import paths_of_stream

    named = expand(options.paths, paths_of_stream(sys.stdin), allow_url=options.allow_url)
    sources = [photo.source() for photo in named]
    if not sources:
        raise CaptionerError("no photo found in the given paths")
    trained = checkpoint.load(Path(options.checkpoint))
    if trained.reads_regions:
        raise UsageError(
            f"inspect: {trained.path} was trained on a detector's region features; inspect shows "
            "checkpoints that encode photos themselves"
        )
    search = {} if options.beam_size is None else {"beam_size": options.beam_size}
    predictor = Predictor(trained, choose_device(options.device), Strategy.of(trained, search))
    make_folder(folder)
    errors = 0
    for source in sources:
        try:
            page = _inspect(predictor, trained, source, folder, options.caption)
            say(f"{page}, also as SVG, and the numbers as JSON")
        except CaptionerError as error:
            if isinstance(error, UsageError) or len(sources) == 1:
                raise
            warn(str(error))
            errors += 1
    return 1 if errors else 0


def build_parser() -> argparse.ArgumentParser:
    """The flags of the command."""
    parser = Parser(
        prog="captioner inspect",
        description="Draw what happens in the recurrence while a photo's caption is written, word "
        "by word: gates, state norms, image reach, the probability and entropy of each word with "
        "its rivals, and attention if the network has it. Writes one page per photo as PNG and "
        "SVG, and the numbers as JSON.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="photos, folders, globs")
    add_url_argument(parser)
    parser.add_argument(
        "--checkpoint",
        default=DEFAULT_CHECKPOINT,
        metavar="P",
        help=f"{CHECKPOINT_HELP}; default: {DEFAULT_CHECKPOINT}",
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder of the pages")
    parser.add_argument(
        "--caption",
        metavar="TEXT",
        help="inspect this caption; default: the one that the search finds",
    )
    parser.add_argument(
        "--beam-size", type=positive, metavar="N", help="default: the checkpoint's setting"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    return parser


def _inspect(
    predictor: "Predictor",
    trained: "Checkpoint",
    source: "PhotoSource",
    folder: Path,
    caption: str | None,
) -> Path:
    """Write the files of one photo, and return the page's path.

    Raises:
        CaptionerError: The photo cannot be read, or a file cannot be written.
    """
    import torch

    from captioner.analysis.attention_figure import scaled
    from captioner.analysis.figure_files import figure_path, write_figure
    from captioner.analysis.recurrence import as_plain, inspect_words
    from captioner.analysis.recurrence_figure import recurrence_figure
    from captioner.commands.picture_flags import FIGURE_SIDE
    from captioner.display import json_line
    from captioner.files.atomic import write_whole
    from captioner.inference.result import grid_of
    from captioner.photos.source import read_pixels

    read = read_pixels(source, [trained.transform], FIGURE_SIDE)
    if isinstance(read, str):
        raise CaptionerError(f"{source.path}: {read}")
    assert read.preview is not None
    captioner = trained.captioner
    words, text = _words(predictor, trained, source, caption)
    pixels = torch.from_numpy(read.pixels[0])[None].to(predictor.device)
    with torch.no_grad():
        (features,) = captioner.encoder(pixels)
    steps = inspect_words(captioner, trained.vocabulary, features, words)
    content: dict[str, Any] = {
        "image": str(source.path),
        "checkpoint": str(trained.path),
        "caption": text,
        "backward": captioner.backward,
        "cell": trained.config.decoder.cell,
        "place": trained.config.decoder.place,
        "words": as_plain(steps),
    }
    grid, box = None, trained.transform.box(*read.size)
    if features.dim() == 2:
        grid = grid_of(len(features))
        content |= {"grid": list(grid), "size": list(read.size), "box": list(box)}
    height, width = read.preview.shape[:2]
    page = recurrence_figure(
        steps,
        read.preview,
        text,
        grid=grid,
        box=scaled(box, width / read.size[0], height / read.size[1]),
    )
    path = figure_path(folder, source.path, ENDING)
    write_whole(path.with_suffix(".json"), json_line(content, indent=1) + "\n")
    write_whole(path.with_suffix(".svg"), page["svg"])
    write_figure(path, page["png"], source.path)
    return path


def _words(
    predictor: "Predictor", trained: "Checkpoint", source: "PhotoSource", caption: str | None
) -> tuple[list[int], str]:
    """Return the ids of the caption's words, in the captioner's word order, and its text."""
    from captioner.text.vocabulary import END

    vocabulary = trained.vocabulary
    if caption is not None:
        ids = vocabulary.encode(caption)
        if not ids:
            raise UsageError("--caption: there is no word in it")
        ended, text = True, vocabulary.decode(ids)
    else:
        found = predictor.caption(source)
        if found.error is not None:
            raise CaptionerError(f"{source.path}: {found.error}")
        known = {word: i for i, word in enumerate(vocabulary.words)}
        ids, text = [known[word] for word in found.candidates[0].words], found.caption or ""
        ended = ids[-1] == END
        ids = ids[:-1] if ended else ids
    if trained.captioner.backward:
        ids.reverse()
    return [*ids, END] if ended else ids, text

"""`captioner caption`: caption photos, on the terminal, in a file, or in a folder of shards."""

import argparse
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import IO, TYPE_CHECKING, Any

from captioner.commands import caption_sidecars as sidecars
from captioner.commands.caption_devices import caption_on_all
from captioner.commands.input_flags import add_input_arguments, counted, named_photos
from captioner.commands.parser import Parser, not_negative, positive
from captioner.commands.picture_flags import (
    add_picture_arguments,
    check_picture_arguments,
    with_figures,
    with_pictures,
    with_what_is_drawn,
)
from captioner.commands.predictor_flags import add_regions_flag, add_run_arguments, load_predictor
from captioner.commands.search_flags import (
    add_search_arguments,
    captions_a_photo,
    check_search_arguments,
)
from captioner.config.schema import DEFAULT_CHECKPOINT
from captioner.console import Progress, say, warn
from captioner.errors import CaptionerError, UsageError
from captioner.files.atomic import check_folder, is_stream
from captioner.inference.draft import Draft
from captioner.inference.shards import Manifest, Shard, lock_folder, write_shards
from captioner.inference.writers import (
    FORMATS,
    RecordWriter,
    output_stream,
    standard_output,
)

if TYPE_CHECKING:
    from captioner.inference.predictor import Predictor
    from captioner.inference.result import PhotoCaptions
    from captioner.photos.source import PhotoSource

SHARD_SIZE = 10_000
"""Default number of photos per file in a folder of captions."""

_NOT_OF_THE_TEXT = frozenset(
    {"paths", "list", "images", "checkpoint", "backward", "format", "output", "shard_size"}
    | {"batch_size", "device", "devices", "workers", "gallery", "allow_url"}
    | sidecars.NAMES
)
"""Flags that do not affect a caption, or that the manifest records separately."""


def run(arguments: list[str]) -> int:
    """Caption each photo; return 1 if a photo could not be captioned, otherwise 0."""
    options = with_figures(build_parser(), arguments)
    options.checkpoint = options.checkpoint or [DEFAULT_CHECKPOINT]
    check_search_arguments(options, len(options.checkpoint))
    several = captions_a_photo(options)
    to_folder = _wants_folder(options)
    sidecars.check_sidecar_arguments(options)
    options.format = options.format or ("jsonl" if to_folder else "text")
    if several > 1 and options.format != "jsonl":
        raise UsageError(
            f"caption: --format {options.format} holds one caption per photo, not {several}; "
            f"use --format jsonl"
        )
    if options.attention and options.format != "jsonl":
        held = f"--format {options.format} cannot hold --attention"
        raise UsageError(f"caption: {held}; use --format jsonl")
    check_picture_arguments(options)
    if not options.paths and not options.list:
        raise UsageError("caption: no photo given; add PATH, or a list of paths with --list F")
    if to_folder:
        named_photos(options)  # fails if an input does not exist
        return _caption_to_folder(options)
    if options.devices is not None:
        raise UsageError("--devices: several devices write a folder; add --output FOLDER/")

    named_photos(options)  # fails if an input does not exist
    if options.sidecar is not None:
        caption = partial(_caption, _predictor(options), options)
        return sidecars.write_sidecars(options, named_photos(options, say), caption)
    if options.output is None:
        with standard_output() as stream:
            return _caption_to_stream(options, stream)
    check_folder(options.output, "--output")
    if is_stream(Path(options.output)):
        with output_stream(options.output) as stream:
            return _caption_to_stream(options, stream)
    return _caption_to_file(options)


def build_parser() -> argparse.ArgumentParser:
    """The flags of the command."""
    parser = Parser(
        prog="captioner caption",
        description="Write one caption per photo, in input order. An unreadable photo gets a "
        "record with the reason instead, and the exit code is 1.",
    )
    inputs = add_input_arguments(parser)
    output = parser.add_argument_group("output")
    inputs.add_argument(
        "--checkpoint",
        action="append",
        metavar="P",
        help="trained checkpoint, exported folder or name of a pretrained captioner; repeat it "
        f"for an ensemble; default: {DEFAULT_CHECKPOINT}",
    )
    add_regions_flag(inputs)
    output.add_argument(
        "--format", choices=FORMATS, help="default: text; jsonl if --output is a folder"
    )
    output.add_argument(
        "--output",
        metavar="F",
        help="write to file F, or to a folder of JSON Lines files if F ends with a slash; rerun "
        "the same command to resume; default: the terminal",
    )
    output.add_argument(
        "--shard-size",
        type=positive,
        metavar="N",
        help=f"photos per file of that folder; default: {SHARD_SIZE}",
    )
    parser.add_argument(
        "--workers",
        type=not_negative,
        default=0,
        metavar="N",
        help="processes per device that read photos ahead; default: 0 (threads read them)",
    )
    parser.add_argument(
        "--devices", metavar="0,1,…", help="GPUs that share the work; needs --output FOLDER/"
    )
    sidecars.add_sidecar_arguments(parser)
    add_picture_arguments(parser)
    add_run_arguments(parser)
    add_search_arguments(parser)
    return parser


def _wants_folder(options: Namespace) -> bool:
    folder = options.shard_size is not None or (options.output or "").endswith("/")
    if not folder:
        return False
    if options.output is None:
        raise UsageError("--shard-size: needs a folder; add --output FOLDER/")
    if options.format not in (None, "jsonl"):
        raise UsageError(
            f"--format {options.format}: a folder of captions holds JSON Lines; remove --format"
        )
    return True


def _lists_candidates(options: Namespace) -> bool:
    return options.n_best is not None or captions_a_photo(options) > 1


def _caption(
    predictor: "Predictor", options: Namespace, sources: Iterator["PhotoSource"]
) -> Iterator["PhotoCaptions"]:
    found = predictor.caption(sources, batch_size=options.batch_size, workers=options.workers)
    return with_pictures(options, found)


def _predictor(options: Namespace) -> "Predictor":
    return load_predictor(with_what_is_drawn(options))


def _caption_to_stream(options: Namespace, stream: IO[str]) -> int:
    """Write each record as soon as it is available."""
    errors = 0
    predictor = _predictor(options)
    writer = RecordWriter(stream, options.format, candidates=_lists_candidates(options))
    scrolling = options.output is None and stream.isatty()  # the records themselves show progress
    with Progress("photos", shown=not scrolling) as progress, counted(options, progress):
        sources = (one.source() for one in named_photos(options, say))
        for result in _caption(predictor, options, sources):
            writer.write(result)
            progress.update()
            if result.error is not None:
                errors += 1
                if options.format == "coco":
                    warn(f"{result.path}: {result.error}")
        if progress.count:
            writer.finish()
    _tell_of_names(writer)
    return _ending(progress.count, errors)


def _caption_to_file(options: Namespace) -> int:
    """Append each record to a draft, which a rerun resumes from; finally write the file."""
    with Draft(Path(options.output), _recipe(options), batch_size=options.batch_size) as draft:
        if draft.count:
            say(f"{draft.path} already holds {draft.count:,} photos; resuming after them")
        predictor = _predictor(options)
        with (
            resumable(lambda: draft.count, draft.path),
            Progress("photos", done=draft.count) as progress,
            counted(options, progress),
        ):
            for result in draft.caption(
                named_photos(options, say),
                lambda sources: _caption(predictor, options, sources),
                candidates=_lists_candidates(options),
            ):
                progress.update()
                if result.error is not None:
                    warn(f"{result.path}: {result.error}")
            if draft.count:
                _tell_of_names(draft.finish(options.format))
        return _ending(draft.count, draft.errors)


@contextmanager
def resumable(count: Callable[[], int], place: Path) -> Iterator[None]:
    """On an interrupt, report how many photos are saved and how to resume."""
    try:
        yield
    except KeyboardInterrupt:
        if not count():
            raise
        kept = f"{count():,} photos are saved in {place}"
        raise KeyboardInterrupt(f"{kept}; rerun the same command to resume") from None


def _tell_of_names(writer: RecordWriter) -> None:
    if writer.renamed:
        warn(
            f"{writer.renamed:,} photos have the same file name as another; their image_id is "
            "their path"
        )
    if writer.repeated:
        warn(f"{writer.repeated:,} photos were named more than once; the COCO file has each once")


def _ending(count: int, errors: int) -> int:
    if count == 0:
        raise CaptionerError("no photo found in the given paths")
    if errors:
        warn(f"{errors:,} of {count:,} photos could not be captioned")
    return 1 if errors else 0


# A folder of shards


def _caption_to_folder(options: Namespace) -> int:
    devices = _devices(options)
    folder = Path(options.output)
    with lock_folder(folder):
        manifest = Manifest.begin(folder, _recipe(options), options.shard_size or SHARD_SIZE)
        if manifest.shards:
            say(f"{folder} already holds {_done(manifest):,} photos")
        with resumable(lambda: _done(manifest), folder):
            if len(devices) == 1:
                options.device = devices[0]
                count = _caption_share(options, manifest, 0, 1, manifest.add)
            else:
                count = caption_on_all(_caption_share, options, manifest, devices)
            manifest.complete(count)
    return _ending(count, sum(shard.errors for shard in manifest.shards.values()))


def _done(manifest: Manifest) -> int:
    return sum(shard.count for shard in manifest.shards.values())


def _recipe(options: Namespace) -> dict[str, Any]:
    """Return the settings that captions depend on; a draft or folder with others cannot resume."""
    from captioner.checkpoint.file import file_digest

    chosen = {name: value for name, value in vars(options).items() if name not in _NOT_OF_THE_TEXT}
    for name in ("attention", "attention_figures", "regions"):  # older drafts stay resumable
        if not chosen[name]:
            del chosen[name]
    paths = [*options.checkpoint, *([] if options.backward is None else [options.backward])]
    return {
        "inputs": [*options.paths, *(f"@{name}" for name in options.list)],
        "options": chosen,
        "checkpoints": [file_digest(Path(path)) for path in paths],
    }


def _devices(options: Namespace) -> list[str]:
    if options.devices is None:
        return [options.device]
    names = [name.strip() for name in options.devices.split(",")]
    if not all(names):
        raise UsageError(f"--devices {options.devices!r}: expected GPU numbers such as 0,1")
    if "-" in options.paths and len(names) > 1:
        raise UsageError("--devices: several cannot share standard input; use --list F instead")
    return [f"cuda:{name}" if name.isdigit() else name for name in names]


def _caption_share(
    options: Namespace,
    manifest: Manifest,
    rank: int,
    ranks: int,
    finished: Callable[[int, Shard], None],
) -> int:
    """Write every `ranks`-th file, starting at `rank`; return the total number of photos."""
    began = perf_counter()
    written = 0
    predictor: Predictor | None = None

    def caption(sources: Iterator["PhotoSource"]) -> Iterator["PhotoCaptions"]:
        nonlocal began, written, predictor
        first = next(sources, None)
        if first is None:  # everything is done, so no network is loaded
            return
        predictor = _predictor(options)
        began = perf_counter()
        # With several processes, the one that starts them shows the progress of all.
        progress = Progress("photos", done=_done(manifest), shown=ranks == 1)
        with progress, counted(options, progress):
            for one in _caption(predictor, options, chain([first], sources)):
                written += 1
                progress.update()
                yield one

    count = write_shards(
        named_photos(options, say) if rank == 0 else named_photos(options),
        caption,
        manifest,
        mine=lambda index: index % ranks == rank,
        candidates=_lists_candidates(options),
        finished=finished,
    )
    if predictor is not None:
        seconds = perf_counter() - began
        encoding, searching = predictor.seconds.encoding, predictor.seconds.searching
        rest = seconds - encoding - searching
        say(
            f"{written:,} photos in {seconds:.1f} s on {predictor.device}: encoder "
            f"{encoding / seconds:.0%}, search {searching / seconds:.0%}, waiting for photos and "
            f"writing {rest / seconds:.0%}"
        )
    return count

"""`captioner caption`: caption photos, on the terminal, in a file, or in a folder of shards."""

import argparse
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from captioner.commands import caption_cluster as cluster
from captioner.commands import caption_sidecars as sidecars
from captioner.commands import caption_xmp as xmp
from captioner.commands.caption_folder import caption_to_folder
from captioner.commands.caption_run import (
    SHARD_SIZE,
    caption_all,
    ending,
    lists_candidates,
    predictor_of,
    recipe_of,
    resumable,
    tell_of_names,
)
from captioner.commands.input_flags import add_input_arguments, counted, named_photos
from captioner.commands.parser import CHECKPOINT_HELP, Parser, not_negative, positive
from captioner.commands.picture_flags import (
    add_picture_arguments,
    check_picture_arguments,
    with_figures,
    write_gallery,
)
from captioner.commands.predictor_flags import add_regions_flag, add_run_arguments
from captioner.commands.runtime_flags import add_runtime_argument, check_runtime_arguments
from captioner.commands.search_flags import (
    add_search_arguments,
    captions_a_photo,
    check_search_arguments,
)
from captioner.config.schema import DEFAULT_CHECKPOINT
from captioner.console import Progress, say, warn
from captioner.errors import UsageError
from captioner.files.atomic import check_folder, is_stream
from captioner.inference.draft import Draft
from captioner.inference.writers import (
    FORMATS,
    RecordWriter,
    output_stream,
    standard_output,
)

if TYPE_CHECKING:
    pass


def run(arguments: list[str]) -> int:
    """Caption each photo; return 1 if a photo could not be captioned, otherwise 0."""
    options = with_figures(build_parser(), arguments)
    options.checkpoint = options.checkpoint or [DEFAULT_CHECKPOINT]
    check_search_arguments(options, len(options.checkpoint))
    check_runtime_arguments(options)
    several = captions_a_photo(options)
    cluster.check_cluster_arguments(options)
    to_folder = _wants_folder(options)
    sidecars.check_sidecar_arguments(options)
    xmp.check_xmp_arguments(options)
    options.format = options.format or ("jsonl" if to_folder else "text")
    if several > 1 and options.format not in ("jsonl", "parquet"):
        raise UsageError(
            f"caption: --format {options.format} holds one caption per photo, not {several}; "
            f"use --format jsonl"
        )
    if options.attention and options.format not in ("jsonl", "parquet"):
        held = f"--format {options.format} cannot hold --attention"
        raise UsageError(f"caption: {held}; use --format jsonl")
    check_picture_arguments(options)
    if not options.paths and not options.list:
        raise UsageError("caption: no photo given; add PATH, or a list of paths with --list F")
    if options.engine == "ray":
        return cluster.caption_on_ray(options)
    if to_folder:
        named_photos(options)  # fails if an input does not exist
        return caption_to_folder(options)
    if options.devices is not None:
        raise UsageError("--devices: several devices write a folder; add --output FOLDER/")
    if options.share is not None:
        raise UsageError("--share: shares write one folder; add --output FOLDER/")

    named_photos(options)  # fails if an input does not exist
    if options.write_xmp:
        caption = partial(caption_all, predictor_of(options), options)
        return xmp.write_descriptions(options, named_photos(options, say), caption)
    if options.sidecar is not None:
        caption = partial(caption_all, predictor_of(options), options)
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
        help=f"{CHECKPOINT_HELP}; repeat it for an ensemble; default: {DEFAULT_CHECKPOINT}",
    )
    add_regions_flag(inputs)
    output.add_argument(
        "--format",
        choices=(*FORMATS, "parquet"),
        help="default: text; jsonl if --output is a folder; parquet needs --engine ray",
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
    parser.add_argument(
        "--share",
        metavar="I/N",
        help="write every N-th file of --output FOLDER/ from the I-th; other processes write the "
        "rest, and `captioner merge` joins them",
    )
    sidecars.add_sidecar_arguments(parser)
    xmp.add_xmp_argument(parser)
    cluster.add_cluster_arguments(parser)
    add_picture_arguments(parser)
    add_run_arguments(parser)
    add_runtime_argument(parser)
    add_search_arguments(parser)
    return parser


def _wants_folder(options: Namespace) -> bool:
    if options.engine == "ray":
        return True
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


def _caption_to_stream(options: Namespace, stream: IO[str]) -> int:
    """Write each record as soon as it is available."""
    errors = 0
    predictor = predictor_of(options)
    writer = RecordWriter(stream, options.format, candidates=lists_candidates(options))
    scrolling = options.output is None and stream.isatty()  # the records themselves show progress
    with Progress("photos", shown=not scrolling) as progress, counted(options, progress):
        sources = (one.source() for one in named_photos(options, say))
        for result in caption_all(predictor, options, sources):
            writer.write(result)
            progress.update()
            if result.error is not None:
                errors += 1
                if options.format == "coco":
                    warn(f"{result.path}: {result.error}")
        if progress.count:
            writer.finish()
    tell_of_names(writer)
    return ending(progress.count, errors)


def _caption_to_file(options: Namespace) -> int:
    """Append each record to a draft, which a rerun resumes from; finally write the file."""
    page, options = options.gallery, Namespace(**vars(options) | {"gallery": None})
    with Draft(Path(options.output), recipe_of(options), batch_size=options.batch_size) as draft:
        if draft.count:
            say(f"{draft.path} already holds {draft.count:,} photos; resuming after them")
        predictor = predictor_of(options)
        with (
            resumable(lambda: draft.count, draft.path),
            Progress("photos", done=draft.count) as progress,
            counted(options, progress),
        ):
            for result in draft.caption(
                named_photos(options, say),
                lambda sources: caption_all(predictor, options, sources),
                candidates=lists_candidates(options),
            ):
                progress.update()
                if result.error is not None:
                    warn(f"{result.path}: {result.error}")
            if draft.count and page is not None:  # of this run's photos and those before it
                write_gallery(
                    page, (one.source() for one in named_photos(options)), draft.records()
                )
            if draft.count:
                tell_of_names(draft.finish(options.format))
        return ending(draft.count, draft.errors)

"""`captioner caption`: photos to captions, on the terminal, in a file, or in a folder of shards."""

import argparse
import multiprocessing
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import Empty
from time import perf_counter
from typing import TYPE_CHECKING, Any

from captioner.commands.parser import Parser, not_negative, positive
from captioner.commands.predictor_flags import add_run_arguments, load_predictor
from captioner.commands.search_flags import (
    add_search_arguments,
    captions_a_photo,
    check_search_arguments,
)
from captioner.display import one_line
from captioner.errors import CaptionerError, UsageError
from captioner.inference.shards import Manifest, Shard, lock_folder, write_shards
from captioner.inference.writers import FORMATS, RecordWriter, destination

if TYPE_CHECKING:
    from captioner.inference.predictor import Predictor
    from captioner.inference.result import Captioned
    from captioner.photos.inputs import PhotoInput
    from captioner.photos.source import PhotoSource

SHARD_SIZE = 10_000
"""Photos a file of a folder of captions, if not given."""

_NOT_OF_THE_TEXT = frozenset(
    {"paths", "list", "images", "checkpoint", "backward", "format", "output", "shard_size"}
    | {"batch_size", "device", "devices", "workers"}
)
"""Flags that do not decide what a photo's caption is, or stand in the manifest on their own."""


def run(arguments: list[str]) -> int:
    """`captioner caption`: a caption for each photo."""
    options = _parser().parse_args(arguments)
    check_search_arguments(options, len(options.checkpoint))
    several = captions_a_photo(options)
    to_folder = _wants_folder(options)
    options.format = options.format or ("jsonl" if to_folder else "text")
    if several > 1 and options.format != "jsonl":
        raise UsageError(
            f"caption: --format {options.format} holds one caption a photo, not {several}; "
            f"use --format jsonl"
        )
    if options.attention and options.format != "jsonl":
        raise UsageError(
            f"caption: --format {options.format} does not hold --attention; use --format jsonl"
        )
    if not options.paths and not options.list:
        raise UsageError("caption: no photo is named; give PATH, or a list of paths: --list F")
    if to_folder:
        return _caption_to_folder(options)
    if options.devices is not None:
        raise UsageError("--devices: several write a folder of files; add --output FOLDER/")

    unreadable = count = 0
    photos = _photos(options, _say)
    predictor = load_predictor(options)
    with destination(options.output) as file:
        writer = RecordWriter(file, options.format, candidates=_lists_candidates(options))
        for captioned in _caption(predictor, options, (photo.source() for photo in photos)):
            writer.write(captioned)
            count += 1
            if captioned.error is not None:
                unreadable += 1
                if options.format == "coco" or options.output:
                    message = one_line(f"{captioned.path}: {captioned.error}")
                    print(f"captioner: {message}", file=sys.stderr)
        writer.finish()
        return _ending(count, unreadable)  # in here: where nothing was found nothing is written


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="captioner caption",
        description="Write a caption for each photo, in the order given. A photo that cannot be "
        "read gets a record with the reason, and the exit code is 1.",
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="photos, folders, globs, COCO files, tars and ranges of them (shards-{000..099}.tar); "
        "- and @F read a list of paths",
    )
    parser.add_argument(
        "--list", action="append", default=[], metavar="F", help="file with a path a line"
    )
    parser.add_argument(
        "--images", metavar="FOLDER", help="photos of COCO files; default: looked for near them"
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        required=True,
        metavar="P",
        help="trained checkpoint; several are an ensemble",
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="default: text; jsonl where the output is a folder"
    )
    parser.add_argument(
        "--output",
        metavar="F",
        help="write there instead of to the terminal; with a slash at its end a folder of JSON "
        "Lines files, which the same command goes on with where it was killed",
    )
    parser.add_argument(
        "--shard-size",
        type=positive,
        metavar="N",
        help=f"photos a file of that folder; default: {SHARD_SIZE}",
    )
    parser.add_argument(
        "--workers",
        type=not_negative,
        default=0,
        metavar="N",
        help="processes that read photos ahead (of each device); default: 0, which is threads",
    )
    parser.add_argument(
        "--devices", metavar="0,1,…", help="GPUs that share the files of the folder"
    )
    parser.add_argument(
        "--attention",
        action="store_true",
        help="add to each record of JSON Lines which regions of the photo each word looked at",
    )
    add_run_arguments(parser)
    add_search_arguments(parser)
    return parser


def _wants_folder(options: Namespace) -> bool:
    folder = options.shard_size is not None or (options.output or "").endswith("/")
    if not folder:
        return False
    if options.output is None:
        raise UsageError("--shard-size: name the folder of the files: --output FOLDER/")
    if options.format not in (None, "jsonl"):
        raise UsageError(
            f"--format {options.format}: a folder of captions holds JSON Lines; leave it out"
        )
    return True


def _lists_candidates(options: Namespace) -> bool:
    return options.n_best is not None or captions_a_photo(options) > 1


def _photos(
    options: Namespace, note: Callable[[str], None] = lambda sentence: None
) -> Iterator["PhotoInput"]:
    from captioner.photos.inputs import check_lists, expand
    from captioner.photos.lists import paths_of_stream

    check_lists(options.paths, options.list)
    images = None if options.images is None else Path(options.images)
    if images is not None and not images.is_dir():
        raise UsageError(f"--images: no folder {images}")
    lines = paths_of_stream(sys.stdin)
    return expand(options.paths, lines, lists=options.list, images=images, note=note)


def _say(sentence: str) -> None:
    print(f"captioner: {sentence}", file=sys.stderr)


def _caption(
    predictor: "Predictor", options: Namespace, sources: Iterator["PhotoSource"]
) -> Iterator["Captioned"]:
    return predictor.caption(sources, batch_size=options.batch_size, workers=options.workers)


def _ending(count: int, unreadable: int) -> int:
    if count == 0:
        raise CaptionerError("no photo found in what was named")
    if unreadable:
        print(f"captioner: {unreadable} of {count} photos could not be captioned", file=sys.stderr)
    return 1 if unreadable else 0


# A folder of shards


def _caption_to_folder(options: Namespace) -> int:
    devices = _devices(options)
    folder = Path(options.output)
    _photos(options)  # is everything named there?
    with lock_folder(folder):
        manifest = Manifest.begin(folder, _recipe(options), options.shard_size or SHARD_SIZE)
        if manifest.shards:
            done = sum(shard.count for shard in manifest.shards.values())
            message = one_line(f"{folder} holds {done:,} photos already")
            print(f"captioner: {message}", file=sys.stderr)
        if len(devices) == 1:
            options.device = devices[0]
            count = _caption_share(options, manifest, 0, 1, manifest.add)
        else:
            count = _caption_on_all(options, manifest, devices)
        manifest.complete(count)
    return _ending(count, sum(shard.errors for shard in manifest.shards.values()))


def _recipe(options: Namespace) -> dict[str, Any]:
    """What the captions of a folder depend on."""
    from captioner.checkpoint.file import file_digest

    chosen = {name: value for name, value in vars(options).items() if name not in _NOT_OF_THE_TEXT}
    if not options.attention:  # a folder begun before there was such a flag can be gone on with
        del chosen["attention"]
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
        raise UsageError(f"--devices: expected names of GPUs as 0,1, not {options.devices!r}")
    if "-" in options.paths and len(names) > 1:
        raise UsageError("--devices: several cannot share standard input; give --list F")
    return [f"cuda:{name}" if name.isdigit() else name for name in names]


def _caption_share(
    options: Namespace,
    manifest: Manifest,
    rank: int,
    ranks: int,
    finished: Callable[[int, Shard], None],
) -> int:
    """Every `ranks`-th file is written here; returns how many photos there are in all."""
    began = perf_counter()
    captioned = 0
    predictor: Predictor | None = None

    def caption(sources: Iterator["PhotoSource"]) -> Iterator["Captioned"]:
        nonlocal began, captioned, predictor
        first = next(sources, None)
        if first is None:  # all is done: no network is loaded
            return
        predictor = load_predictor(options)
        began = perf_counter()
        for one in _caption(predictor, options, _behind(first, sources)):
            captioned += 1
            yield one

    count = write_shards(
        _photos(options, _say) if rank == 0 else _photos(options),
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
        print(
            f"captioner: {captioned:,} photos in {seconds:.1f} s on {predictor.device}: encoder "
            f"{encoding / seconds:.0%}, search {searching / seconds:.0%}, waiting for photos and "
            f"writing {rest / seconds:.0%}",
            file=sys.stderr,
        )
    return count


def _behind(first: "PhotoSource", rest: Iterator["PhotoSource"]) -> Iterator["PhotoSource"]:
    yield first
    yield from rest


def _caption_on_all(options: Namespace, manifest: Manifest, devices: list[str]) -> int:
    """One process a device; they tell of their files, and only this one writes the manifest."""
    context = multiprocessing.get_context("spawn")
    told: Any = context.Queue()
    processes = []
    try:
        for rank, device in enumerate(devices):
            own = Namespace(**{**vars(options), "device": device})
            process = context.Process(
                target=_run_share, args=(own, manifest, rank, len(devices), told)
            )
            process.start()
            processes.append(process)
        return follow(manifest, processes, devices, told)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def follow(manifest: Manifest, processes: list[Any], devices: list[str], told: Any) -> int:
    """Note what the processes tell, until all have ended; returns how many photos they saw.

    Raises:
        CaptionerError: one of them was killed, or told of an error.
    """
    counts: dict[int, int] = {}
    while len(counts) < len(processes):
        dead = [i for i, one in enumerate(processes) if one.exitcode and i not in counts]
        try:
            kind, rank, content = told.get(timeout=0.2)
        except Empty:
            if dead:
                raise CaptionerError(
                    f"the process of device {devices[dead[0]]} was killed (exit code "
                    f"{processes[dead[0]].exitcode}); the same command goes on from what is done"
                ) from None
            continue
        if kind == "shard":
            manifest.add(*content)
        elif kind == "error":
            message, code = content
            raise (UsageError if code == 2 else CaptionerError)(message)
        else:
            counts[rank] = content
    if len(set(counts.values())) > 1:
        raise CaptionerError(
            f"{manifest.folder}: the devices saw {sorted(set(counts.values()))} photos: the inputs "
            "changed under way; run the same command again"
        )
    return counts[0]


def _run_share(options: Namespace, manifest: Manifest, rank: int, ranks: int, told: Any) -> None:
    """What a process of several does."""
    from captioner.photos.readers import end_with_parent

    end_with_parent()
    try:
        tell = partial(_tell, told, rank)
        count = _caption_share(options, manifest, rank, ranks, tell)
        told.put(("end", rank, count))
    except CaptionerError as error:
        told.put(("error", rank, (str(error), error.exit_code)))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        told.put(("error", rank, (f"{where}{error.strerror or error}", 1)))


def _tell(told: Any, rank: int, index: int, shard: Shard) -> None:
    told.put(("shard", rank, (index, shard)))

"""`captioner caption --output FOLDER/`: files of captions, on one device, several, or in shares."""

from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from captioner.commands.caption_devices import caption_on_all
from captioner.commands.caption_run import (
    SHARD_SIZE,
    caption_all,
    ending,
    lists_candidates,
    predictor_of,
    recipe_of,
    resumable,
)
from captioner.commands.input_flags import counted, named_photos
from captioner.commands.parser import share_of
from captioner.console import Progress, say
from captioner.errors import UsageError
from captioner.inference.shards import Manifest, Shard, lock_folder, write_shards
from captioner.inference.shares import locked_share, manifest_name

if TYPE_CHECKING:
    from captioner.commands.runtime_flags import AnyPredictor
    from captioner.inference.result import PhotoCaptions
    from captioner.photos.source import PhotoSource


def caption_to_folder(options: Namespace) -> int:
    """Write the files that are missing, and return the exit code."""
    devices = _devices(options)
    folder = Path(options.output)
    if options.share is not None:
        return _caption_one_share(options, devices)
    with lock_folder(folder):
        manifest = Manifest.begin(folder, recipe_of(options), options.shard_size or SHARD_SIZE)
        if manifest.shards:
            say(f"{folder} already holds {_done(manifest):,} photos")
        with resumable(lambda: _done(manifest), folder):
            if len(devices) == 1:
                options.device = devices[0]
                count = _caption_share(options, manifest, 0, 1, manifest.add)
            else:
                count = caption_on_all(_caption_share, options, manifest, devices)
            manifest.complete(count)
    return ending(count, sum(shard.errors for shard in manifest.shards.values()))


def _caption_one_share(options: Namespace, devices: list[str]) -> int:
    """Write every N-th file and a manifest of its own; `captioner merge` joins them."""
    part, parts = share_of(options.share)
    if len(devices) > 1:
        raise UsageError("--share: one device per share; give each process one of --devices")
    if "-" in options.paths:
        raise UsageError("--share: shares cannot divide standard input; use --list F instead")
    options.device = devices[0]
    folder = Path(options.output)
    with locked_share(folder, part, parts):
        name = manifest_name(part, parts)
        size = options.shard_size or SHARD_SIZE
        manifest = Manifest.begin(folder, recipe_of(options), size, name)
        if manifest.shards:
            say(f"{folder} already holds {_done(manifest):,} photos of share {part}")
        with resumable(lambda: _done(manifest), folder):
            count = _caption_share(options, manifest, part - 1, parts, manifest.add, alone=True)
            manifest.complete(count)
    say(f"share {part} of {parts} is complete; when all are, run: captioner merge {folder}")
    errors = sum(shard.errors for shard in manifest.shards.values())
    return ending(_done(manifest), errors) if _done(manifest) or not count else 0


def _done(manifest: Manifest) -> int:
    return sum(shard.count for shard in manifest.shards.values())


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
    *,
    alone: bool = False,
) -> int:
    """Write every `ranks`-th file, starting at `rank`; return the total number of photos."""
    began = perf_counter()
    written = 0
    predictor: AnyPredictor | None = None

    def caption(sources: Iterator["PhotoSource"]) -> Iterator["PhotoCaptions"]:
        nonlocal began, written, predictor
        first = next(sources, None)
        if first is None:  # everything is done, so no network is loaded
            return
        predictor = predictor_of(options)
        began = perf_counter()
        # With several processes, the one that starts them shows the progress of all.
        shown = ranks == 1 or alone
        progress = Progress("photos", done=_done(manifest), shown=shown)
        counting = counted(options, progress) if ranks == 1 else nullcontext()
        with progress, counting:
            for one in caption_all(predictor, options, chain([first], sources)):
                written += 1
                progress.update()
                yield one

    count = write_shards(
        named_photos(options, say) if rank == 0 else named_photos(options),
        caption,
        manifest,
        mine=lambda index: index % ranks == rank,
        candidates=lists_candidates(options),
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

"""What the ways of writing captions share: predictor, recipe, resuming and ending."""

from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.commands import caption_sidecars as sidecars
from captioner.commands.picture_flags import with_pictures, with_what_is_drawn
from captioner.commands.runtime_flags import checkpoint_digest, load_for_runtime
from captioner.commands.search_flags import captions_a_photo
from captioner.console import warn
from captioner.errors import CaptionerError
from captioner.inference.writers import RecordWriter

if TYPE_CHECKING:
    from captioner.commands.runtime_flags import AnyPredictor
    from captioner.inference.result import PhotoCaptions
    from captioner.photos.source import PhotoSource

SHARD_SIZE = 10_000
"""Default number of photos per file in a folder of captions."""

_NOT_OF_THE_TEXT = frozenset(
    {"paths", "list", "images", "checkpoint", "backward", "format", "output", "shard_size"}
    | {"batch_size", "device", "devices", "workers", "gallery", "allow_url"}
    | {"recursive", "write_xmp"}
    | {"share", "engine", "address", "actors", "column", "id_column"}
    | sidecars.NAMES
)
"""Flags that do not affect a caption, or that the manifest records separately."""


def lists_candidates(options: Namespace) -> bool:
    """Return whether records list all captions of a photo."""
    return options.n_best is not None or captions_a_photo(options) > 1


def caption_all(
    predictor: "AnyPredictor", options: Namespace, sources: Iterator["PhotoSource"]
) -> Iterator["PhotoCaptions"]:
    """Caption photos, and draw what is asked for."""
    found = predictor.caption(sources, batch_size=options.batch_size, workers=options.workers)
    return with_pictures(options, found)


def predictor_of(options: Namespace) -> "AnyPredictor":
    """Load the predictor of the flags."""
    return load_for_runtime(with_what_is_drawn(options))


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


def tell_of_names(writer: RecordWriter) -> None:
    """Warn of photos with equal names in a COCO file."""
    if writer.renamed:
        warn(
            f"{writer.renamed:,} photos have the same file name as another; their image_id is "
            "their path"
        )
    if writer.repeated:
        warn(f"{writer.repeated:,} photos were named more than once; the COCO file has each once")


def recipe_of(options: Namespace) -> dict[str, Any]:
    """Return the settings that captions depend on; a draft or folder with others cannot resume."""
    chosen = {name: value for name, value in vars(options).items() if name not in _NOT_OF_THE_TEXT}
    for name in ("attention", "attention_figures", "regions"):  # older drafts stay resumable
        if not chosen[name]:
            del chosen[name]
    if options.runtime == "torch":  # the same
        del chosen["runtime"]
    paths = [*options.checkpoint, *([] if options.backward is None else [options.backward])]
    return {
        "inputs": [*options.paths, *(f"@{name}" for name in options.list)],
        "options": chosen,
        "checkpoints": [checkpoint_digest(Path(path), options.runtime) for path in paths],
    }


def ending(count: int, errors: int) -> int:
    """Return the exit code, and say how many photos have no caption."""
    if count == 0:
        raise CaptionerError("no photo found in the given paths")
    if errors:
        warn(f"{errors:,} of {count:,} photos could not be captioned")
    return 1 if errors else 0

"""Flags of the predictor that `caption` and `evaluate` share, and the predictor they describe."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.commands.parser import positive
from captioner.commands.search_flags import (
    check_search_arguments,
    chosen_rerank,
    chosen_search,
    chosen_wording,
    given_fields,
    given_search,
)

if TYPE_CHECKING:
    from captioner.checkpoint.file import Checkpoint
    from captioner.inference.predictor import Predictor
    from captioner.inference.strategy import HasSearch, Strategy


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags for batch size and device."""
    parser.add_argument(
        "--batch-size", type=positive, default=32, metavar="N", help="photos per batch; default: 32"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    parser.add_argument(
        "--tf32",
        action="store_true",
        help="allow TF32 in a GPU's convolutions: faster, but captions of some photos then depend "
        "on their batch",
    )


def add_regions_flag(parser: "argparse._ActionsContainer") -> None:
    """Add the flag that names region features."""
    parser.add_argument(
        "--regions",
        metavar="FOLDER",
        help="region features of the photos, for a checkpoint that was trained on a detector's",
    )


def load_predictor(
    options: argparse.Namespace, regions: Callable[["Checkpoint"], str | None] | None = None
) -> "Predictor":
    """Load the predictor that the flags describe; the first checkpoint gives the defaults.

    Args:
        options: the flags.
        regions: returns the folder of region features, given the first checkpoint that reads them.
    """
    check_search_arguments(options, len(options.checkpoint))

    from captioner import checkpoint
    from captioner.device import choose_device
    from captioner.inference.phrases import Wording
    from captioner.inference.predictor import Predictor

    wording = Wording(**chosen_wording(options))  # contradictions show before anything is loaded
    if options.no_repeat_word:
        wording.check_no_repeat_word()
    device = choose_device(options.device)
    trained = [checkpoint.load(Path(path)) for path in options.checkpoint]
    strategy = chosen_strategy(options, trained[0])
    backward = None if options.backward is None else checkpoint.load(Path(options.backward))
    folder = getattr(options, "regions", None)
    if regions is not None:
        reading = [one for one in (*trained, backward) if one is not None and one.reads_regions]
        folder = regions(reading[0]) if reading else None
    return Predictor(trained, device, strategy, backward=backward, regions=folder)


def chosen_strategy(options: argparse.Namespace, trained: "HasSearch") -> "Strategy":
    """Return the strategy that the flags describe; a checkpoint gives the defaults.

    Raises:
        UsageError: A value is out of range or conflicts with another one.
    """
    from captioner.inference.phrases import Wording
    from captioner.inference.strategy import Strategy

    chosen = given_fields(Strategy, options) | {
        "wording": Wording(**chosen_wording(options)),
        "search": chosen_search(options, trained.search(given_search(options))),
        "rerank": chosen_rerank(options),
    }
    if options.ensemble is not None:
        chosen["average"] = options.ensemble
    return Strategy(**chosen)

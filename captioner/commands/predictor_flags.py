"""Flags of the predictor that `caption` and `evaluate` share, and the predictor they describe."""

import argparse
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
    from captioner.inference.predictor import Predictor


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


def load_predictor(options: argparse.Namespace) -> "Predictor":
    """Load the predictor that the flags describe; the first checkpoint gives the defaults."""
    check_search_arguments(options, len(options.checkpoint))

    from captioner import checkpoint
    from captioner.device import choose_device
    from captioner.inference.phrases import Wording
    from captioner.inference.predictor import Predictor
    from captioner.inference.strategy import Strategy

    wording = Wording(**chosen_wording(options))
    device = choose_device(options.device)
    trained = [checkpoint.load(Path(path)) for path in options.checkpoint]
    chosen = given_fields(Strategy, options) | {
        "search": chosen_search(options, trained[0].search(given_search(options))),
        "rerank": chosen_rerank(options),
        "wording": wording,
    }
    if options.ensemble is not None:
        chosen["average"] = options.ensemble
    backward = None if options.backward is None else checkpoint.load(Path(options.backward))
    return Predictor(trained, device, Strategy(**chosen), backward=backward)

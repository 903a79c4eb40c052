"""`captioner demo`: a page in the browser to drop photos on."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.commands.parser import CHECKPOINT_HELP, Parser, not_negative
from captioner.commands.predictor_flags import chosen_strategy
from captioner.commands.search_flags import add_search_arguments, check_search_arguments
from captioner.config.schema import DEFAULT_CHECKPOINT
from captioner.console import say, warn
from captioner.errors import CaptionerError, UsageError

if TYPE_CHECKING:
    from captioner.checkpoint.file import Checkpoint
    from captioner.inference.strategy import Strategy

HOST = "127.0.0.1"
PORT = 7860

MODELS = 2
"""Maximum number of checkpoints side by side."""


def run(arguments: list[str]) -> int:
    """Serve the page until Ctrl-C."""
    options = build_parser().parse_args(arguments)
    paths = options.checkpoint or [DEFAULT_CHECKPOINT]
    if len(paths) > MODELS:
        raise UsageError(f"--checkpoint: given {len(paths)} times; the page compares at most two")
    if options.port > 65535:
        raise UsageError(f"--port {options.port}: at most 65535")
    try:
        from captioner.pages import demo
    except ModuleNotFoundError as error:
        raise CaptionerError(
            f"the demo page needs the package {error.name}; "
            "install it with: pip install 'captioner[demo]'"
        ) from error

    from captioner import checkpoint
    from captioner.device import choose_device
    from captioner.pages.demo_captions import Captions
    from captioner.pages.demo_guard import names_of

    with demo.listen(options.host, options.port) as listening:
        device = choose_device(options.device)
        models = [checkpoint.load(Path(path)) for path in paths]
        captions = Captions(models, device, strategy_of)
        port = listening.getsockname()[1]
        if names_of(options.host) is None:
            warn(f"--host {options.host}: everyone who reaches this machine can use the page")
        host = f"[{options.host}]" if ":" in options.host else options.host
        say(f"the demo is at http://{host}:{port} (Ctrl-C ends it)")
        demo.serve(captions, listening, options.host)
    return 0


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(
        prog="captioner demo",
        description="Serve a page on this machine: drop, paste or take photos, and see captions, "
        "the probability of each word, and where it looked. Nothing is stored or sent elsewhere.",
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        metavar="P",
        help=f"{CHECKPOINT_HELP}; a second one is shown beside it; default: {DEFAULT_CHECKPOINT}",
    )
    parser.add_argument(
        "--host",
        default=HOST,
        metavar="H",
        help=f"address to listen on; default: {HOST}, this machine only; 0.0.0.0 lets others in",
    )
    parser.add_argument(
        "--port", type=not_negative, default=PORT, metavar="N", help=f"default: {PORT}; 0: any free"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    return parser


def strategy_of(trained: "Checkpoint", flags: Sequence[str]) -> "Strategy":
    """Read flags as `captioner caption` does, and add what the page shows.

    Raises:
        UsageError: A flag is wrong, or contradicts another one or the checkpoint.
    """
    from captioner.pages.demo_captions import PREVIEW, attends

    parser = Parser(prog="demo")
    add_search_arguments(parser)
    options = parser.parse_args(list(flags))
    check_search_arguments(options, 1)
    shown = {"attention": attends(trained), "preview": PREVIEW}
    return chosen_strategy(argparse.Namespace(**vars(options) | shown), trained)

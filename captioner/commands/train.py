"""`captioner train`: train and validate a captioner, keeping the best and last checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def run(arguments: list[str]) -> int:
    """Train and validate a captioner."""
    from captioner.config.parser import parse_config

    config, parsed = parse_config(build_parser(), arguments)

    from captioner.training.run_files import to_resume

    resume = to_resume(Path(config.output), parsed.resume)
    initial = None if parsed.initial is None else Path(parsed.initial)

    from captioner.training.run import train

    best = train(config, resume, initial)
    print(best)
    return 0


def build_parser() -> "ArgumentParser":
    """The flags of the command."""
    from captioner.config.parser import config_parser

    parser = config_parser("train", "Train a captioner; run `captioner prepare` first.")
    parser.add_argument(
        "--resume",
        type=str,
        default=None,
        metavar="PATH",
        help="Checkpoint to resume from; auto resumes from the run's last one, if there is one.",
    )
    parser.add_argument(
        "--initial",
        type=str,
        default=None,
        metavar="PATH",
        help="Checkpoint whose weights initialise a new run.",
    )
    return parser

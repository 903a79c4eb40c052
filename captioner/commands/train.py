"""`captioner train`: train and validate a captioner, keeping the best and last checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.commands.start_flag import add_start_argument, parse_run
from captioner.errors import UsageError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def run(arguments: list[str]) -> int:
    """Train and validate a captioner."""
    from captioner.training.run_files import to_resume

    def resumed(parsed: Any) -> Path | None:
        return to_resume(Path(parsed.output), parsed.resume)

    config, parsed = parse_run(build_parser(), arguments, resumed)
    resume = resumed(parsed)
    initial = None if parsed.initial is None else Path(parsed.initial)
    if initial is not None and config.finetune.checkpoint is not None:
        raise UsageError(
            "--initial: starts from weights with the same vocabulary, --from adds words; give one"
        )

    from captioner.training.run import train

    best = train(config, resume, initial)
    print(best)
    return 0


def build_parser() -> "ArgumentParser":
    """The flags of the command."""
    from captioner.config.parser import config_parser

    parser = config_parser(
        "train", "Train a captioner; run `captioner prepare` first, except with --from."
    )
    parser.add_argument(
        "--resume",
        type=str,
        default=None,
        metavar="PATH",
        help="Checkpoint to resume from; auto resumes from the run's last one, if there is one.",
    )
    add_start_argument(parser)
    parser.add_argument(
        "--initial",
        type=str,
        default=None,
        metavar="PATH",
        help="Checkpoint whose weights initialise a new run.",
    )
    return parser

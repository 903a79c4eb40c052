"""The flag `--from`, shared by `train` and `prepare`: start from a trained captioner."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from captioner.config.schema import Config


def add_start_argument(parser: "ArgumentParser") -> None:
    """Add the flag for the help; `captioner.config.named.with_start` replaces it."""
    parser.add_argument(
        "--from",
        type=str,
        default=None,
        metavar="P",
        help="Fine-tune a checkpoint, an exported folder, a pretrained captioner (flickr8k) or "
        "hf://USER/NAME.",
    )


def parse_run(
    parser: "ArgumentParser",
    arguments: list[str],
    source: Callable[[Any], Path | None] = lambda parsed: None,
) -> tuple["Config", Any]:
    """Parse the settings of a run. One that fine-tunes has the checkpoint's as defaults.

    Args:
        parser: Parser of the command.
        arguments: The command line without the command.
        source: Returns the checkpoint to resume from, which replaces the one to start from.

    Raises:
        UsageError: A setting is wrong, or a checkpoint does not exist.
        CaptionerError: A checkpoint is damaged, or the package of its encoder is missing.
    """
    from captioner.config.parser import parse_config

    def inherit(parsed: Any) -> dict[str, Any]:
        from captioner.training.finetune import defaults_from

        return defaults_from(source(parsed) or Path(parsed.finetune.checkpoint))

    config, parsed = parse_config(parser, arguments, inherit)
    if config.finetune.checkpoint is not None:
        from captioner.training.finetune import with_found_data

        config = with_found_data(config)
    return config, parsed

"""`captioner prepare`: write the vocabulary and the image features of a data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from captioner.commands.cluster_flags import add_engine_arguments, check_engine
from captioner.commands.parser import share_of
from captioner.commands.start_flag import add_start_argument, parse_run
from captioner.errors import UsageError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def run(arguments: list[str]) -> int:
    """Write the vocabulary and the features of all photos."""
    config, parsed = parse_run(build_parser(), arguments)
    share = None if parsed.share is None else share_of(parsed.share)
    check_engine(parsed, "share", "verify")
    if parsed.engine == "ray":
        if config.finetune.checkpoint is not None:
            raise UsageError("--from: not with --engine ray; leave one out")

        from captioner.cluster.features import prepare_on_cluster

        tables = parsed.features_format == "parquet"
        prepare_on_cluster(config, parsed.address, parsed.actors, tables=tables)
        return 0
    if parsed.features_format == "parquet":
        raise UsageError("--features-format parquet: requires --engine ray")
    inherited = None
    if config.finetune.checkpoint is not None:
        from captioner.training.finetune import inherit

        inherited = inherit(config, Path(config.finetune.checkpoint))

    from captioner.features.prepare import prepare, verify

    if parsed.verify:
        return 0 if verify(config, inherited) else 1
    prepare(config, share, inherited)
    return 0


def build_parser() -> "ArgumentParser":
    """The flags of the command."""
    from captioner.config.parser import config_parser

    parser = config_parser("prepare", "Write the vocabulary and the features of all photos.")
    add_start_argument(parser)
    parser.add_argument(
        "--verify",
        action="store_true",
        help="Verify all stored features; the next run recomputes the damaged ones.",
    )
    parser.add_argument(
        "--share",
        type=str,
        default=None,
        metavar="I/N",
        help="Compute every N-th photo from the I-th; other processes compute the rest.",
    )
    add_engine_arguments(parser, "--actors", "tasks")
    parser.add_argument(
        "--features-format",
        choices=("store", "parquet"),
        default="store",
        help="parquet: also write the features to Parquet files (--engine ray); default: store",
    )
    return parser

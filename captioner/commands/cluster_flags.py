"""Flags of a Ray cluster that `caption`, `prepare` and `study` share."""

import argparse
import importlib.util
from typing import Any

from captioner.commands.parser import positive
from captioner.errors import CaptionerError, UsageError

ENGINES = ("here", "ray")


def add_engine_arguments(parser: Any, number: str | None, what: str = "") -> None:
    """Add `--engine` and `--address`, and the flag for the number of workers.

    Args:
        parser: A parser or a group of flags.
        number: Name of the flag for the number of workers; None for no such flag.
        what: What is counted.
    """
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="here",
        help="here (default): this machine; ray: a cluster, or Ray started on this machine",
    )
    parser.add_argument(
        "--address", type=str, default=None, metavar="A", help="host:port of Ray's head, or auto"
    )
    if number is not None:
        parser.add_argument(
            number,
            type=positive,
            default=None,
            metavar="N",
            help=f"{what} of --engine ray; default: one per GPU, else one per CPU",
        )


def check_engine(options: argparse.Namespace, *excluded: str) -> None:
    """Refuse flags that contradict `--engine`, an address where nobody answers, and a missing Ray.

    Args:
        options: The parsed arguments.
        excluded: Names of arguments that need the work or the files on this machine.

    Raises:
        UsageError: The first contradiction, or an address that is none.
        CaptionerError: Ray is not installed, or nobody answers.
    """
    if options.engine != "ray":
        for name in ("address", "actors"):
            if getattr(options, name, None) is not None:
                raise UsageError(f"--{name}: requires --engine ray")
        return
    for name in excluded:
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')}: not with --engine ray; leave one out")
    for package in ("ray", "pyarrow"):
        if importlib.util.find_spec(package) is None:
            raise CaptionerError(
                f"--engine ray: {package} is not installed; pip install 'captioner[ray]'"
            )
    if options.address not in (None, "auto", "local"):
        from captioner.cluster.connect import check_answers

        check_answers(options.address)

"""Flags that select a split of a data set and override where it lies: `evaluate` and `report`."""

from argparse import ArgumentParser, Namespace
from dataclasses import fields, replace

from captioner.config.schema import DataConfig


def add_split_arguments(parser: ArgumentParser) -> list[str]:
    """Add the flags.

    Returns:
        The names, in the parsed arguments, of the flags that need a checkpoint.
    """
    parser.add_argument(
        "--split", choices=("train", "val", "test"), help="split of the data set; default: test"
    )
    names = ["split"]
    for field in fields(DataConfig):
        if field.type in (str, str | None) or field.name in ("format", "on_problem"):
            names.append(f"data.{field.name}")
            parser.add_argument(
                f"--data.{field.name}",
                metavar="VALUE",
                help="replaces the checkpoint's setting" if field.name == "root" else None,
            )
    return names


def chosen_data(options: Namespace, trained_on: DataConfig) -> DataConfig:
    """Return the data set of a checkpoint, with the settings that flags replace."""
    overrides = {
        field.name: value
        for field in fields(DataConfig)
        if (value := getattr(options, f"data.{field.name}", None)) is not None
    }
    return replace(trained_on, **overrides)

"""Help for commands that take every setting: what is common first, the rest by section."""

import shutil
import textwrap
from argparse import SUPPRESS, Action
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import get_type_hints

from jsonargparse import ArgumentParser

from captioner.config.schema import Config
from captioner.errors import UsageError, suggestion

COMMON = (
    "data.format",
    "data.root",
    "data.batch_size",
    "encoder.name",
    "encoder.weights",
    "decoder.cell",
    "decoder.attention",
    "decoder.place",
    "decoder.hidden_size",
    "optimization.learning_rate",
    "trainer.max_epochs",
    "trainer.accelerator",
    "trainer.devices",
    "wandb.mode",
)
"""Settings that `--help` shows; the others are in their sections."""

INDENT = 24
"""Columns before a help text."""


def requested_help(parser: ArgumentParser, arguments: Sequence[str]) -> str | None:
    """The help that arguments ask for; None if they ask for none.

    `--help` shows the common settings, `--help SECTION` one section, `--help-all` everything.

    Raises:
        UsageError: there is no section of that name.
    """
    for i, argument in enumerate(arguments):
        if argument == "--":
            return None
        if argument == "--help-all":
            return parser.format_help()
        if argument in ("-h", "--help"):
            after = arguments[i + 1] if i + 1 < len(arguments) else "-"
            return short_help(parser) if after.startswith("-") else section_help(parser, after)
    return None


def sections() -> dict[str, str]:
    """The sections of the configuration, each with what it is about.

    Example:
        >>> sections()["decoder"]
        'The recurrent network that writes the caption'
    """
    hints = get_type_hints(Config)
    return {
        f.name: (hints[f.name].__doc__ or "").splitlines()[0].rstrip(".")
        for f in fields(Config)
        if is_dataclass(hints[f.name])
    }


def short_help(parser: ArgumentParser) -> str:
    """Usage, the options of the command, common settings, and the sections."""
    actions = {action.dest: action for action in parser._actions}
    own = [
        action
        for name, action in actions.items()
        if "." not in name and name not in (*sections(), "help", "print_config")
    ]
    listed = [f"  {name:<{INDENT - 4}}  {about}" for name, about in sections().items()]
    parts = [
        parser.format_usage(),
        f"{parser.description}\n",
        "options:",
        *(option_help(action) for action in own),
        f"  {'-h, --help [SECTION]':<{INDENT - 4}}  Show this text, or all settings of a section.",
        f"  {'--help-all':<{INDENT - 4}}  Show all settings.",
        f"  {'--print_config':<{INDENT - 4}}  Print the configuration as YAML and exit.",
        "\ncommon settings:",
        *(option_help(actions[name]) for name in COMMON),
        "\nsections:",
        *listed,
    ]
    return "\n".join(parts) + "\n"


def section_help(parser: ArgumentParser, name: str) -> str:
    """All settings of a section.

    Raises:
        UsageError: there is no section of that name.
    """
    known = sections()
    section = name.partition(".")[0]
    if section not in known:
        raise UsageError(f"--help: no section {name!r}; {suggestion(section, list(known))}")
    inside = [action for action in parser._actions if action.dest.startswith(f"{section}.")]
    return "\n".join([f"{known[section]}:", *map(option_help, inside)]) + "\n"


def option_help(action: Action) -> str:
    """One option: its flag, what it takes, and its help text, wrapped to the terminal."""
    takes = action.metavar or action.dest.rpartition(".")[2].upper()
    flag = f"  {action.option_strings[0]} {takes}"
    text = " ".join(_texts(action))
    width = max(60, min(100, shutil.get_terminal_size().columns))
    wrapped = textwrap.wrap(text, width - INDENT)
    if len(flag) <= INDENT - 2 and wrapped:
        flag, wrapped = f"{flag:<{INDENT}}{wrapped[0]}", wrapped[1:]
    return "\n".join([flag, *(" " * INDENT + line for line in wrapped)])


def _texts(action: Action) -> Iterator[str]:
    if action.help and action.help != SUPPRESS:
        yield " ".join(action.help.replace("%%", "%").split())
    if action.default not in (None, SUPPRESS):
        yield f"(default: {action.default})"

"""The `argparse` parser of all commands: one-line errors, and checked numbers."""

import argparse
import re
from typing import Any, NoReturn

from captioner.errors import UsageError, suggestion

SYNONYMS = {
    "model": "--checkpoint",
    "ckpt": "--checkpoint",
    "weights": "--checkpoint",
    "num-beams": "--beam-size",
    "beams": "--beam-size",
    "k": "--beam-size",
    "bs": "--batch-size",
    "out": "--output",
    "save": "--output",
    "gpu": "--device",
    "gpus": "--devices",
    "cuda": "--device",
    "num-workers": "--workers",
    "jobs": "--workers",
    "num-samples": "--sample",
    "nucleus": "--top-p",
    "max-len": "--max-length",
    "max-tokens": "--max-length",
    "refs": "--references",
    "ground-truth": "--references",
    "predictions": "--results",
    "hypotheses": "--results",
}
"""Names of flags in other programs, with ours."""


CHECKPOINT_HELP = (
    "trained checkpoint, exported folder, name of a pretrained captioner, or hf://USER/NAME"
)
"""What `--checkpoint` takes."""


class Parser(argparse.ArgumentParser):
    """An `argparse` parser that reports a mistake in one line and suggests the closest flag."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def format_help(self) -> str:
        """The usage in one line, then the options in their groups."""
        if self.usage is None:
            required = [one for one in self._actions if one.required and one.option_strings]
            flags = [f"{one.option_strings[-1]} {one.metavar}" for one in required]
            places = [
                f"{one.metavar or '{' + ','.join(one.choices or [one.dest]) + '}'}"
                + (" ..." if one.nargs in ("*", "+") else "")
                for one in self._actions
                if not one.option_strings
            ]
            self.usage = " ".join([self.prog, *flags, "[options]", *places])
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError` instead of printing the usage."""
        if message.startswith("unrecognized arguments: "):
            flag = message.removeprefix("unrecognized arguments: ").split()[0].split("=")[0]
            flags = [name for name in self._option_string_actions if name.startswith("--")]
            message = f"unknown flag {flag}; {suggestion(flag, flags, SYNONYMS)}"
        raise UsageError(f"{self.prog}: {message}")


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    return whole_number(text, 1)


def not_negative(text: str) -> int:
    """Parse a whole number of at least 0."""
    return whole_number(text, 0)


def whole_number(text: str, least: int) -> int:
    """Parse a whole number; raise `argparse.ArgumentTypeError` if it is not, or is too small."""
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return number


def share_of(text: str) -> tuple[int, int]:
    """Parse `--share 2/4` into (1, 4).

    Raises:
        UsageError: The text is not a share.
    """
    numbers = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if numbers is None or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise UsageError(f"--share {text!r}: expected I/N, for example 2/4 for the second of four")
    return int(numbers[1]), int(numbers[2])

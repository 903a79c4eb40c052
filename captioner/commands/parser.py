"""The `argparse` parser of all commands: one-line errors, and checked numbers."""

import argparse
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


class Parser(argparse.ArgumentParser):
    """An `argparse` parser that reports a mistake in one line and suggests the closest flag."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

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

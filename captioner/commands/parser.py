"""argparse as the commands use it: mistakes in one line, numbers checked where they are typed."""

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
"""What other programs call a flag."""


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are one line with the nearest right flag."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        if message.startswith("unrecognized arguments: "):
            flag = message.removeprefix("unrecognized arguments: ").split()[0].split("=")[0]
            flags = [name for name in self._option_string_actions if name.startswith("--")]
            message = f"unknown flag {flag}; {suggestion(flag, flags, SYNONYMS)}"
        raise UsageError(f"{self.prog}: {message}")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return whole_number(text, 1)


def not_negative(text: str) -> int:
    """A whole number of at least 0."""
    return whole_number(text, 0)


def whole_number(text: str, least: int) -> int:
    """The number that a text is; raises what argparse expects where it is none, or too small."""
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return number

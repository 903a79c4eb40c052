"""What goes wrong for a user, as one line and an exit code; never a traceback."""

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType


class CaptionerError(Exception):
    """Something could not be done: the message says what, where and what would be right, in a line.

    Raised by every room of the package for a fault that lies in the input or the machine rather
    than in the code. The command line prints the message after `captioner: error:` and ends with
    `exit_code`.
    """

    exit_code = 1


class UsageError(CaptionerError):
    """The call itself was wrong: an unknown name, a missing file, a value out of range."""

    exit_code = 2


def suggestion(
    name: str, choices: Sequence[str], synonyms: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Return the nearest of some choices, or the first of them, for the end of an error message.

    Nearest are, in this order: the same in other letters, what begins like it (at most three), what
    others call it, what is spelt like it.

    Args:
        name: What was written.
        choices: What there is.
        synonyms: Other names of choices, in lower case and without dashes in front.
    """
    folded = {choice.casefold(): choice for choice in choices}
    wanted = name.casefold()
    begun = [folded[one] for one in folded if one.startswith(wanted)] if wanted.strip("-") else []
    synonym = synonyms.get(wanted.lstrip("-"))
    near = [folded[wanted]] if wanted in folded else begun[:3] if len(begun) <= 3 else []
    if not near and synonym in choices:
        near = [str(synonym)]
    near = near or [folded[one] for one in difflib.get_close_matches(wanted, folded, n=1)]
    if near:
        return f"did you mean {' or '.join(near)}?"
    shown = ", ".join(choices[:12])
    return f"choose one of {shown}{', …' if len(choices) > 12 else ''}"


def shown(value: object) -> str:
    """Return a value for a message: on one line, and not long."""
    if isinstance(value, (list, dict)):
        text = _SHORT.repr(value)  # of a list of a million entries, or nested a thousand times
    else:
        text = repr(value[:100]) if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80

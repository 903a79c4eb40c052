"""Errors reported to the user as one line and an exit code, without a traceback."""

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType


class CaptionerError(Exception):
    """An operation failed because of the input or the machine, not because of a bug.

    The message is one line that says what is wrong, where, and what would be right. The command
    line prints it after `captioner: error:` and exits with `exit_code`.
    """

    exit_code = 1


class UsageError(CaptionerError):
    """The call was wrong: an unknown name, a missing file or a value out of range."""

    exit_code = 2


def suggestion(
    name: str, choices: Sequence[str], synonyms: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Return "did you mean …?" or a list of choices, for the end of an error message.

    Candidates are, in this order: a choice that differs only in case, choices that start with the
    name (at most three), a synonym, and the choice with the closest spelling.

    Args:
        name: The name given.
        choices: The valid names.
        synonyms: Other names of choices, in lower case and without leading dashes.

    Example:
        >>> suggestion("trian", ["train", "val", "test"])
        'did you mean train?'
        >>> suggestion("x", ["train", "val", "test"])
        'choose one of train, val, test'
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
    """Format a value for an error message: one line of at most 80 characters."""
    if isinstance(value, (list, dict)):
        text = _SHORT.repr(value)  # it may have a million entries or be deeply nested
    else:
        text = repr(value[:100]) if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80

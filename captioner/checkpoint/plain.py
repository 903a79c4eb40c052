"""Check the plain values of a checkpoint or exported folder: texts, numbers and search settings.

Nothing here imports torch, so that exported graphs can be checked and run without it.
"""

from collections.abc import Collection, Sequence
from typing import Any

from captioner.config.schema import SearchConfig
from captioner.display import is_one_line
from captioner.errors import CaptionerError, shown
from captioner.files.tensors import MAX_TEXT

MAX_WORDS = 10**6
"""Words in a vocabulary."""

MAX_VALUES = 500_000
"""Plain values besides the vocabulary; shared ones count once per reference."""

MAX_NESTING = 16
"""Nesting depth of lists and objects."""

MAX_BITS = 256
"""Bits of a whole number; each setting's own range is checked where it is used."""

MAX_OWN_BEAM = 100
"""Beam size in a checkpoint's own search settings; flags may set a larger one."""

MAX_OWN_LENGTH = 1_000
"""Words per caption in a checkpoint's own search settings."""

MAX_OWN_SEARCH = 2 * 10**11
"""Multiply-adds per caption for those settings: steps x beam x weights of the decoder."""


def check_words(words: Sequence[Any]) -> None:
    """Refuse a vocabulary with too many words, or with a word that is not printable text.

    Raises:
        ValueError: The message names the first fault.
    """
    must(len(words) <= MAX_WORDS, "vocabulary", f"at most {MAX_WORDS:,} words")
    must(all(isinstance(word, str) for word in words), "vocabulary", "texts")
    for i, word in enumerate(words):
        printable = len(word) <= MAX_TEXT and is_one_line(word)
        must(printable, f"vocabulary[{i}]", f"printable text, not {shown(word)}")


def check_own_search(
    search: SearchConfig, weights: int, given: Collection[str], where: object
) -> None:
    """Refuse a checkpoint whose own search settings cost more than a default may.

    An untrusted checkpoint could request hours of search by its settings alone. Settings that the
    user gives are not limited here.

    Args:
        search: Search settings of the checkpoint.
        weights: Numbers in its decoder, each multiplied once per step and hypothesis.
        given: Names of the settings that the user gives.
        where: The checkpoint, for the message.

    Raises:
        CaptionerError: The message names the first setting over its limit, and the flag to set.
    """
    for name, flag, value, most in (
        ("beam_size", "--beam-size", search.beam_size, MAX_OWN_BEAM),
        ("max_length", "--max-length", search.max_length, MAX_OWN_LENGTH),
    ):
        if name not in given and value > most:
            raise CaptionerError(
                f"{where}: its own search.{name} is {value:,}; a checkpoint may set at most "
                f"{most:,}; set it with {flag}"
            )
    cost = search.beam_size * search.max_length * weights
    if not {"beam_size", "max_length"} & set(given) and cost > MAX_OWN_SEARCH:
        raise CaptionerError(
            f"{where}: its own search settings (beam {search.beam_size:,}, {search.max_length:,} "
            f"words) cost {cost:.1e} multiply-adds per photo; a checkpoint may cost at most "
            f"{MAX_OWN_SEARCH:.0e}; set --beam-size and --max-length"
        )


def check_plain(value: Any) -> None:
    """Refuse anything but a tree of plain values of bounded size.

    A pickle can contain one list a thousand times in another, ten levels deep. Such kilobytes would
    take forever to traverse or to print in a message.
    """
    left = MAX_VALUES
    waiting = [(value, 0)]
    while waiting:
        value, depth = waiting.pop()
        must(depth <= MAX_NESTING, "its contents", f"nested at most {MAX_NESTING} levels deep")
        inside: list[Any] = []
        if type(value) is dict:
            inside = [*value.keys(), *value.values()]
        elif type(value) in (list, tuple):
            inside = list(value)
        elif type(value) is str:
            must(len(value) <= MAX_TEXT, "a text", f"at most {MAX_TEXT:,} characters long")
        elif type(value) is int:
            must(value.bit_length() <= MAX_BITS, "a number", f"at most {MAX_BITS} bits long")
        else:
            plain = value is None or type(value) in (bool, float)
            must(plain, "its contents", f"plain values, not a {type(value).__name__}")
        left -= len(inside)
        must(left >= 0, "its contents", f"at most {MAX_VALUES:,} values")
        waiting += [(item, depth + 1) for item in inside]


def must(holds: bool, name: str, right: str) -> None:
    """Raise ValueError unless the condition holds."""
    if not holds:
        raise ValueError(f"{name} must be {right}")

"""Settings of the demo page: what the query of a request may ask for, and its limits.

A setting is named like the flag of `captioner caption` and becomes that flag, so that the page and
the command line search for captions with the same code.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from captioner.decoding.options import LENGTH_NORMS, RERANK_BY
from captioner.errors import UsageError, shown, suggestion


@dataclass(frozen=True)
class Limit:
    """Limits of a number: they bound the time that one request may take."""

    least: float
    most: float
    whole: bool = True

    def checked(self, name: str, text: str) -> str:
        """Return the number as text.

        Raises:
            UsageError: It is not a number, or beyond the limits.
        """
        try:
            value = int(text) if self.whole else float(text)
        except ValueError:
            value = math.nan
        if not self.least <= value <= self.most:
            kind = "a whole number" if self.whole else "a number"
            raise UsageError(
                f"{name}: {shown(text)} is not {kind} from {self.least:g} to {self.most:,}"
            )
        return str(value)


LIMITS = {
    "beam_size": Limit(1, 20),
    "n_best": Limit(1, 10),
    "min_length": Limit(0, 50),
    "max_length": Limit(1, 50),
    "sample": Limit(1, 20),
    "temperature": Limit(0.05, 5.0, whole=False),
    "top_k": Limit(1, 1000),
    "top_p": Limit(0.01, 1.0, whole=False),
    "seed": Limit(0, 2**31 - 1),
}
"""Numbers, and what the page allows; the command line allows more."""

CHOICES = {"length_norm": LENGTH_NORMS, "rerank": RERANK_BY}

PHRASES = ("require", "ban")
"""These may be repeated, once per phrase."""

MOST_PHRASES = 10
LONGEST_PHRASE = 60
"""Maximum number of phrases of each kind, and characters of one."""


def flags_of(query: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the flags of `captioner caption` that a query asks for.

    Args:
        query: Names and values; an empty value counts as not given.

    Raises:
        UsageError: A name is unknown or repeated, or a value is beyond its limit.

    Example:
        >>> flags_of([("beam_size", "5"), ("require", "red dog"), ("max_length", "")])
        ('--beam-size=5', '--require=red dog')
    """
    flags: list[str] = []
    given: dict[str, int] = {}
    for name, text in query:
        if not text.strip():
            continue
        value = _checked(name, text.strip())
        given[name] = given.get(name, 0) + 1
        most = MOST_PHRASES if name in PHRASES else 1
        if given[name] > most:
            times = "twice" if most == 1 else f"more than {most} times"
            raise UsageError(f"{name}: given {times}")
        flags.append(f"--{name.replace('_', '-')}={value}")
    return tuple(flags)


def _checked(name: str, text: str) -> str:
    if name in LIMITS:
        return LIMITS[name].checked(name, text)
    if name in CHOICES:
        if text not in CHOICES[name]:
            choices = ", ".join(CHOICES[name])
            raise UsageError(f"{name}: unknown {shown(text)}; choose one of {choices}")
        return text
    if name not in PHRASES:
        known = [*LIMITS, *CHOICES, *PHRASES]
        raise UsageError(f"unknown setting {shown(name)}; {suggestion(name[:100], known)}")
    if len(text) > LONGEST_PHRASE:
        raise UsageError(
            f"{name}: a phrase has {len(text)} characters; at most {LONGEST_PHRASE} are allowed"
        )
    return text

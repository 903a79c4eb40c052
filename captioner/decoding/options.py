"""What may be asked of a search, checked where it is said rather than deep inside the loop."""

import math
from dataclasses import dataclass, replace
from typing import Any

from captioner.errors import UsageError

LENGTH_NORMS = ("none", "average", "gnmt")
RERANK_BY = ("score", "consensus")
AGREEMENT = 0.5
"""Share of the second direction in a ranking by agreement, if not given."""

AVERAGES = ("probability", "log_probability")

MOST = 10_000
"""Beams, samples, words of a caption; more is a slip of the finger, and no memory holds it."""


@dataclass(frozen=True)
class SearchOptions:
    """Options of :func:`captioner.decoding.beam_search.beam_search`.

    Attributes:
        beam_size: Hypotheses kept alive for each image (K). 1 is greedy search.
        max_length: Most words in a caption (T), the end word not counted.
        min_length: Fewest words in a caption, the end word not counted.
        length_norm: How the total log-probability becomes the score that ranks captions: ``"none"``
            (as it is), ``"average"`` (per predicted word) or ``"gnmt"`` (Wu et al. 2016).
        length_alpha: Exponent of the GNMT length penalty; 0 is none, 1 is nearly an average.
        word_reward: Added to the score for each predicted word, in nats; positive favours length.
        n_best: Captions returned for each image, best first; at most ``beam_size``.
        groups: Groups of a diverse beam search (Vijayakumar et al. 2018); 1 is plain beam search.
            Each group is a beam of ``beam_size / groups``, and each contributes its share of the
            ``n_best`` captions. Two groups may find the same caption.
        diversity: What a word loses, in nats, for each time an earlier group has chosen it at the
            same step. It guides the search only; scores are the model's.

    Raises:
        UsageError: A value is out of its range.
    """

    beam_size: int = 5
    max_length: int = 20
    min_length: int = 0
    length_norm: str = "none"
    length_alpha: float = 0.6
    word_reward: float = 0.0
    n_best: int = 1
    groups: int = 1
    diversity: float = 0.5

    def __post_init__(self) -> None:
        check_at_least("beam_size", self.beam_size, 1, MOST)
        check_at_least("max_length", self.max_length, 1, MOST)
        check_at_least("min_length", self.min_length, 0)
        if self.min_length > self.max_length:
            raise UsageError(
                f"min_length: {self.min_length} is more than max_length {self.max_length}; "
                f"choose at most {self.max_length}"
            )
        if self.length_norm not in LENGTH_NORMS:
            choices = ", ".join(LENGTH_NORMS)
            raise UsageError(f"length_norm: unknown {self.length_norm!r}; choose one of {choices}")
        check_number("length_alpha", self.length_alpha, minimum=0.0)
        check_number("word_reward", self.word_reward)
        check_at_least("n_best", self.n_best, 1)
        if self.n_best > self.beam_size:
            raise UsageError(
                f"n_best: {self.n_best} is more than beam_size {self.beam_size}; "
                f"choose at most {self.beam_size} or widen the beam"
            )
        check_at_least("groups", self.groups, 1)
        if self.beam_size % self.groups:
            raise UsageError(
                f"groups: {self.groups} do not divide beam_size {self.beam_size}; "
                f"choose a divisor of {self.beam_size}"
            )
        check_number("diversity", self.diversity, minimum=0.0)

    def replaced(self, **options: Any) -> "SearchOptions":
        """Return the options with some replaced; unless given, the beam widens to ``n_best``."""
        if options.get("n_best", 1) > self.beam_size:
            options.setdefault("beam_size", options["n_best"])
        return replace(self, **options)


@dataclass(frozen=True)
class SampleOptions:
    """Options of :func:`captioner.decoding.sampling.sample`.

    Attributes:
        samples: Captions drawn for each image (K).
        temperature: Divides the log-probabilities: below 1 bolder, above 1 wilder.
        top_k: Draw from so many most probable words only (Fan et al. 2018); 0 is from all.
        top_p: Draw from the fewest words that together have this probability (Holtzman et al.
            2020); 1 is all.
        seed: Another seed, other captions.
        max_length: Most words in a caption (T), the end word not counted.
        min_length: Fewest words in a caption, the end word not counted.
        length_norm: As in :class:`SearchOptions`, for the scores.
        length_alpha: As there.
        word_reward: As there.

    Raises:
        UsageError: A value is out of its range.
    """

    samples: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    max_length: int = 20
    min_length: int = 0
    length_norm: str = "none"
    length_alpha: float = 0.6
    word_reward: float = 0.0

    def __post_init__(self) -> None:
        check_at_least("samples", self.samples, 1, MOST)
        check_number("temperature", self.temperature)
        if self.temperature <= 0:
            raise UsageError(
                f"temperature: {self.temperature:g} is not above 0; for the most probable words "
                f"use beam search"
            )
        check_at_least("top_k", self.top_k, 0)
        check_number("top_p", self.top_p)
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p: {self.top_p:g} is not above 0 and at most 1")
        if not isinstance(self.seed, int):
            raise UsageError(f"seed: {self.seed!r} is not a whole number")
        self.lengths()

    def lengths(self) -> SearchOptions:
        """The part that sampling has in common with search, checked there."""
        return SearchOptions(
            max_length=self.max_length,
            min_length=self.min_length,
            length_norm=self.length_norm,
            length_alpha=self.length_alpha,
            word_reward=self.word_reward,
        )


@dataclass(frozen=True)
class Rerank:
    """Samples put in order and the best kept, each caption once.

    Attributes:
        by: ``"score"``, the length-normalised log-probability, or ``"consensus"``: how well a
            caption agrees with the others drawn for its image, by mean ROUGE-L (the least Bayes
            risk of Kumar & Byrne 2004 among the samples).
        n_best: Captions kept, at most as many as are drawn.

    Raises:
        UsageError: A value is out of its range.
    """

    by: str = "score"
    n_best: int = 1

    def __post_init__(self) -> None:
        if self.by not in RERANK_BY:
            raise UsageError(f"rerank: unknown {self.by!r}; choose one of {', '.join(RERANK_BY)}")
        check_at_least("n_best", self.n_best, 1)


def check_at_least(name: str, value: Any, minimum: int, most: int | None = None) -> None:
    """Raises UsageError unless ``value`` is a whole number from ``minimum`` to ``most``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise UsageError(f"{name}: {value!r} is not a whole number of at least {minimum}")
    if most is not None and value > most:
        raise UsageError(f"{name}: {value} is more than {most}, the most there may be")


def check_number(name: str, value: Any, minimum: float = -math.inf) -> None:
    """Raises UsageError unless ``value`` is a finite number of at least ``minimum``."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < minimum:
        bound = "" if minimum == -math.inf else f" of at least {minimum:g}"
        raise UsageError(f"{name}: {value!r} is not a finite number{bound}")

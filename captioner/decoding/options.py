"""Options of search and sampling, validated when they are created."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from captioner.errors import UsageError

LengthNorm = Literal["none", "average", "gnmt"]
LENGTH_NORMS: tuple[str, ...] = get_args(LengthNorm)
RERANK_BY = ("score", "consensus")
AGREEMENT = 0.5
"""Default weight of the second direction when ranking by agreement."""

AVERAGES = ("probability", "log_probability")

VALIDATION_BEAM = 3
"""Default beam of a configuration, which captions the validation split after every epoch: narrower
than that of `SearchOptions`, for speed. Checkpoints keep it as their own search setting."""

MOST = 10_000
"""Upper limit of beams, samples and words per caption; larger values are typing errors."""


@dataclass(frozen=True)
class SearchOptions:
    """Options of `captioner.decoding.beam_search.beam_search`.

    Attributes:
        beam_size: Live hypotheses per image (K). 1 is greedy search.
        max_length: Maximum number of words per caption (T), without the end word.
        min_length: Minimum number of words per caption, without the end word.
        length_norm: How captions are scored: `"none"` (total log-probability), `"average"` (per
            predicted word) or `"gnmt"` (Wu et al. 2016).
        length_alpha: Exponent of the GNMT length penalty; 0 disables it, 1 is close to the average.
        word_reward: Added to the score per predicted word, in nats. Positive favours long captions.
        n_best: Captions returned per image, best first; at most `beam_size`.
        groups: Groups of diverse beam search (Vijayakumar et al. 2018); 1 is plain beam search.
            Each group is a beam of `beam_size / groups` and returns its share of the `n_best`
            captions. Two groups may find the same caption.
        diversity: Penalty of a word, in nats, for each earlier group that chose it at the same
            step. It affects the search only; scores are the model's.
        no_repeat_word: Whether no word directly follows itself.

    Raises:
        UsageError: A value is out of range.

    Example:
        >>> SearchOptions(beam_size=6, n_best=3, groups=3, length_norm="average").diversity
        0.5
    """

    beam_size: int = 5
    max_length: int = 20
    min_length: int = 0
    length_norm: LengthNorm = "none"
    length_alpha: float = 0.6
    word_reward: float = 0.0
    n_best: int = 1
    groups: int = 1
    diversity: float = 0.5
    no_repeat_word: bool = False

    def __post_init__(self) -> None:
        check_at_least("beam_size", self.beam_size, 1, MOST)
        check_at_least("max_length", self.max_length, 1, MOST)
        check_at_least("min_length", self.min_length, 0)
        if self.min_length > self.max_length:
            raise UsageError(
                f"min_length: {self.min_length} is more than max_length {self.max_length}; "
                f"at most {self.max_length}"
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
                f"at most {self.beam_size}, or widen the beam"
            )
        check_at_least("groups", self.groups, 1)
        if self.beam_size % self.groups:
            raise UsageError(
                f"groups: {self.groups} does not divide beam_size {self.beam_size}; "
                f"choose a divisor of {self.beam_size}"
            )
        check_number("diversity", self.diversity, minimum=0.0)

    def replaced(self, **options: Any) -> "SearchOptions":
        """Return a copy with some options replaced.

        The beam widens to `n_best` and the minimum length falls to `max_length` where it must.
        """
        if options.get("n_best", 1) > self.beam_size:
            options.setdefault("beam_size", options["n_best"])
        if options.get("max_length", self.max_length) < self.min_length:
            options.setdefault("min_length", options["max_length"])
        return replace(self, **options)


@dataclass(frozen=True)
class SampleOptions:
    """Options of `captioner.decoding.sampling.sample`.

    Attributes:
        samples: Captions drawn per image (K).
        temperature: Divides the logits. Below 1 sharpens the distribution, above 1 flattens it.
        top_k: Sample from the k most probable words only (Fan et al. 2018); 0 disables it.
        top_p: Sample from the smallest set of words with this total probability (Holtzman et al.
            2020); 1 disables it.
        seed: Seed of the random numbers.
        max_length: Maximum number of words per caption (T), without the end word.
        min_length: Minimum number of words per caption, without the end word.
        length_norm: As in `SearchOptions`, for the scores.
        length_alpha: As in `SearchOptions`.
        word_reward: As in `SearchOptions`.
        no_repeat_word: As in `SearchOptions`.

    Raises:
        UsageError: A value is out of range.
    """

    samples: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    max_length: int = SearchOptions.max_length
    min_length: int = SearchOptions.min_length
    length_norm: LengthNorm = SearchOptions.length_norm
    length_alpha: float = SearchOptions.length_alpha
    word_reward: float = SearchOptions.word_reward
    no_repeat_word: bool = SearchOptions.no_repeat_word

    def __post_init__(self) -> None:
        check_at_least("samples", self.samples, 1, MOST)
        check_number("temperature", self.temperature)
        if self.temperature <= 0:
            raise UsageError(
                f"temperature: {self.temperature:g} is not above 0; use beam search for the most "
                f"probable caption"
            )
        check_at_least("top_k", self.top_k, 0)
        check_number("top_p", self.top_p)
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p: {self.top_p:g} is not in the range above 0 up to 1")
        if not isinstance(self.seed, int):
            raise UsageError(f"seed: {self.seed!r} is not a whole number")
        self.lengths()

    def lengths(self) -> SearchOptions:
        """Return the length options as `SearchOptions`, which validates them."""
        return SearchOptions(
            max_length=self.max_length,
            min_length=self.min_length,
            length_norm=self.length_norm,
            length_alpha=self.length_alpha,
            word_reward=self.word_reward,
        )


@dataclass(frozen=True)
class Rerank:
    """Rank sampled captions, drop duplicates and keep the best.

    Attributes:
        by: `"score"` ranks by length-normalised log-probability. `"consensus"` ranks by mean
            ROUGE-L against the other samples of the image, that is, minimum Bayes risk (Kumar &
            Byrne 2004).
        n_best: Captions kept per image, at most the number of samples.

    Raises:
        UsageError: A value is out of range.
    """

    by: str = "score"
    n_best: int = 1

    def __post_init__(self) -> None:
        if self.by not in RERANK_BY:
            raise UsageError(f"rerank: unknown {self.by!r}; choose one of {', '.join(RERANK_BY)}")
        check_at_least("n_best", self.n_best, 1)


def check_at_least(name: str, value: Any, minimum: int, most: int | None = None) -> None:
    """Check that `value` is a whole number from `minimum` to `most`.

    Raises:
        UsageError: It is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise UsageError(f"{name}: {value!r} is not a whole number of at least {minimum}")
    if most is not None and value > most:
        raise UsageError(f"{name}: {value} is too large; at most {most:,}")


def check_number(name: str, value: Any, minimum: float = -math.inf) -> None:
    """Check that `value` is a finite number of at least `minimum`.

    Raises:
        UsageError: It is not.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < minimum:
        bound = "" if minimum == -math.inf else f" of at least {minimum:g}"
        raise UsageError(f"{name}: {value!r} is not a finite number{bound}")

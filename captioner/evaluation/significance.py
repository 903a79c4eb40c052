r"""Statistical significance: confidence intervals over images, and tests between two systems.

The images of a test set are a sample; other images would give other scores.

- **Interval** (`intervals`): draw as many images with replacement, score them, repeat. The middle
  95 % of the scores is the interval (percentile bootstrap, Efron 1979; for BLEU: Koehn 2004,
  "Statistical significance tests for machine translation evaluation").
- **Paired bootstrap** (`compare`): use the same draws for both systems. The variation of the
  difference around its observed value d shows how often chance alone gives a difference as large
  as d.
- **Approximate randomisation** (`compare`): if the systems were equal, the two captions of an image
  could be swapped. Swap them at random and count how often the difference is as large as d (Noreen
  1989). Riezler and Maxwell 2005 find this test the more conservative of the two.
- **Holm's correction** (`holm`): adjust p-values for the number of tests, because some of many
  tests are small by chance (Holm 1979).
- **Runs** (`over_runs`, `welch`): mean, deviation and interval over runs with different seeds, and
  Welch's t-test between the runs of two systems.

A p-value is (1 + draws as extreme) / (1 + draws), so it is never 0. CIDEr's document frequencies
stay those of the whole set in every draw. A score of all draws takes a few matrix products over
per-image statistics (`captioner.metrics.statistics`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, lgamma, pi, sqrt

import numpy as np

from captioner.errors import CaptionerError, UsageError
from captioner.evaluation.scores import Scores
from captioner.metrics.statistics import ImageStatistics

_CHUNK = 100  # draws per batch: 4 MB of weights for 5,000 images
_ROUNDING = 1e-12  # ignore differences caused by another order of summation


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a score, from `low` to `high`, at `level`."""

    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Comparison:
    """Two systems compared under one score, on the same images.

    Attributes:
        name: Name of the score.
        first: Score of the first system.
        second: Score of the second system.
        difference: `second - first`.
        interval: Confidence interval of the difference, by paired bootstrap.
        p_bootstrap: Two-sided p-value of the paired bootstrap.
        p_randomisation: Two-sided p-value of approximate randomisation.
        p_holm: `p_value` corrected for the number of tests.
        distinguishable: Whether `p_holm` is below 1 - level.
        p_runs: P-value of Welch's test over runs with different seeds; None without such runs.
    """

    name: str
    first: float
    second: float
    difference: float
    interval: Interval
    p_bootstrap: float
    p_randomisation: float
    p_holm: float
    distinguishable: bool
    p_runs: float | None = None

    @property
    def p_value(self) -> float:
        """The larger of `p_randomisation` and `p_runs`: both must be small."""
        return max(self.p_randomisation, self.p_runs or 0.0)

    @property
    def verdict(self) -> str:
        """The verdict on the second system: better, worse or not distinguishable."""
        if not self.distinguishable:
            return "not distinguishable"
        return "better" if self.difference > 0 else "worse"


@dataclass(frozen=True)
class RunSummary:
    """One score over several runs of a system.

    Attributes:
        name: Name of the score.
        mean: Mean over runs.
        deviation: Standard deviation over runs (divisor: runs - 1).
        n_runs: Number of runs.
        interval: Confidence interval of the mean over further runs on the same images, from
            Student's t distribution.
    """

    name: str
    mean: float
    deviation: float
    n_runs: int
    interval: Interval


def intervals(
    scores: Scores, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Compute bootstrap confidence intervals over images for every corpus score.

    Args:
        scores: Scores returned by `captioner.evaluation.scores.score`.
        resamples: Number of resamples.
        level: Confidence level.
        seed: Seed of the resampling.

    Raises:
        UsageError: `resamples` or `level` is out of range.
    """
    _check(resamples, level)
    draws = _bootstrap(scores.statistics, resamples, seed)
    return {name: _middle(values, level) for name, values in draws.items()}


def compare(
    first: Scores,
    second: Scores,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Comparison]:
    """Test whether two systems differ, under each score that both have.

    Args:
        first: Scores of the first system.
        second: Scores of the second system on the same images.
        resamples: Number of resamples of each test.
        level: Confidence level of the intervals; 1 - level is the threshold for p-values.
        seed: Seed of the resampling.

    Raises:
        UsageError: `resamples` or `level` is out of range.
        CaptionerError: The images differ.

    Example:
        >>> from captioner.evaluation.scores import score
        >>> references = {image: ["a dog runs on grass"] for image in range(20)}
        >>> good = score({image: "a dog runs on grass" for image in range(20)}, references)
        >>> bad = score({image: "a red kite" for image in range(20)}, references)
        >>> compare(good, bad)[0].verdict
        'worse'
    """
    _check(resamples, level)
    ours, theirs = _on_the_same_images(first, second)
    names = [name for one in ours for name in one.names]
    observed = {name: second.corpus[name] - first.corpus[name] for name in names}
    # The same seed draws the same images for both systems.
    before, after = _bootstrap(ours, resamples, seed), _bootstrap(theirs, resamples, seed)
    resampled = {name: after[name] - before[name] for name in names}
    swapped = _swap(ours, theirs, resamples, seed)
    found = [
        Comparison(
            name=name,
            first=first.corpus[name],
            second=second.corpus[name],
            difference=observed[name],
            interval=_middle(resampled[name], level),
            p_bootstrap=_p_value(resampled[name] - observed[name], observed[name]),
            p_randomisation=_p_value(swapped[name], observed[name]),
            p_holm=1.0,
            distinguishable=False,
        )
        for name in names
    ]
    return correct(found, level)


def correct(comparisons: Sequence[Comparison], level: float = 0.95) -> list[Comparison]:
    """Correct the p-values of comparisons for their number (see `holm`).

    Args:
        comparisons: Comparisons of any scores and systems.
        level: 1 - level is the threshold for corrected p-values.
    """
    corrected = holm([comparison.p_value for comparison in comparisons])
    return [
        replace(comparison, p_holm=p, distinguishable=p < 1 - level)
        for comparison, p in zip(comparisons, corrected, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's step-down method.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = largest
    return corrected


def over_runs(runs: Sequence[Scores], *, level: float = 0.95) -> list[RunSummary]:
    """Summarise every score over runs with different seeds.

    Raises:
        UsageError: There are fewer than two runs, or `level` is out of range.
    """
    if len(runs) < 2:
        raise UsageError(f"runs: {len(runs)}; a deviation needs at least 2")
    _check(1, level)
    summaries = []
    for name in runs[0].corpus:
        values = np.array([run.corpus[name] for run in runs])
        mean, deviation = float(values.mean()), float(values.std(ddof=1))
        half = student_quantile((1 + level) / 2, len(runs) - 1) * deviation / sqrt(len(runs))
        interval = Interval(mean - half, mean + half, level)
        summaries.append(RunSummary(name, mean, deviation, len(runs), interval))
    return summaries


def student_quantile(probability: float, freedom: float) -> float:
    """Return a quantile above 0.5 of Student's t distribution, to four digits.

    Example:
        >>> round(student_quantile(0.975, 2), 3)
        4.303
    """
    angle, above = _student(freedom)
    return float(sqrt(freedom) * np.tan(np.interp(probability - 0.5, above, angle)))


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided p-value of Welch's t-test (Welch 1947).

    The samples may differ in variance and size: t = d / sqrt(s1^2/n1 + s2^2/n2), with the degrees
    of freedom of Welch and Satterthwaite.

    Args:
        first: Scores of the first system's runs, at least two.
        second: Scores of the second system's runs, at least two.

    Raises:
        UsageError: A system has fewer than two runs.

    Example:
        >>> round(welch([0.40, 0.42, 0.41], [0.45, 0.46, 0.47]), 4)
        0.0036
    """
    if len(first) < 2 or len(second) < 2:
        raise UsageError(f"runs: {len(first)} and {len(second)}; at least 2 per system")
    variances = [float(np.var(sample, ddof=1)) / len(sample) for sample in (first, second)]
    difference = abs(float(np.mean(first)) - float(np.mean(second)))
    if sum(variances) == 0:
        return 1.0 if difference < _ROUNDING else 0.0
    freedom = sum(variances) ** 2 / (
        variances[0] ** 2 / (len(first) - 1) + variances[1] ** 2 / (len(second) - 1)
    )
    angle, above = _student(freedom)
    t = difference / sqrt(sum(variances))
    return float(1 - 2 * np.interp(np.arctan(t / sqrt(freedom)), angle, above))


def _student(freedom: float) -> tuple[np.ndarray, np.ndarray]:
    """Tabulate Student's t distribution: angles a, and the probability between 0 and t.

    With t = sqrt(n) tan(a), the density is a power of the cosine over a finite range.
    """
    angle = np.linspace(0, pi / 2, 200_001)
    # Use lgamma: gamma overflows from 345 degrees of freedom up.
    constant = exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2)) / sqrt(pi)
    density = constant * np.cos(angle) ** (freedom - 1)
    steps = (density[1:] + density[:-1]) / 2 * (angle[1] - angle[0])
    return angle, np.concatenate([[0.0], np.cumsum(steps)])


def _check(resamples: int, level: float) -> None:
    if resamples < 1:
        raise UsageError(f"resamples: {resamples} is too small; at least 1")
    if not 0 < level < 1:
        raise UsageError(f"level: {level} is not between 0 and 1; 0.95 is usual")


def _bootstrap_weights(n_images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each image is drawn, in batches of (draws, images)."""
    generator = np.random.default_rng(seed)
    for begin in range(0, resamples, _CHUNK):
        n_draws = min(_CHUNK, resamples - begin)
        drawn = generator.integers(0, n_images, (n_draws, n_images))
        drawn += n_images * np.arange(n_draws)[:, np.newaxis]
        counts = np.bincount(drawn.ravel(), minlength=n_draws * n_images)
        yield counts.reshape(n_draws, n_images).astype(np.float64)


def _bootstrap(
    statistics: Sequence[ImageStatistics], resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Return every score of every bootstrap draw, (draws,) each."""
    sums: list[list[np.ndarray]] = [[] for _ in statistics]
    for weights in _bootstrap_weights(len(statistics[0].values), resamples, seed):
        for one, pieces in zip(statistics, sums, strict=True):
            pieces.append(weights @ one.values)
    return _scores_of_sums(statistics, [np.concatenate(pieces) for pieces in sums])


def _swap(
    ours: Sequence[ImageStatistics], theirs: Sequence[ImageStatistics], resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Return the differences after random swaps of the systems' captions, (draws,) each."""
    generator = np.random.default_rng(seed)
    changes: list[list[np.ndarray]] = [[] for _ in ours]
    for begin in range(0, resamples, _CHUNK):
        shape = (min(_CHUNK, resamples - begin), len(ours[0].values))
        swapped = generator.integers(0, 2, shape).astype(np.float64)
        for our, their, pieces in zip(ours, theirs, changes, strict=True):
            pieces.append(swapped @ (their.values - our.values))
    change = [np.concatenate(pieces) for pieces in changes]
    totals = zip(ours, theirs, change, strict=True)
    first, second = zip(
        *((our.values.sum(axis=0) + c, their.values.sum(axis=0) - c) for our, their, c in totals),
        strict=True,
    )
    before, after = _scores_of_sums(ours, first), _scores_of_sums(theirs, second)
    return {name: after[name] - before[name] for name in before}


def _scores_of_sums(
    statistics: Sequence[ImageStatistics], sums: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    return {
        name: column
        for one, values in zip(statistics, sums, strict=True)
        for name, column in zip(one.names, one.scores_of(values).T, strict=True)
    }


def _on_the_same_images(
    first: Scores, second: Scores
) -> tuple[list[ImageStatistics], list[ImageStatistics]]:
    """Return the statistics of the common metrics, with images in the same order."""
    row = {image: at for at, image in enumerate(second.image_ids)}
    missing = [image for image in first.image_ids if image not in row]
    if missing or len(row) != len(first.image_ids):
        raise CaptionerError(
            f"the systems were scored on different images ({len(first.image_ids)} and {len(row)}, "
            f"{len(first.image_ids) - len(missing)} in common); score both on the same images"
        )
    order = np.array([row[image] for image in first.image_ids])
    by_names = {one.names: one for one in second.statistics}
    ours = [one for one in first.statistics if one.names in by_names]
    theirs = [
        replace(by_names[one.names], values=by_names[one.names].values[order]) for one in ours
    ]
    return ours, theirs


def _middle(draws: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def _p_value(draws: np.ndarray, observed: float) -> float:
    extreme = int((np.abs(draws) >= abs(observed) - _ROUNDING).sum())
    return (1 + extreme) / (1 + len(draws))

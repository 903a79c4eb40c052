import math

import numpy as np
import pytest

from captioner.errors import CaptionerError, UsageError
from captioner.evaluation.scores import Scores, score
from captioner.evaluation.significance import (
    compare,
    holm,
    intervals,
    over_runs,
    student_quantile,
    welch,
)
from captioner.metrics.bleu import BLEU_NAMES, bleu_from_statistics
from captioner.metrics.statistics import ImageStatistics, mean_statistics


def simulated(rng: np.random.Generator, n_images: int, skill: np.ndarray) -> Scores:
    """A system whose captions are drawn anew; ``skill`` is what the images have in common."""
    lengths = rng.integers(7, 14, n_images)
    totals = lengths[:, np.newaxis] - np.arange(4)
    matched = np.empty((n_images, 4))
    left = totals[:, 0]
    for order in range(4):
        rate = np.clip(skill + rng.normal(0, 0.1, n_images) - 0.05 * order, 0.05, 0.95)
        left = rng.binomial(np.minimum(left, totals[:, order]), rate)
        matched[:, order] = left
    closest = lengths + rng.integers(-1, 3, n_images)
    values = np.column_stack([matched, totals, lengths, closest]).astype(float)
    bleu = ImageStatistics(BLEU_NAMES, values, bleu_from_statistics)
    cider = mean_statistics("CIDEr-D", rng.gamma(1.5, 0.6 * skill))
    return Scores(
        corpus=bleu.corpus() | cider.corpus(),
        per_image=bleu.per_image() | cider.per_image(),
        image_ids=tuple(range(n_images)),
        recipe={},
        warnings=(),
        statistics=(bleu, cider),
    )


def system(seed: int, n_images: int = 400, skill: float = 0.6) -> Scores:
    return simulated(np.random.default_rng(seed), n_images, np.full(n_images, skill))


def test_interval_of_a_mean_is_that_of_theory():
    scores = system(0, n_images=2000)
    found = intervals(scores, resamples=2000)["CIDEr-D"]
    values = scores.per_image["CIDEr-D"]
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert found.level == 0.95


def test_bleu_of_a_draw_comes_from_its_counts():
    scores = system(1, n_images=3)
    bleu = scores.statistics[0]
    possible = set()
    for drawn in np.ndindex(3, 3, 3):
        total = bleu.values[list(drawn)].sum(axis=0)
        possible.add(round(float(bleu_from_statistics(total)[3]), 12))
    found = intervals(scores, resamples=1)["BLEU-4"]
    assert round(found.low, 12) in possible


def test_draws_repeat_under_a_seed():
    scores = system(2)
    assert intervals(scores, seed=5) == intervals(scores, seed=5)
    assert intervals(scores, seed=5) != intervals(scores, seed=6)


def test_a_real_difference_is_found():
    for found in compare(system(3, skill=0.5), system(4, skill=0.7)):
        assert found.difference > 0
        assert found.interval.low > 0
        assert found.p_randomisation == pytest.approx(1 / 1001)
        assert found.p_bootstrap < 0.01
        assert found.verdict == "better"
    for found in compare(system(4, skill=0.7), system(3, skill=0.5)):
        assert found.verdict == "worse"


def test_the_same_system_twice_is_not_distinguishable():
    scores = system(5)
    for found in compare(scores, scores):
        assert found.difference == 0
        assert found.p_randomisation == found.p_bootstrap == found.p_holm == 1
        assert found.verdict == "not distinguishable"


def test_images_are_paired_by_id_not_by_place():
    captions = {n: f"a dog number {n} runs" for n in range(8)}
    references = {n: [f"the dog number {n} runs fast"] for n in range(8)}
    backwards = dict(reversed(references.items()))
    for found in compare(score(captions, references), score(captions, backwards)):
        assert abs(found.difference) < 1e-12
        assert found.p_randomisation == 1


def test_randomisation_by_enumeration():
    # Three images; the systems differ by 1, 2 and 4: of the 8 swaps two are as far apart as 7.
    first = mean_statistics("x", np.array([0.0, 0.0, 0.0]))
    second = mean_statistics("x", np.array([1.0, 2.0, 4.0]))
    scores = [
        Scores(one.corpus(), one.per_image(), (1, 2, 3), {}, (), (one,)) for one in (first, second)
    ]
    [found] = compare(*scores, resamples=20_000)
    assert found.p_randomisation == pytest.approx(2 / 8, abs=0.01)


def test_different_images_are_refused():
    with pytest.raises(CaptionerError, match=r"different images \(400 and 300, 300 in common\)"):
        compare(system(0), system(1, n_images=300))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_over_runs_by_hand():
    runs = [Scores({"CIDEr-D": value}, {}, (), {}, (), ()) for value in (1.0, 2.0, 3.0)]
    [found] = over_runs(runs)
    assert (found.mean, found.deviation, found.n_runs) == (2.0, 1.0, 3)
    # Student's t, two degrees of freedom: 4.3027.
    assert found.interval.high == pytest.approx(2 + 4.3027 / np.sqrt(3), abs=1e-3)
    with pytest.raises(UsageError, match="runs: 1; a deviation needs at least 2"):
        over_runs(runs[:1])


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2, 4.30265), (4, 2.77645), (30, 2.04227)]
)
def test_student_quantiles_are_those_of_the_tables(freedom, quantile):
    assert student_quantile(0.975, freedom) == pytest.approx(quantile, rel=1e-4)


def test_levels_and_draws_out_of_range():
    with pytest.raises(UsageError, match=r"level: .* is not between 0 and 1"):
        intervals(system(0), level=95)
    with pytest.raises(UsageError, match="resamples: 0 is too small; at least 1"):
        intervals(system(0), resamples=0)


@pytest.mark.slow
def test_intervals_cover_the_truth_in_95_of_100_trials():
    n_images, n_trials = 400, 1000
    rng = np.random.default_rng(0)
    truth = simulated(rng, 2_000_000, rng.uniform(0.4, 0.8, 2_000_000)).corpus
    inside = dict.fromkeys(truth, 0)
    for trial in range(n_trials):
        scores = simulated(rng, n_images, rng.uniform(0.4, 0.8, n_images))
        for name, found in intervals(scores, seed=trial).items():
            inside[name] += found.low <= truth[name] <= found.high
    for name, count in inside.items():
        assert 0.93 <= count / n_trials <= 0.97, name


@pytest.mark.slow
def test_p_values_of_equal_systems_are_uniform():
    n_images, n_trials = 300, 1000
    rng = np.random.default_rng(1)
    by_bootstrap: dict[str, list[float]] = {}
    by_randomisation: dict[str, list[float]] = {}
    for trial in range(n_trials):
        skill = rng.uniform(0.4, 0.8, n_images)
        first, second = simulated(rng, n_images, skill), simulated(rng, n_images, skill)
        for found in compare(first, second, resamples=400, seed=trial):
            by_bootstrap.setdefault(found.name, []).append(found.p_bootstrap)
            by_randomisation.setdefault(found.name, []).append(found.p_randomisation)
    # Kolmogorov and Smirnov: 1.63 / sqrt(n) is passed by chance in one of a hundred tests.
    bar = 1.63 / np.sqrt(n_trials) + 1 / 400
    for p_values in (*by_bootstrap.values(), *by_randomisation.values()):
        in_order = np.sort(p_values)
        distance = np.abs(in_order - (np.arange(n_trials) + 0.5) / n_trials).max()
        assert distance < bar


def test_many_runs_overflow_nothing() -> None:
    """The gamma function overflows at 172; Student's t is then nearly normal."""
    draw = np.random.default_rng(0)
    first, second = draw.normal(0, 1, 400), draw.normal(0.2, 1, 400)
    z = (second.mean() - first.mean()) / np.sqrt(first.var(ddof=1) / 400 + second.var(ddof=1) / 400)
    assert welch(first, second) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.05)

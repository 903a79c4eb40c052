"""Pairwise comparison of systems under every score, reported as tables or JSON.

Two kinds of noise affect a difference between systems. *Images*: other photos would give other
scores; the paired tests of `significance` measure this. *Seeds*: another training run would give
another system; if both systems have several runs, Welch's test measures this. A difference is
distinguishable only if it exceeds both, after Holm's correction for all scores and pairs in the
report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import ceil
from typing import Any

import numpy as np

from captioner.evaluation.recipe import Recipe
from captioner.evaluation.report import (
    bootstrap_recipe,
    notes_on,
    percent,
    shown,
    shown_interval,
)
from captioner.evaluation.scores import Scores
from captioner.evaluation.significance import (
    Comparison,
    Interval,
    compare,
    correct,
    intervals,
    over_runs,
    welch,
)
from captioner.evaluation.systems import System, average, in_common
from captioner.tables import Table

_LEVEL = 0.95


@dataclass(frozen=True)
class Pair:
    """The comparison of two systems under each score that both have."""

    first: str
    second: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class ComparisonReport:
    """The comparison of several systems.

    Attributes:
        systems: The systems in the order given.
        pairs: Each system with each later one.
        recipe: Recipe of the scores and tests.
        warnings: Warnings for the reader, one line each.
        intervals: Intervals over images by system and score; empty if not requested.
    """

    systems: tuple[System, ...]
    pairs: tuple[Pair, ...]
    recipe: Recipe
    warnings: tuple[str, ...]
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)

    def tables(self) -> list[Table]:
        """Return tables with scores times 100: all systems, then each pair."""
        names = list(self.systems[0].runs[0].corpus)
        rows = [(name, *(self._cell(system, name) for system in self.systems)) for name in names]
        header = ("score", *(system.name for system in self.systems))
        return [Table(header, tuple(rows), "Scores"), *map(_pair_table, self.pairs)]

    def _cell(self, system: System, name: str) -> str:
        text = shown(system.mean(name))
        if len(system.runs) > 1:
            text += f" ± {shown(float(np.std(system.values(name), ddof=1)))}"
        if system.name in self.intervals:
            text += f" ({shown_interval(self.intervals[system.name][name])})"
        return text

    def notes(self) -> list[str]:
        """Return the lines below the tables: how to read them, warnings and recipe."""
        lines = []
        runs = [len(system.runs) for system in self.systems]
        if max(runs) > 1:
            lines.append("mean ± standard deviation over runs")
        if self.pairs:
            over = "the larger of randomisation and runs" if max(runs) > 1 else "randomisation"
            lines.append(
                "difference: second system minus first; p (Holm): p-value of "
                f"{over}, corrected for {self._n_tests()} tests; "
                f"not distinguishable: p (Holm) of {1 - _LEVEL:.2g} or more"
            )
        return [*lines, *notes_on(self.warnings, self.recipe)]

    def _n_tests(self) -> int:
        return sum(len(pair.comparisons) for pair in self.pairs)

    def content(self) -> dict[str, Any]:
        """Return the report as a JSON object, with scores on the scale of the official tool."""
        return {
            "systems": [self._system_content(system) for system in self.systems],
            "comparisons": [
                _comparison_content(pair, one) for pair in self.pairs for one in pair.comparisons
            ],
            "recipe": dict(self.recipe),
            "warnings": list(self.warnings),
        }

    def _system_content(self, system: System) -> dict[str, Any]:
        names = list(system.runs[0].corpus)
        content: dict[str, Any] = {
            "name": system.name,
            "results": list(system.files),
            "scores": {name: system.mean(name) for name in names},
        }
        if len(system.runs) > 1:
            content["runs"] = {name: system.values(name) for name in names}
            summaries = over_runs(system.runs, level=_LEVEL)
            content["deviations"] = {one.name: one.deviation for one in summaries}
            content["intervals_over_runs"] = {
                one.name: [one.interval.low, one.interval.high] for one in summaries
            }
        if system.name in self.intervals:
            content["intervals"] = {
                name: [interval.low, interval.high]
                for name, interval in self.intervals[system.name].items()
            }
        return content


def compare_systems(
    systems: Sequence[System],
    *,
    resamples: int = 1000,
    seed: int = 0,
    with_intervals: bool = False,
    recipe: Recipe | None = None,
) -> ComparisonReport:
    """Compare every system with every later one.

    Args:
        systems: Systems scored on the same images.
        resamples: Number of resamples of each test.
        seed: Seed of the resampling.
        with_intervals: Whether to compute intervals over images for each system.
        recipe: Entries to add to the recipe of the scores.

    Raises:
        CaptionerError: The images differ, or no score is common to all runs.
    """
    systems = in_common(systems)
    averaged = {system.name: average(system.runs) for system in systems}
    tested = [
        (first, second, comparison)
        for first, second in combinations(systems, 2)
        for comparison in compare_pair(first, second, averaged, resamples=resamples, seed=seed)
    ]
    corrected = correct([comparison for _, _, comparison in tested], _LEVEL)
    together: dict[tuple[str, str], list[Comparison]] = {}
    for (first, second, _), comparison in zip(tested, corrected, strict=True):
        together.setdefault((first.name, second.name), []).append(comparison)
    warnings = _warnings(systems, len(tested), resamples)
    tests: Recipe = {}
    if tested:
        tests["tests"] = (
            f"paired bootstrap, randomisation over images, {resamples} resamples, seed {seed}; "
            f"Holm over {len(tested)}"
        )
    found = {}
    if with_intervals:
        found = {
            name: intervals(scores, resamples=resamples, level=_LEVEL, seed=seed)
            for name, scores in averaged.items()
        }
        tests["intervals"] = bootstrap_recipe(resamples, _LEVEL, seed)
    return ComparisonReport(
        tuple(systems),
        tuple(Pair(*names, tuple(comparisons)) for names, comparisons in together.items()),
        {**(recipe or {}), **systems[0].runs[0].recipe, **tests},
        tuple(warnings),
        found,
    )


def compare_pair(
    first: System,
    second: System,
    averaged: Mapping[str, Scores],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Comparison]:
    """Compare two systems under each score, without correction for other pairs (see `correct`).

    Args:
        first: The first system.
        second: The second system, scored on the same images.
        averaged: The averaged runs of each system (see `average`), by name.
        resamples: Number of resamples of each test.
        seed: Seed of the resampling.

    Raises:
        CaptionerError: The images differ.
    """
    over_images = compare(
        averaged[first.name], averaged[second.name], resamples=resamples, level=_LEVEL, seed=seed
    )
    several = len(first.runs) > 1 and len(second.runs) > 1
    return [
        replace(
            one,
            first=first.mean(one.name),
            second=second.mean(one.name),
            difference=second.mean(one.name) - first.mean(one.name),
            p_runs=welch(first.values(one.name), second.values(one.name)) if several else None,
        )
        for one in over_images
    ]


@dataclass(frozen=True)
class Outcome:
    """On how many images each of two systems has the higher score."""

    first: int
    ties: int
    second: int


def count_wins(first: Sequence[float], second: Sequence[float]) -> Outcome:
    """Count on how many images each system has the higher score.

    Args:
        first: Scores of the first system, one per image.
        second: Scores of the second system, of the same images.

    Example:
        >>> count_wins([0.1, 0.5, 0.5], [0.2, 0.5, 0.4])
        Outcome(first=1, ties=1, second=1)
    """
    difference = np.subtract(second, first)
    # Sums in another order differ in the last digits.
    higher, lower = int((difference > 1e-9).sum()), int((difference < -1e-9).sum())
    return Outcome(lower, len(difference) - higher - lower, higher)


def _warnings(systems: Sequence[System], n_tests: int, resamples: int) -> list[str]:
    told = [set(run.warnings) for system in systems for run in system.runs]
    common = set.intersection(*told) if len(told) > 1 else set()
    warnings = [warning for warning in systems[0].runs[0].warnings if warning in common]
    warnings += [
        f"{system.files[at] if system.files else system.name}: {warning}"
        for system in systems
        for at, run in enumerate(system.runs)
        for warning in run.warnings
        if warning not in common
    ]
    single = [system.name for system in systems if len(system.runs) == 1]
    if single and len(systems) > 1:
        warnings.append(
            f"single run of {', '.join(single)}: p-values do not include the variation between "
            "seeds; compare several runs"
        )
    needed = ceil(n_tests / (1 - _LEVEL))
    if resamples < needed:
        warnings.append(
            f"{n_tests} tests with {resamples} resamples: no difference can be distinguished; "
            f"use at least {needed} resamples"
        )
    return warnings


def _pair_table(pair: Pair) -> Table:
    over_seeds = any(one.p_runs is not None for one in pair.comparisons)
    rows = [
        (
            one.name,
            f"{100 * one.difference:+z.1f}",
            shown_interval(one.interval),
            _p(one.p_bootstrap),
            _p(one.p_randomisation),
            *([_p(one.p_runs or 0.0)] if over_seeds else []),
            _p(one.p_holm),
            one.verdict,
        )
        for one in pair.comparisons
    ]
    header = (
        "score",
        "difference",
        f"{percent(_LEVEL)} interval",
        "p (bootstrap)",
        "p (randomisation)",
        *(["p (runs)"] if over_seeds else []),
        "p (Holm)",
        pair.second,
    )
    title = f"{pair.second} compared with {pair.first}"
    return Table(header, tuple(rows), title, frozenset({0, len(header) - 1}))


def _comparison_content(pair: Pair, one: Comparison) -> dict[str, Any]:
    p_values = {"bootstrap": one.p_bootstrap, "randomisation": one.p_randomisation}
    if one.p_runs is not None:
        p_values["runs"] = one.p_runs
    return {
        "score": one.name,
        "first": pair.first,
        "second": pair.second,
        "difference": one.difference,
        "interval": [one.interval.low, one.interval.high],
        "p_values": p_values,
        "p_holm": one.p_holm,
        "verdict": one.verdict,
    }


def _p(value: float) -> str:
    return "<0.001" if value < 0.0005 else f"{value:.3f}"

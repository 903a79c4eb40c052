"""Systems beside one another: every pair under every score, told as tables or JSON.

Two kinds of noise stand between two systems. *Images*: other photos would give other scores; the
paired tests of `significance` say how much that can be. *Seeds*: another run of the same training
would give another system; where both have several runs, Welch's test over these says how much that
can be. A difference counts as one only if it is more than both, after Holm's correction for all
scores and pairs told together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from captioner.data.records import ImageId
from captioner.errors import CaptionerError, UsageError
from captioner.evaluation.files import read_candidates, read_references
from captioner.evaluation.recipe import Recipe
from captioner.evaluation.report import (
    bootstrap_recipe,
    notes_on,
    percent,
    shown,
    shown_interval,
)
from captioner.evaluation.scores import REPORTED, Scores, score
from captioner.evaluation.significance import (
    Comparison,
    Interval,
    compare,
    correct,
    intervals,
    over_runs,
    welch,
)
from captioner.tables import Table

_LEVEL = 0.95


@dataclass(frozen=True)
class System:
    """One or more runs of a system on the same images.

    Attributes:
        name: What it is called.
        runs: The scores of each.
        files: The result file of each.
    """

    name: str
    runs: tuple[Scores, ...]
    files: tuple[str, ...] = ()

    def values(self, name: str) -> list[float]:
        """A score of each run."""
        return [run.corpus[name] for run in self.runs]

    def mean(self, name: str) -> float:
        """A score's mean over runs."""
        return float(np.mean(self.values(name)))


@dataclass(frozen=True)
class Pair:
    """Two systems under each score that both have."""

    first: str
    second: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class ComparisonReport:
    """What is told of systems beside one another.

    Attributes:
        systems: In the order given.
        pairs: Each with each later one.
        recipe: What produced the scores and the tests.
        warnings: What a reader should know, one line each.
        intervals: Over images, by system and score; empty if they were not asked for.
    """

    systems: tuple[System, ...]
    pairs: tuple[Pair, ...]
    recipe: Recipe
    warnings: tuple[str, ...]
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)

    def tables(self) -> list[Table]:
        """For a person; scores times 100: all systems, then each pair."""
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
        """What a reader of the tables must know."""
        lines = []
        runs = [len(system.runs) for system in self.systems]
        if max(runs) > 1:
            lines.append("mean ± standard deviation over runs")
        if self.pairs:
            over = (
                "randomisation or over runs, whichever is larger"
                if max(runs) > 1
                else "randomisation"
            )
            lines.append(
                "differences: second system less first; p (Holm): of "
                f"{over}, corrected for the {self._n_tests()} tests together; "
                f"not distinguishable: from {1 - _LEVEL:.2g} up"
            )
        return [*lines, *notes_on(self.warnings, self.recipe)]

    def _n_tests(self) -> int:
        return sum(len(pair.comparisons) for pair in self.pairs)

    def content(self) -> dict[str, Any]:
        """For a program; scores as the official tool gives them."""
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
    """Every system beside every later one.

    Args:
        systems: Scored on the same images.
        resamples: Draws of each test.
        seed: Of the draws.
        with_intervals: Whether intervals over images are told of each system.
        recipe: What the scores' own recipes do not say.

    Raises:
        CaptionerError: If the images differ, or there is no score that all runs have.
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


def in_common(systems: Sequence[System]) -> list[System]:
    """The systems under the scores that every run of each has.

    A score that stands on a Java program may be there for one run and fail for the next.

    Raises:
        CaptionerError: If there is none.
    """
    runs = [run for system in systems for run in system.runs]
    names = set.intersection(*({one.names for one in run.statistics} for run in runs))
    if not names:
        told = dict.fromkeys(warning for run in runs for warning in run.warnings)
        raise CaptionerError(f"no score that all runs have: {'; '.join(told)}")
    return [
        replace(system, runs=tuple(_of_statistics(run, names) for run in system.runs))
        for system in systems
    ]


def _of_statistics(run: Scores, names: Collection[tuple[str, ...]]) -> Scores:
    """A run under some of its scores."""
    dropped = {name for one in run.statistics if one.names not in names for name in one.names}
    return replace(
        run,
        corpus={name: value for name, value in run.corpus.items() if name not in dropped},
        per_image={name: values for name, values in run.per_image.items() if name not in dropped},
        recipe={name: value for name, value in run.recipe.items() if name not in dropped},
        statistics=tuple(one for one in run.statistics if one.names in names),
    )


def compare_pair(
    first: System,
    second: System,
    averaged: Mapping[str, Scores],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Comparison]:
    """Two systems under each score; to be corrected for the other pairs (`correct`).

    Args:
        first: One system.
        second: Another one, on the same images.
        averaged: The runs of each as one (`average`), by the system's name.
        resamples: Draws of each test.
        seed: Of the draws.

    Raises:
        CaptionerError: If the images differ.
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


def average(runs: Sequence[Scores]) -> Scores:
    """Runs as one: of each image the statistics' mean over runs.

    For a score that is a mean over images that is its mean over runs. BLEU becomes that of all
    runs' captions together, which is near the mean of their BLEUs.

    Raises:
        CaptionerError: If the runs were scored on different images.
    """
    if any(run.image_ids != runs[0].image_ids for run in runs):
        raise CaptionerError("the runs of one system were scored on different images")
    statistics = tuple(
        replace(group[0], values=np.mean([one.values for one in group], axis=0))
        for group in zip(*(run.statistics for run in runs), strict=True)
    )
    return replace(
        runs[0],
        corpus={name: value for one in statistics for name, value in one.corpus().items()},
        per_image={name: values for one in statistics for name, values in one.per_image().items()},
        statistics=statistics,
    )


def read_systems(
    given: Sequence[str],
    references: Path,
    *,
    metrics: Sequence[str] | None = None,
    subset: bool = False,
) -> tuple[list[System], Recipe]:
    """Systems from result files.

    Args:
        given: For each system ``FILE``, ``FILE,FILE,…`` for several runs of it, or either behind
            ``NAME=``.
        references: COCO annotation file.
        metrics: Which scores; None: `captioner.evaluation.scores.REPORTED`.
        subset: Whether to score only the images that all files have captions for.

    Returns:
        The systems, and what to say of their images.

    Raises:
        UsageError: If a file is not there or stands twice in a system, or two systems have one
            name, or there is nothing to compare.
        CaptionerError: If a file is not of its format, or images have no caption.
    """
    named = [_parse_system(text) for text in given]
    if len(named) == 1 and len(named[0][1]) == 1:
        raise UsageError(
            "--compare: one result file; give two or more, or several runs: A1.json,A2.json"
        )
    for name, count in Counter(name for name, _ in named).items():
        if count > 1:
            raise UsageError(
                f"--compare: {count} systems are called {name}; name them: "
                f"one={given[0]} two={given[1]}"
            )
    groups = read_references(references)
    captions: dict[Path, Mapping[ImageId, str]] = {
        file: {image: group[0] for image, group in read_candidates(file, images=groups).items()}
        for _, files in named
        for file in files
    }
    recipe: Recipe = {}
    if subset:
        common = {
            image: group
            for image, group in groups.items()
            if all(image in found for found in captions.values())
        }
        if not common:
            raise CaptionerError(f"--subset: no image of {references} is in every result file")
        recipe["subset"] = f"{len(common)} of {len(groups)} images"
        captions = {
            file: {i: text for i, text in found.items() if i in common or i not in groups}
            for file, found in captions.items()
        }
        groups = common
    systems = []
    for name, files in named:
        runs = []
        for file in files:
            try:
                runs.append(score(captions[file], groups, metrics=metrics or REPORTED))
            except CaptionerError as error:
                raise CaptionerError(f"{file}: {error}") from error
        systems.append(System(name, tuple(runs), tuple(map(str, files))))
    return systems, recipe


def _parse_system(text: str) -> tuple[str, list[Path]]:
    """Name and files of one argument; an argument that is a file's name is that file."""
    if Path(text).is_file():
        return Path(text).name, [Path(text)]
    name, equals, rest = text.partition("=")
    if equals and not name:
        raise UsageError(f"--compare: {text} has no name before the =; write NAME{text}")
    files = [Path(part) for part in (rest if equals else text).split(",")]
    for file, count in Counter(files).items():
        if count > 1:
            raise UsageError(f"--compare: {file} stands {count} times among the runs of {text}")
        if not file.is_file():
            raise UsageError(f"--compare: no result file {file}")
    several = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return (name if equals else files[0].name + several), files


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
            f"one run only of {', '.join(single)}: that another seed would give other scores is "
            "not in its p-values"
        )
    needed = ceil(n_tests / (1 - _LEVEL))
    if resamples < needed:
        warnings.append(
            f"{n_tests} tests together: with {resamples} resamples none can be distinguished; "
            f"take {needed} or more"
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
    title = f"{pair.second} beside {pair.first}"
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

"""Collect the results of a study's runs, and test which differences are significant.

The tests are those of `captioner.evaluation.comparison`: over images, and also over seeds if both
configurations have several runs. Configurations are sorted by one score. Each is compared under
that score with the next one and with the best one, as two families of tests with a Holm correction
each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from captioner.build import read_records
from captioner.config.schema import DataConfig
from captioner.datasets.records import ImageId, by_split
from captioner.errors import CaptionerError
from captioner.evaluation.comparison import compare_pair
from captioner.evaluation.recipe import Recipe
from captioner.evaluation.result_files import read_results
from captioner.evaluation.scores import REPORTED, Scores, score
from captioner.evaluation.significance import Comparison, Interval, correct, intervals
from captioner.evaluation.systems import System, average
from captioner.study.plan import Configuration, Run, Study
from captioner.study.run_folder import Summary, check_same, read_failure, read_summary

LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Result:
    """Result of one configuration.

    Attributes:
        configuration: The configuration.
        runs: Its finished runs.
        summaries: Their summaries.
        system: Their scores.
        averaged: Their mean scores, in the form of a single run.
        intervals: Confidence interval of each score, over images.
    """

    configuration: Configuration
    runs: tuple[Run, ...]
    summaries: tuple[Summary, ...]
    system: System
    averaged: Scores
    intervals: Mapping[str, Interval]

    @property
    def name(self) -> str:
        """Name of the configuration."""
        return self.configuration.name

    def deviation(self, name: str) -> float | None:
        """Return a score's standard deviation over runs (divisor runs - 1); None for one run."""
        values = self.system.values(name)
        return float(np.std(values, ddof=1)) if len(values) > 1 else None


@dataclass(frozen=True)
class Ranking:
    """All configurations of a study, ranked.

    Attributes:
        score: Score that sorts the configurations.
        results: Results, best first.
        than_next: Comparison of each with the one below it; None for the last one, and where the
            two were scored on different images.
        than_best: Comparison of each with the first; None for the first, and where the two were
            scored on different images.
        missing: Unfinished runs and the reasons.
        recipe: Settings that produced the scores.
    """

    score: str
    results: tuple[Result, ...]
    than_next: tuple[Comparison | None, ...]
    than_best: tuple[Comparison | None, ...]
    missing: tuple[tuple[Run, str], ...]
    recipe: Recipe


def rank(study: Study) -> Ranking:
    """Read the results of a study's runs, and compare its configurations.

    Raises:
        CaptionerError: No run is finished, or the data set to score against is missing.
    """
    references: dict[DataConfig, dict[ImageId, Sequence[str]]] = {}
    results: list[Result] = []
    missing: list[tuple[Run, str]] = []
    for configuration in study.configurations:
        done: list[tuple[Run, Summary]] = []
        for run in configuration.runs:
            check_same(run)
            summary = read_summary(run.folder)
            if summary is None or summary.split != study.split:
                missing.append((run, read_failure(run.folder) or "not run yet"))
            else:
                done.append((run, summary))
        if not done:
            continue
        data = configuration.runs[0].config.data
        if data not in references:
            records = by_split(read_records(data).records, study.split)
            references[data] = {record.image_id: record.captions for record in records}
        results.append(result_of(configuration, done, references[data]))
    if not results:
        run, reason = missing[0]
        raise CaptionerError(
            f"{study.output}: none of the {len(study.runs)} runs is finished; "
            f"the first, {run}: {reason}"
        )
    results.sort(key=lambda result: result.system.mean(study.score), reverse=True)
    best = results[0]
    return Ranking(
        score=study.score,
        results=tuple(results),
        than_next=(*compare_all([(b, a) for a, b in pairwise(results)], study.score), None),
        than_best=(None, *compare_all([(best, other) for other in results[1:]], study.score)),
        missing=tuple(missing),
        recipe={
            **{k: v for k, v in best.summaries[0].recipe.items() if k != "checkpoint"},
            **best.averaged.recipe,
            "tests": f"randomisation over images, {RESAMPLES} resamples; Welch over runs; Holm",
        },
    )


def result_of(
    configuration: Configuration,
    done: Sequence[tuple[Run, Summary]],
    references: Mapping[ImageId, Sequence[str]],
) -> Result:
    """Combine the finished runs of a configuration."""
    system = System(configuration.name, tuple(score_run(run, references) for run, _ in done))
    averaged = average(system.runs)
    return Result(
        configuration,
        tuple(run for run, _ in done),
        tuple(summary for _, summary in done),
        system,
        averaged,
        intervals(averaged, level=LEVEL, resamples=RESAMPLES),
    )


def score_run(run: Run, references: Mapping[ImageId, Sequence[str]]) -> Scores:
    """Score the captions of a run; per-image statistics for the tests are not stored on disk."""
    captions = read_results(run.folder / "captions.json")
    unknown = [image for image in captions if image not in references]
    if unknown:
        raise CaptionerError(
            f"{run.folder}: image {unknown[0]!r} is no longer in {run.config.data.root}"
        )
    scored = {image: group for image, group in references.items() if image in captions}
    tokenizer = run.config.vocabulary.tokenizer
    return score(captions, scored, metrics=REPORTED, tokenizer=tokenizer)


def compare_all(pairs: Sequence[tuple[Result, Result]], name: str) -> list[Comparison | None]:
    """Compare each pair under a score, as one family of tests with a Holm correction."""
    found = [compare_results(first, second, name) for first, second in pairs]
    corrected = iter(correct([one for one in found if one is not None], LEVEL))
    return [None if one is None else next(corrected) for one in found]


def compare_results(first: Result, second: Result, name: str) -> Comparison | None:
    """Compare two results under a score, uncorrected; None if their images differ."""
    if set(first.averaged.image_ids) != set(second.averaged.image_ids):
        return None
    averaged = {  # only this score, because resampling the others would be wasted work
        one.name: replace(
            one.averaged, statistics=tuple(s for s in one.averaged.statistics if name in s.names)
        )
        for one in (first, second)
    }
    compared = compare_pair(first.system, second.system, averaged, resamples=RESAMPLES)
    return next(one for one in compared if one.name == name)

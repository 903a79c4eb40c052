"""What the runs of a study came to, and which differences are more than noise.

The tests are those of `captioner.evaluation.comparison`: over images, and over seeds where both
configurations have several. Configurations are sorted by one score, and each is compared under it
with the next one and with the best one, two families of tests with a Holm correction each.
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
    """What one configuration came to.

    Attributes:
        configuration: which.
        runs: those that are done.
        summaries: of these runs.
        system: their scores.
        averaged: their scores as those of one run.
        intervals: of each score, over images.
    """

    configuration: Configuration
    runs: tuple[Run, ...]
    summaries: tuple[Summary, ...]
    system: System
    averaged: Scores
    intervals: Mapping[str, Interval]

    @property
    def name(self) -> str:
        """Of the configuration."""
        return self.configuration.name

    def deviation(self, name: str) -> float | None:
        """A score's standard deviation over runs (divisor: runs - 1); None for a single run."""
        values = self.system.values(name)
        return float(np.std(values, ddof=1)) if len(values) > 1 else None


@dataclass(frozen=True)
class Ranking:
    """All configurations of a study.

    Attributes:
        score: what they are sorted by.
        results: best first.
        than_next: each beside the one below it; None for the last one, and for one whose neighbour
            was scored on other images.
        than_best: each beside the first; None for the first, and on other images.
        missing: runs that are not done, and why.
        recipe: what produced the scores.
    """

    score: str
    results: tuple[Result, ...]
    than_next: tuple[Comparison | None, ...]
    than_best: tuple[Comparison | None, ...]
    missing: tuple[tuple[Run, str], ...]
    recipe: Recipe


def rank(study: Study) -> Ranking:
    """Read what the runs of a study left, and compare its configurations.

    Raises:
        CaptionerError: no run is done, or the data set is not there to score against.
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
            f"{study.output}: none of the {len(study.runs)} runs is done; "
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
    """What the runs of a configuration that are done came to."""
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
    """The captions that a run left, scored: what tests need of each image is not kept on disk."""
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
    """The second of each pair beside the first under a score, as one family of tests."""
    found = [compare_results(first, second, name) for first, second in pairs]
    corrected = iter(correct([one for one in found if one is not None], LEVEL))
    return [None if one is None else next(corrected) for one in found]


def compare_results(first: Result, second: Result, name: str) -> Comparison | None:
    """The second beside the first under a score, uncorrected; None on different images."""
    if set(first.averaged.image_ids) != set(second.averaged.image_ids):
        return None
    averaged = {  # the other scores would be resampled for nothing
        one.name: replace(
            one.averaged, statistics=tuple(s for s in one.averaged.statistics if name in s.names)
        )
        for one in (first, second)
    }
    compared = compare_pair(first.system, second.system, averaged, resamples=RESAMPLES)
    return next(one for one in compared if one.name == name)

"""What the runs of a study came to, and which differences are more than noise.

Two kinds of noise stand between two configurations. **Images**: another thousand photos would give
other scores; a paired test over images, on scores averaged over seeds, says how much that can be
(approximate randomisation; the paired bootstrap is given beside it). **Seeds**: another seed gives
another network; where both configurations have several, Welch's t-test over their runs says how
much that can be. A difference counts only if it stands out from both: the larger of the two
p-values is taken, corrected for the number of neighbours by Holm's method.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from captioner.assembly import read_records
from captioner.config import DataConfig
from captioner.data.records import ImageId, by_split
from captioner.errors import CaptionerError
from captioner.evaluation.files import read_results
from captioner.evaluation.recipe import Recipe
from captioner.evaluation.scores import Scores, score
from captioner.evaluation.significance import Interval, compare, holm, intervals, welch
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
        scores: averaged over these runs, image by image.
        intervals: of each score, over images.
    """

    configuration: Configuration
    runs: tuple[Run, ...]
    summaries: tuple[Summary, ...]
    scores: Scores
    intervals: Mapping[str, Interval]

    def values(self, name: str) -> list[float]:
        """A score of each run."""
        return [summary.scores[name] for summary in self.summaries]

    def mean(self, name: str) -> float:
        """A score's mean over runs."""
        return float(np.mean(self.values(name)))

    def deviation(self, name: str) -> float | None:
        """A score's standard deviation over runs (divisor: runs - 1); None for a single run."""
        values = self.values(name)
        return float(np.std(values, ddof=1)) if len(values) > 1 else None


@dataclass(frozen=True)
class Difference:
    """One configuration beside a worse one.

    Attributes:
        difference: mean score of the first less that of the second.
        p_images: over images, by approximate randomisation.
        p_bootstrap: over images, by paired bootstrap; for comparison only.
        p_seeds: over seeds, by Welch's t-test; None where one of them has a single run.
        p: the larger of `p_images` and `p_seeds`, by Holm's method.
    """

    difference: float
    p_images: float
    p_bootstrap: float
    p_seeds: float | None
    p: float

    @property
    def distinguishable(self) -> bool:
        """Whether the difference is more than noise."""
        return self.p < 1 - LEVEL

    def __str__(self) -> str:
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        if not self.distinguishable:
            return f"not distinguishable ({p})"
        seeds = "" if self.p_seeds is not None else "; images only"
        return f"better ({p}{seeds})"


@dataclass(frozen=True)
class Comparison:
    """All configurations of a study.

    Attributes:
        score: what they are sorted by.
        results: best first.
        to_next: each beside the one below it, one fewer than results; None where they were scored
            on different images.
        from_best: the best one beside each of the others, likewise.
        missing: runs that are not done, and why.
        recipe: what produced the scores.
    """

    score: str
    results: tuple[Result, ...]
    to_next: tuple[Difference | None, ...]
    from_best: tuple[Difference | None, ...]
    missing: tuple[tuple[Run, str], ...]
    recipe: Recipe


def compare_runs(study: Study) -> Comparison:
    """Read what the runs of a study left, and compare its configurations.

    Raises:
        CaptionerError: no run is done, or the data set is not there to score against.
    """
    references: dict[DataConfig, dict[ImageId, Sequence[str]]] = {}
    results: list[Result] = []
    missing: list[tuple[Run, str]] = []
    for configuration in study.configurations:
        summaries: list[tuple[Run, Summary]] = []
        for run in configuration.runs:
            check_same(run)
            summary = read_summary(run.folder)
            if summary is None or summary.split != study.split:
                missing.append((run, read_failure(run.folder) or "not run yet"))
            else:
                summaries.append((run, summary))
        if not summaries:
            continue
        data = configuration.runs[0].config.data
        if data not in references:
            records = by_split(read_records(data).records, study.split)
            references[data] = {record.image_id: record.captions for record in records}
        scores = average([score_run(run, references[data]) for run, _ in summaries])
        results.append(
            Result(
                configuration,
                tuple(run for run, _ in summaries),
                tuple(summary for _, summary in summaries),
                scores,
                intervals(scores, level=LEVEL, resamples=RESAMPLES),
            )
        )
    if not results:
        run, reason = missing[0]
        raise CaptionerError(
            f"{study.output}: none of the {len(study.runs)} runs is done; "
            f"the first, {run}: {reason}"
        )
    results.sort(key=lambda result: result.mean(study.score), reverse=True)
    best = results[0]
    return Comparison(
        score=study.score,
        results=tuple(results),
        to_next=differences(list(pairwise(results)), study.score),
        from_best=differences([(best, other) for other in results[1:]], study.score),
        missing=tuple(missing),
        recipe={k: v for k, v in best.summaries[0].recipe.items() if k != "checkpoint"},
    )


def score_run(run: Run, references: Mapping[ImageId, Sequence[str]]) -> Scores:
    """The captions that a run left, scored: the statistics of each image are not kept on disk."""
    captions = read_results(run.folder / "captions.json")
    unknown = [image for image in captions if image not in references]
    if unknown:
        raise CaptionerError(
            f"{run.folder}: image {unknown[0]!r} is no longer in {run.config.data.root}"
        )
    return score(captions, {image: references[image] for image in references if image in captions})


def average(runs: Sequence[Scores]) -> Scores:
    """Scores of a configuration: of each image, the statistics' mean over runs.

    For CIDEr-D and ROUGE-L that is the mean score. BLEU becomes that of all runs' captions
    together, which is near the mean of their BLEUs.

    Raises:
        CaptionerError: the runs were scored on different images.
    """
    if any(run.image_ids != runs[0].image_ids for run in runs):
        raise CaptionerError("the runs of one configuration were scored on different images")
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


def differences(pairs: Sequence[tuple[Result, Result]], name: str) -> tuple[Difference | None, ...]:
    """Pairs, the better one first, compared under a score as one family of tests."""
    found = [difference(first, second, name) for first, second in pairs]
    tested = [one for one in found if one is not None]
    corrected = iter(holm([one.p for one in tested]))
    return tuple(None if one is None else replace(one, p=next(corrected)) for one in found)


def difference(first: Result, second: Result, name: str) -> Difference | None:
    """Two configurations under a score; `p` is not corrected. None on different images."""
    if set(first.scores.image_ids) != set(second.scores.image_ids):
        return None
    ours, theirs = (
        replace(scores, statistics=tuple(one for one in scores.statistics if name in one.names))
        for scores in (first.scores, second.scores)
    )
    over_images = next(
        one for one in compare(ours, theirs, resamples=RESAMPLES, level=LEVEL) if one.name == name
    )
    several = len(first.runs) > 1 and len(second.runs) > 1
    p_seeds = welch(first.values(name), second.values(name)) if several else None
    return Difference(
        difference=first.mean(name) - second.mean(name),
        p_images=over_images.p_randomisation,
        p_bootstrap=over_images.p_bootstrap,
        p_seeds=p_seeds,
        p=max(over_images.p_randomisation, p_seeds or 0.0),
    )

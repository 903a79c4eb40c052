"""Systems to compare: one or more runs each, read from result files and scored alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from captioner.datasets.records import ImageId
from captioner.errors import CaptionerError, UsageError
from captioner.evaluation.recipe import Recipe
from captioner.evaluation.references import load_references
from captioner.evaluation.report import split_of
from captioner.evaluation.result_files import load_results
from captioner.evaluation.scores import REPORTED, Scores, score


@dataclass(frozen=True)
class System:
    """One or more runs of a system on the same images.

    Attributes:
        name: Name of the system.
        runs: Scores of each run.
        files: Result file of each run.
    """

    name: str
    runs: tuple[Scores, ...]
    files: tuple[str, ...] = ()

    def values(self, name: str) -> list[float]:
        """Return one score of each run."""
        return [run.corpus[name] for run in self.runs]

    def mean(self, name: str) -> float:
        """Return the mean of one score over runs."""
        return float(np.mean(self.values(name)))


def average(runs: Sequence[Scores]) -> Scores:
    """Average the per-image statistics of several runs.

    A score that is a mean over images becomes its mean over runs. BLEU becomes the BLEU of all
    runs' captions pooled, which is close to the mean of their BLEU scores.

    Raises:
        CaptionerError: The runs were scored on different images.
    """
    if any(run.image_ids != runs[0].image_ids for run in runs):
        raise CaptionerError(
            "the runs of a system were scored on different images; score all on the same"
        )
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


def in_common(systems: Sequence[System]) -> list[System]:
    """Restrict systems to the scores that all runs have.

    A score computed by a Java program may succeed for one run and fail for the next.

    Raises:
        CaptionerError: No score is common to all runs.
    """
    runs = [run for system in systems for run in system.runs]
    names = set.intersection(*({one.names for one in run.statistics} for run in runs))
    if not names:
        told = dict.fromkeys(warning for run in runs for warning in run.warnings)
        raise CaptionerError(f"no score is common to all runs: {'; '.join(told)}")
    return [
        replace(system, runs=tuple(_of_statistics(run, names) for run in system.runs))
        for system in systems
    ]


def _of_statistics(run: Scores, names: Collection[tuple[str, ...]]) -> Scores:
    """Restrict a run to some of its scores."""
    dropped = {name for one in run.statistics if one.names not in names for name in one.names}
    return replace(
        run,
        corpus={name: value for name, value in run.corpus.items() if name not in dropped},
        per_image={name: values for name, values in run.per_image.items() if name not in dropped},
        recipe={name: value for name, value in run.recipe.items() if name not in dropped},
        statistics=tuple(one for one in run.statistics if one.names in names),
    )


def read_systems(
    given: Sequence[str],
    references: Path,
    *,
    metrics: Sequence[str] | None = None,
    subset: bool = False,
) -> tuple[list[System], Recipe]:
    """Read and score systems from result files.

    Args:
        given: One argument per system: `FILE`, or `FILE,FILE,…` for several runs. Either may be
            prefixed by `NAME=`.
        references: Annotation file in any format of `references`.
        metrics: Names of the metrics. Default: `captioner.evaluation.scores.REPORTED`.
        subset: Whether to score only the images captioned in all files.

    Returns:
        The systems, and recipe entries about their images.

    Raises:
        UsageError: A file does not exist or occurs twice in a system, two systems have the same
            name, or there is nothing to compare.
        CaptionerError: A file has the wrong format, or images have no caption.
    """
    named = [_parse_system(text) for text in given]
    if len(named) == 1 and len(named[0][1]) == 1:
        raise UsageError(
            "--compare: one result file; at least two, or several runs: A1.json,A2.json"
        )
    for name, count in Counter(name for name, _ in named).items():
        if count > 1:
            raise UsageError(
                f"--compare: {count} systems have the name {name}; rename them: "
                f"one={given[0]} two={given[1]}"
            )
    known = load_references(references)
    groups = known.groups
    results = {file: load_results(file, known) for _, files in named for file in files}
    captions: dict[Path, Mapping[ImageId, str]] = {
        file: {image: group[0] for image, group in found.groups.items()}
        for file, found in results.items()
    }
    recipe: Recipe = {}
    captioned = {image for found in captions.values() for image in found}
    if (split := split_of(captioned, known)) is not None:
        groups = {image: group for image, group in groups.items() if known.splits[image] == split}
        recipe["split"] = split
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
                run = score(captions[file], groups, metrics=metrics or REPORTED)
            except CaptionerError as error:
                raise CaptionerError(f"{file}: {error}") from error
            notes = (*known.notes, *results[file].notes)
            runs.append(replace(run, warnings=(*notes, *run.warnings)))
        systems.append(System(name, tuple(runs), tuple(map(str, files))))
    return systems, recipe


def _parse_system(text: str) -> tuple[str, list[Path]]:
    """Return the name and files of one argument. The path of an existing file means that file."""
    if Path(text).exists():
        return Path(text).name, [Path(text)]
    name, equals, rest = text.partition("=")
    if equals and not name:
        raise UsageError(f"--compare: {text} has no name before =; write NAME{text}")
    files = [Path(part) for part in (rest if equals else text).split(",")]
    for file, count in Counter(files).items():
        if count > 1:
            raise UsageError(
                f"--compare: {file} occurs {count} times in {text}; list each run once"
            )
        if not file.exists():
            raise UsageError(f"--compare: no result file {file}")
    several = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return (name if equals else files[0].name + several), files

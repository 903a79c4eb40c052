"""The evaluation report of one system: scores, intervals, per-image scores and further sections.

`report_on` computes a `Report`. A report is printed as tables (scores times 100) or written as JSON
(scores on the scale of the official tool, BLEU from 0 to 1). Both include the recipe.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from captioner.datasets.records import ImageId
from captioner.errors import CaptionerError
from captioner.evaluation.recipe import Recipe, signature
from captioner.evaluation.references import References, load_references
from captioner.evaluation.result_files import load_results
from captioner.evaluation.scores import REPORTED, Scores, check_pairing, score
from captioner.evaluation.significance import Interval, intervals
from captioner.tables import Table

_FEW_IMAGES = 30


@dataclass(frozen=True)
class SystemCaptions:
    """Captions of one system and their references.

    Attributes:
        candidates: The captions of each image, best first. The first is scored.
        references: References of the same images.
        recipe: Origin of the captions: results, split, checkpoint, beam_size …
        training: Captions that the system was trained on, if known.
        vocabulary: Words that the system could have used, if known.
        notes: Remarks for the reader of the scores.
        tokenizer: Name of the tokenizer for captions and references.
    """

    candidates: Mapping[ImageId, Sequence[str]]
    references: Mapping[ImageId, Sequence[str]]
    recipe: Recipe = field(default_factory=dict)
    training: tuple[str, ...] | None = None
    vocabulary: frozenset[str] | None = None
    notes: tuple[str, ...] = ()
    tokenizer: str = "ptb"

    @property
    def captions(self) -> dict[ImageId, str]:
        """The scored caption of each image."""
        return {image: group[0] for image, group in self.candidates.items()}

    def results(self) -> str:
        """Return the captions as a COCO result file."""
        rows = [{"image_id": i, "caption": text} for i, text in self.captions.items()]
        return json.dumps(rows, ensure_ascii=False, indent=0) + "\n"


@dataclass(frozen=True)
class Section:
    """A section of a report beside the scores.

    Attributes:
        name: Key in the JSON report.
        table: The section as a table.
        content: The section as a JSON object.
    """

    name: str
    table: Table
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """The evaluation of one system.

    Attributes:
        scores: Corpus and per-image scores with their recipe.
        intervals: Confidence intervals of the corpus scores by name; empty if not requested.
        sections: Further sections.
    """

    scores: Scores
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()

    def tables(self) -> list[Table]:
        """Return the report as tables, with scores times 100."""
        scores = score_table(self.scores.corpus, self.intervals)
        return [scores, *(section.table for section in self.sections)]

    def notes(self) -> list[str]:
        """Return the lines below the tables: warnings, scale and recipe."""
        return notes_on(self.scores.warnings, self.scores.recipe)

    def content(self) -> dict[str, Any]:
        """Return the report as a JSON object, with scores on the scale of the official tool."""
        content: dict[str, Any] = {
            "scores": {name: float(value) for name, value in self.scores.corpus.items()},
            "recipe": dict(self.scores.recipe),
            "warnings": list(self.scores.warnings),
        }
        if self.intervals:
            content["intervals"] = {
                name: [interval.low, interval.high] for name, interval in self.intervals.items()
            }
        return content | {section.name: dict(section.content) for section in self.sections}

    def per_image(self, *, as_csv: bool) -> str:
        """Return per-image scores as CSV or JSON Lines, with the recipe in every line."""
        scores, recipe = self.scores, signature(self.scores.recipe)
        rows = zip(scores.image_ids, *(v.tolist() for v in scores.per_image.values()), strict=True)
        if as_csv:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(["image_id", *scores.per_image, "recipe"])
            writer.writerows([*row, recipe] for row in rows)
            return text.getvalue()
        lines = (
            {
                "image_id": image,
                "scores": dict(zip(scores.per_image, values, strict=True)),
                "recipe": recipe,
            }
            for image, *values in rows
        )
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def report_on(
    system: SystemCaptions,
    *,
    metrics: Sequence[str] | None = None,
    resamples: int | None = None,
    level: float = 0.95,
    seed: int = 0,
    bleu_smoothing: int | None = None,
) -> Report:
    """Score captions and compute the intervals requested.

    Args:
        system: The captions and their references.
        metrics: Names of the metrics. Default: `captioner.evaluation.scores.REPORTED`.
        resamples: Number of bootstrap resamples for confidence intervals. Default: no intervals.
        level: Confidence level of the intervals.
        seed: Seed of the resampling.
        bleu_smoothing: Smoothing method of per-image BLEU (see `smoothed_bleu`). Default: none.

    Raises:
        CaptionerError: Images and captions do not match, or none of the metrics is available.
    """
    scores = score(
        system.captions,
        system.references,
        metrics=metrics or REPORTED,
        tokenizer=system.tokenizer,
        bleu_smoothing=bleu_smoothing,
    )
    if not scores.statistics:
        raise CaptionerError(f"no metric is available: {'; '.join(scores.warnings)}")
    scores = replace(scores, warnings=(*system.notes, *scores.warnings))
    recipe = system.recipe | scores.recipe
    found: dict[str, Interval] = {}
    if resamples is not None:
        found = intervals(scores, resamples=resamples, level=level, seed=seed)
        recipe["intervals"] = bootstrap_recipe(resamples, level, seed)
        if len(scores.image_ids) < _FEW_IMAGES:
            few = f"intervals from {len(scores.image_ids)} images are too narrow; "
            few += f"evaluate at least {_FEW_IMAGES} images"
            scores = replace(scores, warnings=(*scores.warnings, few))
    return Report(replace(scores, recipe=recipe), found)


def read_system(
    results: Path,
    references: Path,
    *,
    n_best: int = 1,
    subset: bool = False,
    known: References | None = None,
) -> SystemCaptions:
    """Read captions and references from files.

    Args:
        results: Result file in any format of `result_files`, or a folder of `captioner caption`.
        references: Annotation file in any format of `references`.
        n_best: Maximum number of captions per image.
        subset: Whether to ignore images that have references but no caption.
        known: What `references` holds, if it has been read already.

    Raises:
        UsageError: A file does not exist.
        CaptionerError: A file has the wrong format, or images and captions do not match.
    """
    known = known or load_references(references)
    found = load_results(results, known, n_best=n_best)
    candidates, groups = found.groups, known.groups
    recipe: Recipe = {"results": results.name}
    if (split := split_of(candidates, known)) is not None:
        groups = {image: group for image, group in groups.items() if known.splits[image] == split}
        recipe["split"] = split
    if subset:
        chosen = {image: group for image, group in groups.items() if image in candidates}
        if not chosen:
            raise CaptionerError(
                f"{results}: none of its images is in {references}; the first images are "
                f"{next(iter(candidates))!r} and {next(iter(groups))!r}"
            )
        recipe["subset"] = f"{len(chosen)} of {len(groups)} images"
        groups = chosen
    system = SystemCaptions(candidates, groups, recipe, notes=(*known.notes, *found.notes))
    try:
        check_pairing(system.captions, groups)
    except CaptionerError as error:
        raise CaptionerError(f"{results} with references {references}: {error}") from error
    return system


def split_of(images: Collection[ImageId], references: References) -> str | None:
    """Return the split of all captioned images if the references contain several splits.

    Files such as Karpathy's contain all splits, while captions usually belong to one. All images of
    that split must then be captioned.
    """
    found = {references.splits.get(image) for image in images if image in references.groups}
    several = len(set(references.splits.values())) > 1
    return found.pop() if several and len(found) == 1 else None


def score_table(scores: Mapping[str, float], intervals: Mapping[str, Interval]) -> Table:
    """Return a table with one score per row and its interval, if any."""
    if not intervals:
        return Table(("score", "value"), tuple((name, shown(v)) for name, v in scores.items()))
    level = next(iter(intervals.values())).level
    rows = (
        (name, shown(value), shown_interval(intervals[name]) if name in intervals else "")
        for name, value in scores.items()
    )
    return Table(("score", "value", f"{percent(level)} interval"), tuple(rows))


def notes_on(warnings: Sequence[str], recipe: Recipe) -> list[str]:
    """Return the lines below a table: warnings, scale and recipe."""
    return [*(f"note: {warning}" for warning in warnings), f"scores x 100; {signature(recipe)}"]


def bootstrap_recipe(resamples: int, level: float, seed: int) -> str:
    """Describe how intervals were computed, for the recipe."""
    return f"{percent(level)} bootstrap over images, {resamples} resamples, seed {seed}"


def shown(value: float) -> str:
    """Format a score times 100.

    Example:
        >>> shown(0.3456)
        '34.6'
    """
    return f"{100 * value:z.1f}"


def shown_interval(interval: Interval) -> str:
    """Format an interval of scores times 100."""
    return f"{shown(interval.low)} to {shown(interval.high)}"


def percent(share: float) -> str:
    """Format a share as a percentage without trailing zeros.

    Example:
        >>> percent(0.95)
        '95 %'
    """
    return f"{100 * share:g} %"

"""What is told of the captions of one system: scores, intervals, images, description.

`report_on` computes it, a `Report` holds it, and gives it as tables for a person (scores times 100)
and as JSON (scores as the official tool gives them, BLEU from 0 to 1), the recipe with both.
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
    """Captions and what they are judged by.

    Attributes:
        candidates: The captions of each image, best first; the first is scored.
        references: Of the same images.
        recipe: Where they come from: results, split, checkpoint, beam_size …
        training: Captions that the system was trained on, where that is known.
        vocabulary: Words that it could have used, where that is known.
        notes: What a reader of the scores should know.
        tokenizer: What makes words of captions and references.
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
        """The caption of each image that is scored."""
        return {image: group[0] for image, group in self.candidates.items()}

    def results(self) -> str:
        """The captions as a COCO result file."""
        rows = [{"image_id": i, "caption": text} for i, text in self.captions.items()]
        return json.dumps(rows, ensure_ascii=False, indent=0) + "\n"


@dataclass(frozen=True)
class Section:
    """Something told beside the scores.

    Attributes:
        name: Under which JSON holds it.
        table: For a person.
        content: For a program.
    """

    name: str
    table: Table
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """What is told of one system.

    Attributes:
        scores: Of the whole set and of each image, with their recipe.
        intervals: Of the corpus scores, by name; empty if they were not asked for.
        sections: What else was asked for.
    """

    scores: Scores
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()

    def tables(self) -> list[Table]:
        """For a person; scores times 100."""
        scores = score_table(self.scores.corpus, self.intervals)
        return [scores, *(section.table for section in self.sections)]

    def notes(self) -> list[str]:
        """What a reader of the tables must know."""
        return notes_on(self.scores.warnings, self.scores.recipe)

    def content(self) -> dict[str, Any]:
        """For a program; scores as the official tool gives them."""
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
        """The scores of each image, a line each, as CSV or JSON Lines, the recipe in each line."""
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
    """Scores captions and tells what else was asked for.

    Args:
        system: The captions.
        metrics: Which scores; None: `captioner.evaluation.scores.REPORTED`.
        resamples: Draws of images for confidence intervals; None for no intervals.
        level: Of the intervals.
        seed: Of the draws.
        bleu_smoothing: Method by which BLEU is smoothed for each image; None: not at all.

    Raises:
        CaptionerError: If images and captions do not belong together, or not one of the scores
            can be computed here.
    """
    scores = score(
        system.captions,
        system.references,
        metrics=metrics or REPORTED,
        tokenizer=system.tokenizer,
        bleu_smoothing=bleu_smoothing,
    )
    if not scores.statistics:
        raise CaptionerError(f"no score to tell: {'; '.join(scores.warnings)}")
    scores = replace(scores, warnings=(*system.notes, *scores.warnings))
    recipe = system.recipe | scores.recipe
    found: dict[str, Interval] = {}
    if resamples is not None:
        found = intervals(scores, resamples=resamples, level=level, seed=seed)
        recipe["intervals"] = bootstrap_recipe(resamples, level, seed)
        if len(scores.image_ids) < _FEW_IMAGES:
            few = f"intervals from {len(scores.image_ids)} images are too narrow: resampling "
            scores = replace(scores, warnings=(*scores.warnings, few + "sees only these"))
    return Report(replace(scores, recipe=recipe), found)


def read_system(
    results: Path, references: Path, *, n_best: int = 1, subset: bool = False
) -> SystemCaptions:
    """Captions and references from files.

    Args:
        results: Result file of any form (`result_files`), or a folder of ``captioner caption``.
        references: Annotation file of any format (`references`).
        n_best: Captions that an image may have.
        subset: Whether images that have references but no caption are left out.

    Raises:
        UsageError: If a file is not there.
        CaptionerError: If a file is not of its format, or images and captions do not belong
            together.
    """
    known = load_references(references)
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
                f"{results}: none of its images (the first is {next(iter(candidates))!r}) is in "
                f"{references} (the first there is {next(iter(groups))!r})"
            )
        recipe["subset"] = f"{len(chosen)} of {len(groups)} images"
        groups = chosen
    system = SystemCaptions(candidates, groups, recipe, notes=(*known.notes, *found.notes))
    try:
        check_pairing(system.captions, groups)
    except CaptionerError as error:
        raise CaptionerError(f"{results} beside {references}: {error}") from error
    return system


def split_of(images: Collection[ImageId], references: References) -> str | None:
    """The split that all captioned images are of, where the references hold several.

    Files such as Karpathy's hold all splits; captions are of one. Its images must still all be
    captioned.
    """
    found = {references.splits.get(image) for image in images if image in references.groups}
    several = len(set(references.splits.values())) > 1
    return found.pop() if several and len(found) == 1 else None


def score_table(scores: Mapping[str, float], intervals: Mapping[str, Interval]) -> Table:
    """One score a row, with its interval beside it if it has one."""
    if not intervals:
        return Table(("score", "value"), tuple((name, shown(v)) for name, v in scores.items()))
    level = next(iter(intervals.values())).level
    rows = (
        (name, shown(value), shown_interval(intervals[name]) if name in intervals else "")
        for name, value in scores.items()
    )
    return Table(("score", "value", f"{percent(level)} interval"), tuple(rows))


def notes_on(warnings: Sequence[str], recipe: Recipe) -> list[str]:
    """Warnings, scale and recipe, as they stand below a table."""
    return [*(f"note: {warning}" for warning in warnings), f"scores x 100; {signature(recipe)}"]


def bootstrap_recipe(resamples: int, level: float, seed: int) -> str:
    """How intervals were made, for the recipe."""
    return f"{percent(level)} bootstrap over images, {resamples} resamples, seed {seed}"


def shown(value: float) -> str:
    """A score, times 100."""
    return f"{100 * value:z.1f}"


def shown_interval(interval: Interval) -> str:
    """An interval of scores, times 100."""
    return f"{shown(interval.low)} to {shown(interval.high)}"


def percent(share: float) -> str:
    """A share as a percentage, without needless digits."""
    return f"{100 * share:g} %"

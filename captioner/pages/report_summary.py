"""The first half of a report: tables and charts about all images, as values of its template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from captioner.display import one_line
from captioner.evaluation.comparison import count_wins
from captioner.evaluation.description import description_section
from captioner.evaluation.diversity import BAD_ENDINGS
from captioner.evaluation.report import SystemCaptions, shown, shown_interval
from captioner.evaluation.word_use import WordUse, word_use
from captioner.metrics.ngrams import Tokens
from captioner.pages.report_analysis import (
    FLAGS,
    Analysis,
    Material,
    Model,
    difference,
    main_score,
)

PEOPLE = "references"
"""Name of the references in tables and charts beside the models."""

_WORDS = 12
"""Words listed as over-used or under-used."""

_STEPS = (0.25, 0.5, 1, 2, 2.5, 5, 7.5, 10, 15, 20, 25)
"""Distances of an axis's percentages."""

_FREQUENT = 12
_BINS = 16
_OBJECTS = 15
_FEW = 5  # images that an object must be in to be listed


@dataclass(frozen=True)
class Chart:
    """Grouped bars: shares from 0 to 1 of several series over labelled groups.

    Attributes:
        title: Title of the chart.
        axis: What the labels are.
        labels: Label of each group.
        series: Name and values of each series.
        wide: Whether the labels are words, which need bars that lie.
    """

    title: str
    axis: str
    labels: list[str]
    series: list[tuple[str, list[float]]]
    wide: bool = False

    @property
    def ticks(self) -> list[float]:
        """Five round percentages from 0 to at least the largest value, for the axis."""
        largest = 100 * max((value for _, values in self.series for value in values), default=0.0)
        step = next((one for one in _STEPS if 4 * one >= largest), _STEPS[-1])
        return [step * at for at in range(5)]


def summary(material: Material, analysis: Analysis) -> dict[str, Any]:
    """Return the values of the template."""
    names = [one_line(model.name) for model in material.models]
    main = main_score(analysis.scores[0])
    flat = [tokens for group in analysis.references for tokens in group]
    return {
        "title": one_line(material.title),
        "models": names,
        "main": main,
        "n_images": len(analysis.images),
        "scores": _score_rows(analysis),
        "score_names": list(analysis.scores[0].per_image),
        "recipes": [[(k, one_line(str(v))) for k, v in s.recipe.items()] for s in analysis.scores],
        "tests": one_line(str(analysis.comparison.recipe.get("tests", ""))),
        "intervals": one_line(str(analysis.comparison.recipe.get("intervals", ""))),
        "warnings": [one_line(text) for text in analysis.comparison.warnings],
        "description": _description(material),
        "faults": _faults(material, analysis),
        "charts": [
            _lengths(names, analysis, flat),
            _histogram(names, analysis, main),
            _frequent(names, analysis, flat),
        ],
        "words": [_word_lists(own, flat) for own in analysis.words],
        "pairs": _pairs(material, analysis),
        "objects": _objects(analysis, main),
        "object_names": sorted(frozenset().union(*analysis.objects)),
        "annotated": analysis.annotated,
        "flags": FLAGS,
    }


def _score_rows(analysis: Analysis) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return each score with its value and interval for each model."""
    report = analysis.comparison
    return [
        (
            name,
            [
                (shown(system.mean(name)), shown_interval(report.intervals[system.name][name]))
                for system in report.systems
            ],
        )
        for name in report.systems[0].runs[0].corpus
    ]


def _description(material: Material) -> list[tuple[str, list[str]]]:
    """Return what describes the captions of each model, and the first references."""
    references = material.references
    people = SystemCaptions({one: group[:1] for one, group in references.items()}, references)
    # The n-best lists of a search are alike by nature, so only the best captions are described.
    systems = [
        replace(model.system, candidates={k: v[:1] for k, v in model.system.candidates.items()})
        for model in material.models
    ]
    sections = [
        description_section(one, training=one.training, vocabulary=one.vocabulary)
        for one in systems
    ]
    columns = [
        {row[0]: row[1] for row in section.table.rows}
        for section in (*sections, description_section(people))
    ]
    for model, column in zip(material.models, columns, strict=False):
        if (weight := _sentence_weight(model)) is not None:
            column["attention to the sentence instead of the photo, %"] = f"{weight:.1f}"
    names = dict.fromkeys(name for column in columns for name in column)
    # The table of faults, above these rows, has them as counts.
    skipped = {
        *("captions", "bad endings, %", "repetitions, %"),
        *("captions seen in training, %", "novel captions, %"),
    }
    return [
        (name, [column.get(name, "") for column in columns])
        for name in names
        if name not in skipped
    ]


def _sentence_weight(model: Model) -> float | None:
    """Return the mean weight of the sentinel over all words, in percent; None without one.

    Near 100, the model has learned not to look, and its attention says nothing.
    """
    weights = [weight for found in model.attention.values() for weight in found.sentinel or ()]
    return sum(weights) / len(weights) if weights else None


def _faults(material: Material, analysis: Analysis) -> list[dict[str, Any]]:
    """Return how many captions of each model, and first references, have each fault."""
    rows = []
    for flag, text in FLAGS.items():
        counts = [sum(flag in found for found in flags) for flags in analysis.flags]
        known = [flag != "training" or model.system.training for model in material.models]
        cells = [
            _with_share(count, len(analysis.images)) if is_known else None
            for count, is_known in zip(counts, known, strict=True)
        ]
        people = sum(flag in found for found in analysis.people)
        comparable = flag != "object" and (flag != "training" or known[0])
        of_people = _with_share(people, len(analysis.images)) if comparable else ""
        rows.append({"flag": flag, "text": text, "cells": cells, "people": of_people})
    return rows


def _with_share(count: int, total: int) -> str:
    return f"{count:,} ({100 * count / total:.1f} %)"


def _lengths(names: Sequence[str], analysis: Analysis, flat: Sequence[Tokens]) -> Chart:
    lengths = [np.array([len(tokens) for tokens in own]) for own in analysis.words]
    everyone = [*lengths, np.array([len(tokens) for tokens in flat])]
    most = int(np.quantile(np.concatenate(everyone), 0.995))
    least = int(min(values.min() for values in everyone))
    most = min(max(most, least + 1), least + 30)
    labels = [str(n) for n in range(least, most)] + [f"{most}+"]
    series = [
        (name, [float((values == n).mean()) for n in range(least, most)])
        for name, values in zip((*names, PEOPLE), everyone, strict=True)
    ]
    for (_, shares), values in zip(series, everyone, strict=True):
        shares.append(float((values >= most).mean()))
    return Chart("Length of captions", "words", labels, series)


def _histogram(names: Sequence[str], analysis: Analysis, main: str) -> Chart:
    values = [100 * scores.per_image[main] for scores in analysis.scores]
    top = float(np.quantile(np.concatenate(values), 0.98))
    steps = (1, 2, 5, 10, 20, 25, 50, 100)
    step = next((one for one in steps if one * _BINS >= top), steps[-1])
    count = max(2, min(_BINS, int(top // step) + 1))
    labels = [f"{step * at}" for at in range(count - 1)] + [f"{step * (count - 1)}+"]
    series = []
    for name, own in zip(names, values, strict=True):
        places = np.clip((own // step).astype(int), 0, count - 1)
        series.append((name, (np.bincount(places, minlength=count) / len(own)).tolist()))
    return Chart(f"{main} per image", f"{main} from", labels, series)


def _frequent(names: Sequence[str], analysis: Analysis, flat: Sequence[Tokens]) -> Chart:
    """Return how often models use the words that are most frequent in the references."""
    counts = [Counter(word for tokens in own for word in set(tokens)) for own in analysis.words]
    people = Counter(word for tokens in flat for word in set(tokens))
    chosen = [word for word, _ in people.most_common(200) if word not in BAD_ENDINGS | {"are"}]
    chosen = chosen[:_FREQUENT]
    sizes = [*(len(own) for own in analysis.words), len(flat)]
    series = [
        (name, [count[word] / size for word in chosen])
        for name, count, size in zip((*names, PEOPLE), (*counts, people), sizes, strict=True)
    ]
    labels = [one_line(word) for word in chosen]
    return Chart("Captions with the most frequent words", "word", labels, series, wide=True)


def _word_lists(captions: Sequence[Tokens], flat: Sequence[Tokens]) -> dict[str, Any]:
    found = word_use(captions, flat)
    over = [use for use in found[:_WORDS] if use.evidence > 0]
    under = [use for use in found[::-1][:_WORDS] if use.evidence < 0]
    return {"over": list(map(_word_row, over)), "under": list(map(_word_row, under))}


def _word_row(use: WordUse) -> dict[str, str]:
    shares = {"captions": use.captions, "references": use.references}
    return {"word": one_line(use.word)} | {k: f"{100 * v:.1f}" for k, v in shares.items()}


def _pairs(material: Material, analysis: Analysis) -> list[dict[str, Any]]:
    """Return the tests and the won images of each pair of models."""
    tables = {(pair.first, pair.second): pair for pair in analysis.comparison.pairs}
    pairs = []
    for first, second in combinations(range(len(material.models)), 2):
        names = material.models[first].name, material.models[second].name
        rows = []
        for one in tables[names].comparisons:
            per_image = [analysis.scores[at].per_image[one.name] for at in (first, second)]
            rows.append(
                {
                    "name": one.name,
                    "difference": f"{100 * one.difference:+z.1f}",
                    "interval": shown_interval(one.interval),
                    "p": "<0.001" if one.p_holm < 0.0005 else f"{one.p_holm:.3f}",
                    "verdict": one.verdict,
                    "wins": count_wins(per_image[0].tolist(), per_image[1].tolist()),
                }
            )
        same = sum(
            one == other
            for one, other in zip(analysis.words[first], analysis.words[second], strict=True)
        )
        change = difference(analysis, first, second, main_score(analysis.scores[0]))
        pairs.append(
            {
                "first": first,
                "second": second,
                "rows": rows,
                "same": same,
                "spread": shown(float(np.abs(change).mean())),
            }
        )
    return pairs


def _objects(analysis: Analysis, main: str) -> list[dict[str, Any]]:
    """Return the score of each model on images with each of the most frequent objects."""
    places: dict[str, list[int]] = {}
    for at, found in enumerate(analysis.objects):
        for name in found:
            places.setdefault(name, []).append(at)
    frequent = sorted(places, key=lambda name: (-len(places[name]), name))
    return [
        {
            "name": name,
            "images": len(places[name]),
            "scores": [
                shown(float(s.per_image[main][places[name]].mean())) for s in analysis.scores
            ],
        }
        for name in frequent[:_OBJECTS]
        if len(places[name]) >= min(_FEW, len(analysis.images))
    ]

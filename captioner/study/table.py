"""Write the table of a study as Markdown, CSV and JSON."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from captioner.evaluation.recipe import signature
from captioner.evaluation.report import percent, shown, shown_interval
from captioner.evaluation.significance import Comparison
from captioner.study.plan import Study
from captioner.study.results import LEVEL, Ranking, Result
from captioner.tables import Table


def as_table(ranking: Ranking) -> Table:
    """Return the table for display, best first, with scores times 100."""
    name = ranking.score
    others = [other for other in ranking.results[0].intervals if other != name]
    header = [
        "configuration",
        "runs",
        name,
        f"{percent(LEVEL)} interval",
        "than the next",
        "than the best",
        *others,
        "parameters",
        "words/s",
        "best epoch",
    ]
    rows = [
        [
            result.name.replace(",", ", "),
            f"{len(result.runs)}",
            spread(result, name),
            shown_interval(result.intervals[name]),
            in_words(than_next),
            in_words(than_best),
            *(spread(result, other) for other in others),
            f"{result.summaries[0].parameters:,}",
            speed(result),
            best_epoch(result),
        ]
        for result, than_next, than_best in beside(ranking)
    ]
    left = frozenset(i for i, title in enumerate(header) if title.startswith(("config", "than")))
    return Table(tuple(header), tuple(map(tuple, rows)), left=left)


def beside(ranking: Ranking) -> Iterator[tuple[Result, Comparison | None, Comparison | None]]:
    """Yield each configuration with its comparisons to the next one and to the best one."""
    yield from zip(ranking.results, ranking.than_next, ranking.than_best, strict=True)


def notes(study: Study, ranking: Ranking) -> list[str]:
    """Return the notes that explain the table."""
    done = len(study.runs) - len(ranking.missing)
    return [
        *(f"missing: {run}: {reason}" for run, reason in ranking.missing),
        f"{done} of {len(study.runs)} runs. Scores x 100 of each run's best checkpoint on "
        f"{study.split}: mean ± standard deviation over seeds. Interval: bootstrap over images of "
        "scores averaged over runs.",
        'than the next, than the best: "better" or "worse" if the difference is significant over '
        "images (approximate randomisation) and, if both have several runs, over seeds (Welch's "
        "t-test); p is the larger of the two, with Holm's correction over the column. The order of "
        'configurations that are not distinguishable has no meaning. "images only": one of the two '
        "has a single run, so the effect of another seed is unknown.",
        *(
            ["configurations that were scored on different images are not compared"]
            if None in (*ranking.than_next[:-1], *ranking.than_best[1:])
            else []
        ),
        "parameters: of the decoder. words/s: training throughput in caption words per second; "
        "simultaneous runs slow each other down. best epoch: of each run, counted from 1.",
        signature(ranking.recipe),
    ]


def spread(result: Result, name: str) -> str:
    """Return the mean and standard deviation of a score, times 100, as text."""
    deviation = result.deviation(name)
    mean = shown(result.system.mean(name))
    return mean if deviation is None else f"{mean} ± {shown(deviation)}"


def in_words(comparison: Comparison | None) -> str:
    """Return the verdict of a comparison as text."""
    if comparison is None:
        return ""
    p = comparison.p_holm
    said = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    only = "; images only" if comparison.distinguishable and comparison.p_runs is None else ""
    return f"{comparison.verdict} ({said}{only})"


def speed(result: Result) -> str:
    """Return the mean words per second over the runs that logged it, as text."""
    mean = mean_speed(result)
    return "" if mean is None else f"{mean:,.0f}"


def mean_speed(result: Result) -> float | None:
    """Return the mean words per second over the runs that logged it."""
    found = [s.words_per_second for s in result.summaries if s.words_per_second is not None]
    return sum(found) / len(found) if found else None


def best_epoch(result: Result) -> str:
    """Return the best epoch of each run and the total number of epochs, as text."""
    epochs = sorted({summary.epochs for summary in result.summaries})
    of = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
    return f"{', '.join(str(summary.best_epoch) for summary in result.summaries)} of {of}"


def as_csv(ranking: Ranking) -> str:
    """Return the rows of `flat` as CSV."""
    rows = flat(ranking)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def flat(ranking: Ranking) -> list[dict[str, Any]]:
    """Return one row per configuration, best first, with scores on the scale of the COCO tool."""
    settings = dict.fromkeys(
        name for result in ranking.results for name in result.configuration.settings
    )
    rows = []
    for record, result in zip(records(ranking), ranking.results, strict=True):
        row: dict[str, Any] = {"configuration": record["configuration"]}
        row |= {name: result.configuration.settings.get(name, "") for name in settings}
        row["runs"] = len(result.runs)
        for name, values in record["scores"].items():
            row[name] = values["mean"]
            row[f"{name} deviation"] = values["deviation"]
            row[f"{name} low"], row[f"{name} high"] = values["interval"]
        row |= {key: record[key] for key in ("parameters", "words_per_second")}
        row["best_epoch"] = sum(record["best_epochs"]) / len(record["best_epochs"])
        for key in ("than_next", "than_best"):
            found = record[key]
            row[f"{key}_p"] = found and found["p_holm"]
            row[f"{key}_verdict"] = found and found["verdict"]
        rows.append(row)
    return rows


def as_content(study: Study, ranking: Ranking) -> dict[str, Any]:
    """Return the table as JSON values; scores are on the scale of the COCO tool."""
    return {
        "study": study.output.name,
        "split": study.split,
        "score": ranking.score,
        "configurations": records(ranking),
        "missing": {str(run): reason for run, reason in ranking.missing},
        "recipe": ranking.recipe,
    }


def records(ranking: Ranking) -> list[dict[str, Any]]:
    """Return each configuration as plain values, best first."""
    return [
        {
            "configuration": result.name,
            "settings": result.configuration.settings,
            "seeds": [run.seed for run in result.runs],
            "scores": {
                name: {
                    "mean": result.system.mean(name),
                    "deviation": result.deviation(name),
                    "interval": [interval.low, interval.high],
                    "runs": result.system.values(name),
                }
                for name, interval in result.intervals.items()
            },
            "parameters": result.summaries[0].parameters,
            "words_per_second": mean_speed(result),
            "best_epochs": [summary.best_epoch for summary in result.summaries],
            "epochs": [summary.epochs for summary in result.summaries],
            "than_next": plain(than_next),
            "than_best": plain(than_best),
        }
        for result, than_next, than_best in beside(ranking)
    ]


def plain(comparison: Comparison | None) -> dict[str, Any] | None:
    """Return a comparison as plain values; None if there is no comparison."""
    if comparison is None:
        return None
    return {
        "difference": comparison.difference,
        "interval": [comparison.interval.low, comparison.interval.high],
        "p_values": {
            "bootstrap": comparison.p_bootstrap,
            "randomisation": comparison.p_randomisation,
            "runs": comparison.p_runs,
        },
        "p_holm": comparison.p_holm,
        "verdict": comparison.verdict,
    }

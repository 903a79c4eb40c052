"""The page of plots of a study: loss curves, scores with intervals, gradient through time.

The only file that knows matplotlib. Colours are those of Okabe and Ito (2008), which readers with
any kind of colour vision tell apart.
"""

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from captioner.study.plan import Study, shown
from captioner.study.results import LEVEL, Comparison, Result
from captioner.study.run_folder import read_curves

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D46")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
INK, GREY = "#222222", "#8a8a8a"
GRADIENTS = "gradients.csv"


@dataclass(frozen=True)
class Style:
    """How a configuration is drawn, wherever it is."""

    colour: str
    dash: Any


def draw(study: Study, comparison: Comparison) -> None:
    """Write `plots.png` and `plots.svg` into the study's folder."""
    figure = page(study, comparison)
    for ending in ("png", "svg"):
        path = study.output / f"plots.{ending}"
        draft = path.with_name(f"{path.name}.part")
        # No date in the file: the same runs give the same picture.
        metadata = {"Date": None} if ending == "svg" else None
        figure.savefig(draft, format=ending, dpi=150, metadata=metadata)
        draft.replace(path)


def page(study: Study, comparison: Comparison) -> Figure:
    """Two loss panels above; scores and, if any run has it, gradient through time below."""
    results = comparison.results
    styles, legend = choose_styles(results)
    gradients = {
        result.configuration.name: curve
        for result in results
        if (curve := gradient_curve([run.folder for run in result.runs]))
    }
    scores_height = max(2.8, 0.26 * len(results) + 1.0)
    figure = Figure(figsize=(11, 3.6 + scores_height + 0.8), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr, call-arg]
    grid = figure.add_gridspec(2, 2, height_ratios=[3.6, scores_height])
    train, val = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    draw_losses(train, val, results, styles)
    if gradients:
        draw_scores(figure.add_subplot(grid[1, 0]), comparison, styles)
        draw_gradients(figure.add_subplot(grid[1, 1]), gradients, styles)
    else:
        draw_scores(figure.add_subplot(grid[1, :]), comparison, styles)
    figure.suptitle(f"{study.output.name}: {study.split}", color=INK, fontsize=12)
    figure.legend(
        handles=legend,
        loc="outside lower center",
        ncols=min(8, len(legend)),
        frameon=False,
        fontsize=9,
        handlelength=3,
    )
    return figure


def choose_styles(results: Sequence[Result]) -> tuple[dict[str, Style], list[Line2D]]:
    """The style of each configuration, by name, and what a legend says of them.

    Where two or more settings vary, the first has the colour and the others together the dashes, as
    long as there are enough of these; else each configuration has a colour of its own.
    """
    # In the order of their names, so that a style does not change with a score.
    ordered = sorted(results, key=lambda result: result.configuration.name)
    settings = {r.configuration.name: r.configuration.settings for r in ordered}
    keys = dict.fromkeys(key for values in settings.values() for key in values)
    varying = [k for k in keys if len({shown(values.get(k)) for values in settings.values()}) > 1]
    first = {name: told(values, varying[:1]) for name, values in settings.items()}
    rest = {name: told(values, varying[1:]) for name, values in settings.items()}
    colours, dashes = list(dict.fromkeys(first.values())), list(dict.fromkeys(rest.values()))
    if len(varying) < 2 or len(dashes) > len(DASHES) or len(colours) > len(COLOURS):
        styles = {
            name: Style(COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)])
            for i, name in enumerate(settings)
        }
        return styles, [handle(name, style) for name, style in styles.items()]
    styles = {
        name: Style(COLOURS[colours.index(first[name])], DASHES[dashes.index(rest[name])])
        for name in settings
    }
    legend = [handle(text, Style(COLOURS[i], "-")) for i, text in enumerate(colours)]
    legend += [handle(text, Style(GREY, DASHES[i])) for i, text in enumerate(dashes)]
    return styles, legend


def told(values: dict[str, Any], keys: Sequence[str]) -> str:
    """Some settings of a configuration in words."""
    return (
        ", ".join(f"{key.rpartition('.')[2]} {shown(values[key])}" for key in keys if key in values)
        or "as in the base"
    )


def handle(text: str, style: Style) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], color=style.colour, linestyle=style.dash, linewidth=2, label=text)


def draw_losses(
    train: Axes, val: Axes, results: Sequence[Result], styles: dict[str, Style]
) -> None:
    """Loss over epochs, of training and of validation, mean over a configuration's runs."""
    for axes, title in (
        (train, "Training loss (with dropout and label smoothing, if any)"),
        (val, "Validation loss"),
    ):
        for result in results:
            curves = [read_curves(run.folder) for run in result.runs]
            points = mean_curve([c.train_loss if axes is train else c.val_loss for c in curves])
            style = styles[result.configuration.name]
            axes.plot(
                *zip(*points, strict=True) if points else ([], []),
                color=style.colour,
                linestyle=style.dash,
                linewidth=1.5,
            )
        decorate(axes, title, "epochs", "nats a word")


def mean_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The mean of curves wherever all of them have a point."""
    found: dict[float, list[float]] = defaultdict(list)
    for curve in curves:
        for x, y in curve:
            found[x].append(y)
    return [(x, sum(y) / len(y)) for x, y in sorted(found.items()) if len(y) == len(curves)]


def draw_scores(axes: Axes, comparison: Comparison, styles: dict[str, Style]) -> None:
    """Each configuration's score with its interval, best on top; runs as rings.

    A line goes between neighbours that are distinguishable.
    """
    results = comparison.results
    for i, result in enumerate(results):
        style = styles[result.configuration.name]
        interval = result.intervals[comparison.score]
        axes.plot(
            [100 * interval.low, 100 * interval.high],
            [i, i],
            color=style.colour,
            linestyle=style.dash,
            linewidth=2,
        )
        mean = 100 * result.mean(comparison.score)
        axes.plot([mean], [i], "o", color=style.colour, markersize=7)
        if len(result.runs) > 1:
            runs = [100 * value for value in result.values(comparison.score)]
            axes.plot(
                runs,
                [i] * len(runs),
                "o",
                markerfacecolor="white",
                markeredgecolor=style.colour,
                markersize=4,
            )
    for i, difference in enumerate(comparison.to_next):
        if difference is not None and difference.distinguishable:
            axes.axhline(i + 0.5, color=INK, linewidth=0.8)
    axes.set_yticks(
        range(len(results)),
        [result.configuration.name.replace(",", ", ") for result in results],
    )
    axes.set_ylim(len(results) - 0.4, -0.6)
    decorate(axes, f"{comparison.score} x 100, {100 * LEVEL:.0f} % interval over images", "", "")
    axes.grid(axis="y", visible=False)


def draw_gradients(
    axes: Axes, gradients: dict[str, list[tuple[float, float]]], styles: dict[str, Style]
) -> None:
    """Norm of the gradient against the distance that it has come, on a logarithmic scale."""
    for name, points in gradients.items():
        style = styles[name]
        axes.plot(
            *zip(*points, strict=True), color=style.colour, linestyle=style.dash, linewidth=1.5
        )
    axes.set_yscale("log")
    decorate(axes, "Gradient through time", "steps back from the loss", "norm of dL/dh")


def gradient_curve(folders: Sequence[Path]) -> list[tuple[float, float]]:
    """Median norm at each lag over all logged steps of some runs; empty where none was logged."""
    norms: dict[int, list[float]] = defaultdict(list)
    for folder in folders:
        path = folder / GRADIENTS
        if not path.is_file():
            continue
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row.get("lag") and row.get("norm") and float(row["norm"]) > 0:
                    norms[int(float(row["lag"]))].append(float(row["norm"]))
    return [(lag, median(values)) for lag, values in sorted(norms.items())]


def decorate(axes: Axes, title: str, x: str, y: str) -> None:
    """What all panels have in common: a quiet frame, and text that says what is drawn."""
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.tick_params(labelsize=9, color=GREY, labelcolor=INK)
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)

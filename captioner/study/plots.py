"""Plot a study on one page: loss curves, scores with intervals, gradient through time.

Colour-blind readers can distinguish all configurations: the palette is that of Okabe and Ito
(2008), and lines also differ in their dashes.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from captioner.analysis.gradient_plot import COLOURS, read_gradients
from captioner.config.schema import Config
from captioner.evaluation.report import percent
from captioner.files.atomic import whole_file
from captioner.study.plan import Configuration, Study, shown
from captioner.study.results import LEVEL, Ranking, Result
from captioner.study.run_folder import read_curves

DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
INK, GREY = "#222222", "#8a8a8a"
WIDTH = 11.0
"""Page width in inches."""


@dataclass(frozen=True)
class Style:
    """Colour and line style of a configuration, the same in all panels."""

    colour: str
    dash: Any


def draw(study: Study, ranking: Ranking) -> None:
    """Write `plots.png` and `plots.svg` into the study's folder."""
    figure = page(study, ranking)
    for ending in ("png", "svg"):
        path = study.output / f"plots.{ending}"
        # Without dates and random ids, the same runs give the same file.
        metadata = {"Date": None} if ending == "svg" else None
        with rc_context({"svg.hashsalt": "captioner"}), whole_file(path) as file:
            figure.savefig(file, format=ending, dpi=150, metadata=metadata)


def page(study: Study, ranking: Ranking) -> Figure:
    """Draw both losses, the scores and, if any run measured it, the gradient through time."""
    results = ranking.results
    styles, legend = choose_styles(study.configurations)
    gradients = {
        result.name: curve
        for result in results
        if (curve := gradient_curve([run.folder for run in result.runs]))
    }
    heights = [3.6, max(2.8, 0.26 * len(results) + 1.2)]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.8))
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    # Separate layout for each row, so that long configuration names do not shift other panels.
    upper, lower = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    train, val = upper.subplots(1, 2)
    draw_losses(train, val, results, styles)
    if gradients:
        scores, through_time = lower.subplots(1, 2)
        draw_gradients(through_time, gradients, styles)
    else:
        scores = lower.subplots()
    draw_scores(scores, ranking, styles)
    figure.suptitle(f"{study.output.name}, {study.split}", color=INK, fontsize=12)
    longest = max(len(str(entry.get_label())) for entry in legend)
    figure.legend(
        handles=legend,
        loc="outside lower center",
        ncols=max(1, min(len(legend), 150 // (longest + 7))),  # about 150 characters per line
        frameon=False,
        fontsize=9,
        handlelength=3,
    )
    return figure


def choose_styles(
    configurations: Sequence[Configuration],
) -> tuple[dict[str, Style], list[Line2D]]:
    """Return the style of each configuration, by name, and the legend entries.

    If two or more settings vary, the first one selects the colour and the others together select
    the dashes, if there are enough dash patterns. Otherwise each configuration has its own colour.
    Styles follow the study file rather than the scores, so that they stay when scores change.
    """
    settings = {one.name: one.settings for one in configurations}
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
    """Return some settings of a configuration as text."""
    return (
        ", ".join(f"{key.rpartition('.')[2]} {shown(values[key])}" for key in keys if key in values)
        or "as in the base"
    )


def handle(text: str, style: Style) -> Line2D:
    """Return a legend entry."""
    return Line2D([], [], color=style.colour, linestyle=style.dash, linewidth=2, label=text)


def draw_losses(
    train: Axes, val: Axes, results: Sequence[Result], styles: dict[str, Style]
) -> None:
    """Plot training and validation loss over epochs, each the mean over a configuration's runs."""
    for result in results:
        curves = [read_curves(run.folder) for run in result.runs]
        draw_curve(train, mean_curve([c.train_loss for c in curves]), styles[result.name])
        draw_curve(val, mean_curve([c.val_loss for c in curves]), styles[result.name])
    for axes, title in (
        (train, training_title([run.config for result in results for run in result.runs])),
        (val, "Validation loss"),
    ):
        decorate(axes, title, "epochs", "nats per word")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        # The steep fall of the first epoch would flatten all later differences.
        heights = [np.asarray(line.get_ydata()) for line in axes.get_lines()]
        if heights and min(map(len, heights)) >= 4:
            late = np.concatenate([values[1:] for values in heights])
            late = late[np.isfinite(late)]  # empty for a run that diverged
        else:
            late = np.empty(0)
        if late.size:
            room = 0.05 * float(np.ptp(late))
            axes.set_ylim(late.min() - room, late.max() + room)


def training_title(configs: Sequence[Config]) -> str:
    """Return the title of the training loss; it names what it includes besides cross-entropy."""
    causes = {
        "dropout": any(max(c.decoder.dropout, c.decoder.image_dropout) for c in configs),
        "label smoothing": any(c.optimization.label_smoothing for c in configs),
    }
    at_work = " and ".join(name for name, holds in causes.items() if holds)
    return f"Training loss, with {at_work}" if at_work else "Training loss"


def draw_curve(axes: Axes, points: Sequence[tuple[float, float]], style: Style) -> None:
    """Draw a line through points, or a dot for a single point."""
    if points:
        x, y = zip(*points, strict=True)
        dot = "o" if len(points) == 1 else None  # a line needs two points
        axes.plot(x, y, color=style.colour, linestyle=style.dash, linewidth=1.5, marker=dot)


def mean_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Average curves at the positions where all of them have a point."""
    found: dict[float, list[float]] = defaultdict(list)
    for curve in curves:
        for x, y in curve:
            found[x].append(y)
    return [(x, sum(y) / len(y)) for x, y in sorted(found.items()) if len(y) == len(curves)]


def draw_scores(axes: Axes, ranking: Ranking, styles: dict[str, Style]) -> None:
    """Draw each configuration's mean with its interval, best at the top, and its runs as rings.

    A horizontal line separates neighbours that are distinguishable.
    """
    score, results = ranking.score, ranking.results
    for i, result in enumerate(results):
        colour, interval = styles[result.name].colour, result.intervals[score]
        axes.plot([100 * interval.low, 100 * interval.high], [i, i], color=colour, linewidth=2)
        axes.plot([100 * result.system.mean(score)], [i], "o", color=colour, markersize=7)
        if len(result.runs) > 1:
            runs = [100 * value for value in result.system.values(score)]
            ring: dict[str, Any] = {
                "markerfacecolor": "white",
                "markeredgecolor": colour,
                "markersize": 4,
            }
            axes.plot(runs, [i] * len(runs), "o", **ring)
    parted = [i for i, one in enumerate(ranking.than_next) if one and one.distinguishable]
    for i in parted:
        axes.axhline(i + 0.5, color=INK, linewidth=0.8)
    names = [result.name.replace(",", ", ") for result in results]
    axes.set_yticks(range(len(results)), names)
    axes.set_ylim(len(results) - 0.4, -0.6)
    legend = [f"bar: {percent(LEVEL)} interval over images"]
    legend += ["rings: runs"] if any(len(result.runs) > 1 for result in results) else []
    legend += ["line across: neighbours that are distinguishable"] if parted else []
    decorate(axes, f"{score} x 100", "; ".join(legend), "")
    axes.grid(axis="y", visible=False)


def draw_gradients(
    axes: Axes, gradients: dict[str, list[tuple[float, float]]], styles: dict[str, Style]
) -> None:
    """Plot the gradient norm over the distance in words, on a logarithmic scale."""
    for name, points in gradients.items():
        draw_curve(axes, points, styles[name])
    axes.set_yscale("log")
    decorate(
        axes, "Gradient of the last word's loss, last measurement", "words back", "norm of dL/dh"
    )


def gradient_curve(folders: Sequence[Path]) -> list[tuple[float, float]]:
    """Return the last measured norm at each lag in the top layer, the geometric mean over runs.

    The result is empty if no run has measured the gradient.
    """
    norms: dict[int, list[float]] = defaultdict(list)
    for folder in folders:
        path = folder / "gradients.csv"
        looks = read_gradients(path) if path.is_file() else {}
        if looks:
            for lag, norm in looks[max(looks)]:
                if norm > 0:
                    norms[lag].append(norm)
    return [(lag, geometric_mean(values)) for lag, values in sorted(norms.items())]


def decorate(axes: Axes, title: str, x: str, y: str) -> None:
    """Apply the common style of all panels, and their labels."""
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

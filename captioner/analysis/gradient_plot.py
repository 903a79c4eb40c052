"""Plot the gradient through time: its norm over the distance in words."""

import csv
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from captioner.errors import CaptionerError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
"""Okabe & Ito's palette, one colour per run; most colour-blind readers can distinguish it."""

MOMENTS = 3
"""Measurements drawn per run: the first, a middle one and the last."""


FLOOR = 1e-4
"""Share of the gradient at distance 1 below which it counts as vanished and is not drawn."""


def read_gradients(path: Path) -> dict[int, list[tuple[int, float]]]:
    """Read the norm by distance in the top layer, for each measured step.

    Raises:
        CaptionerError: The file does not exist, or is not a run's gradients.csv.
    """
    if not path.is_file():
        raise CaptionerError(f"{path}: no such file; train with --watch.gradient_every 200 first")
    looks: dict[int, dict[int, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                norm = float(row["norm"])
                looks[int(row["step"])][int(row["layer"])].append((int(row["lag"]), norm))
    except (KeyError, TypeError, ValueError) as error:
        raise CaptionerError(f"{path}: not a run's gradients.csv ({error})") from error
    return {step: layers[max(layers)] for step, layers in sorted(looks.items())}


def plot_gradients(runs: Mapping[str, Path], path: Path) -> None:
    """Plot runs side by side, one panel per run, with early measurements pale and the last dark.

    Args:
        runs: Path of gradients.csv of each run, by displayed name.
        path: Output file; its suffix selects the format.

    Raises:
        CaptionerError: A file does not exist, or is not a run's gradients.csv.
    """
    from matplotlib import ticker
    from matplotlib.figure import Figure  # not pyplot, whose backend belongs to the caller

    curves = {name: read_gradients(file) for name, file in runs.items()}
    figure = Figure(figsize=(0.8 + 2.7 * len(curves), 3.1))
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)
    for axes, colour, (name, looks) in zip(panels[0], COLOURS * 9, curves.items(), strict=False):
        steps = list(looks)
        chosen = sorted(
            {steps[round(i * (len(steps) - 1) / (MOMENTS - 1))] for i in range(MOMENTS)}
        )
        for i, step in enumerate(chosen):
            lags, norms = zip(*looks[step], strict=True)
            norms = tuple(norm / norms[0] for norm in norms) if norms[0] else norms
            shade = (i + 1) / len(chosen)
            axes.plot(lags, norms, color=colour, alpha=shade, lw=1 + shade, label=f"step {step:,}")
        axes.set_yscale("log")
        axes.set_ylim(FLOOR)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        axes.set_title(name, color=colour)
        axes.set_xlabel("distance from the last word (words)")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    panels[0][0].set_ylabel("gradient of the last word's loss\n(relative to distance 1)")
    figure.tight_layout()
    figure.savefig(path, dpi=130)

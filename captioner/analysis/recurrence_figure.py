"""Draw the recurrence as one page: a column per word, a band per quantity."""

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from captioner.analysis.attention_figure import fitted, lit, scaled, weight_map
from captioner.analysis.gradient_plot import COLOURS
from captioner.analysis.recurrence import WordStep
from captioner.display import one_line
from captioner.photos.transform import Box

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")

_COLUMN = 0.95
"""Column width of a word in inches; smaller for captions of more than `_WIDE` words."""

_WIDE = 30

_LONGEST = 16
"""Maximum number of characters shown of a word; the file of numbers has all."""

_PANEL = 160
"""Longest side of the photo in an attention panel, in pixels."""


def recurrence_figure(
    steps: Sequence[WordStep],
    photo: np.ndarray,
    caption: str,
    *,
    grid: tuple[int, int] | None = None,
    box: Box | None = None,
) -> dict[str, bytes]:
    """Draw the result of `inspect_words`.

    Args:
        steps: Steps of one caption.
        photo: Upright photo, (height, width, 3) uint8.
        caption: Heading of the page.
        grid: Rows and columns of the regions, with attention.
        box: Part of the photo that the grid covers, in pixels of `photo`.

    Returns:
        The file in each of `FORMATS`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style: dict[Any, Any] = {
        "text.parse_math": False,  # a word may hold dollar signs
        "svg.hashsalt": "captioner",
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with pyplot.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # drawn as a box
        figure = _page(steps, photo, caption, grid, box)
        written = {}
        for form in FORMATS:
            file = io.BytesIO()
            date = {"Date": None} if form == "svg" else None
            figure.savefig(file, format=form, dpi=110, metadata=date)
            written[form] = file.getvalue()
        pyplot.close(figure)
    return written


def _page(
    steps: Sequence[WordStep],
    photo: np.ndarray,
    caption: str,
    grid: tuple[int, int] | None,
    box: Box | None,
) -> "Figure":
    from matplotlib import pyplot

    gates = [(i, name) for i, layer in enumerate(steps[0].layers) for name in layer.gates]
    attends = grid is not None and box is not None and steps[0].attention is not None
    # Inches: the photo, attention, words, entropy, reach, norms, and each gate.
    heights = [1.7, *([1.0] if attends else []), 1.15, 0.8, 0.8, 1.1, *([0.75] * len(gates))]
    column = _COLUMN if len(steps) <= _WIDE else _COLUMN * _WIDE / len(steps)
    width, height = max(7.0, 2.35 + column * len(steps)), sum(heights) + 0.32 * len(heights) + 0.3
    figure = pyplot.figure(figsize=(width, height))
    places = figure.add_gridspec(
        len(heights),
        1,
        height_ratios=heights,
        hspace=0.32 * len(heights) / sum(heights),
        left=1.7 / width,
        right=1 - 0.65 / width,
        top=1 - 0.12 / height,
        bottom=0.15 / height,
    )
    bands = [figure.add_subplot(places[i]) for i in range(len(heights))]
    head, *rest = bands
    _head(head, photo, caption, steps)
    for axes in rest:
        axes.set_xlim(-0.5, len(steps) - 0.5)
        axes.set_xticks(range(len(steps)), [""] * len(steps))
        axes.tick_params(axis="x", length=0)
    if attends and grid is not None and box is not None:
        _attention(rest.pop(0), steps, photo, grid, box)
    words, entropy, reach, norms, *of_gates = rest
    _words(words, steps)
    _entropy(entropy, steps)
    _reach(reach, steps)
    _norms(norms, steps)
    for axes, (layer, name) in zip(of_gates, gates, strict=True):
        _gate(axes, steps, layer, name)
    return figure


def _head(axes: "Axes", photo: np.ndarray, caption: str, steps: Sequence[WordStep]) -> None:
    """Draw the photo and the caption."""
    axes.axis("off")
    picture = axes.inset_axes((0, 0, 0.2, 1))
    picture.imshow(photo)
    picture.axis("off")
    picture.set_anchor("W")
    log_prob = sum(np.log(max(step.probability, 1e-45)) for step in steps)
    text = one_line(caption)
    axes.text(
        0.22,
        0.62,
        f"“{text if len(text) <= 400 else text[:400] + '…'}”",
        fontsize=13,
        va="center",
        wrap=True,
    )
    layers = len(steps[0].layers)
    axes.text(
        0.22,
        0.15,
        f"log p = {log_prob:.2f} · {len(steps)} steps · "
        f"{layers} recurrent layer{'s' if layers > 1 else ''}",
        color="#5b6067",
    )


def _words(axes: "Axes", steps: Sequence[WordStep]) -> None:
    """Draw each word and its rivals with their probabilities, the likelier the darker."""
    axes.set_ylim(6.6, -0.6)
    axes.set_yticks([0, 2, 3, 4, 5, 6], ["word", *(f"rival {i}" for i in range(1, 6))])
    axes.tick_params(axis="y", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    for x, step in enumerate(steps):
        word = f"{_short(step.word)} {step.probability:.2f}"
        size = 8.5 * min(1.0, 13 / len(word))
        axes.text(x, 0, word, ha="center", va="center", weight="bold", fontsize=size)
        axes.barh(0.95, 0.9 * step.probability, 0.28, x - 0.45, color=COLOURS[0])
        axes.barh(0.95, 0.9, 0.28, x - 0.45, color="#0000000f")
        for y, (rival, probability) in enumerate(step.rivals, start=2):
            ink = 0.62 - 0.5 * min(1.0, 2 * probability)
            label = f"{_short(rival)} {probability:.2f}"
            axes.text(x, y, label, ha="center", va="center", fontsize=7, color=(ink, ink, ink))


def _entropy(axes: "Axes", steps: Sequence[WordStep]) -> None:
    values = [step.entropy for step in steps]
    axes.bar(range(len(steps)), values, 0.6, color=COLOURS[4])
    axes.set_ylim(0, _top(values))
    _named(axes, "entropy\n(nats)")


def _reach(axes: "Axes", steps: Sequence[WordStep]) -> None:
    values = [step.reach for step in steps]
    axes.plot(range(len(steps)), values, "o-", color=COLOURS[1], ms=4)
    axes.fill_between(range(len(steps)), values, color=COLOURS[1], alpha=0.15, lw=0)
    axes.set_ylim(0, _top(values))
    _named(axes, "image reach\n|d log p / dv|")


def _norms(axes: "Axes", steps: Sequence[WordStep]) -> None:
    """Draw the norms of h (solid), c (dashed) and U y (dotted), one colour per layer."""
    xs = range(len(steps))
    count = len(steps[0].layers)
    for i in range(count):
        layers = [step.layers[i] for step in steps]
        colour, of = COLOURS[i % len(COLOURS)], f" of layer {i + 1}" if count > 1 else ""
        axes.plot(xs, [one.hidden for one in layers], "o-", ms=3, color=colour, label=f"|h|{of}")
        for kind, line, name in (("cell", "s--", "|c|"), ("feedback", "^:", "|U y|")):
            values = [getattr(one, kind) for one in layers]
            if values[0] is not None:
                axes.plot(xs, values, line, ms=3, color=colour, label=f"{name}{of}")
    axes.set_ylim(0, 1.15 * axes.dataLim.y1 or 1)
    axes.legend(frameon=False, fontsize=7, ncols=4, loc="lower left", borderaxespad=0)
    _named(axes, "state norms")


def _gate(axes: "Axes", steps: Sequence[WordStep], layer: int, name: str) -> None:
    """Draw a gate's distribution over the units as shades, and its mean as a line."""
    gates = [step.layers[layer].gates[name] for step in steps]
    shares = np.array([gate.histogram for gate in gates]).T  # (BINS, T)
    axes.imshow(
        np.sqrt(shares),
        aspect="auto",
        origin="lower",
        cmap="Blues",
        vmin=0,
        vmax=1,
        extent=(-0.5, len(steps) - 0.5, 0, 1),
        interpolation="nearest",
    )
    axes.plot(range(len(steps)), [gate.mean for gate in gates], "o-", color=COLOURS[1], ms=3, lw=1)
    for x, gate in enumerate(gates):
        axes.text(x + 0.08, min(gate.mean + 0.05, 0.85), f"{gate.mean:.2f}", fontsize=6.5)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    of = f"\nof layer {layer + 1}" if len(steps[0].layers) > 1 else ""
    _named(axes, f"{name} gate{of}")


def _attention(
    axes: "Axes", steps: Sequence[WordStep], photo: np.ndarray, grid: tuple[int, int], box: Box
) -> None:
    """Draw the photo lit where each word attends, and the sentinel's weight."""
    picture = fitted(Image.fromarray(photo), _PANEL)
    here = scaled(box, picture.width / photo.shape[1], picture.height / photo.shape[0])
    maps = [weight_map(np.array(step.attention), grid, here, picture.size) for step in steps]
    brightest = max([2 / (grid[0] * grid[1]), *(float(one.max()) for one in maps)])
    axes.axis("off")
    for i, (step, weights) in enumerate(zip(steps, maps, strict=True)):
        panel = axes.inset_axes(((i + 0.03) / len(steps), 0, 0.94 / len(steps), 1))
        panel.imshow(lit(picture, weights, brightest))
        panel.axis("off")
        if step.sentinel is not None:
            panel.set_title(f"sentinel {step.sentinel:.2f}", fontsize=7, pad=2)
    _named(axes, "attention")


def _named(axes: "Axes", name: str) -> None:
    """Write a band's name at the left edge of the page."""
    axes.annotate(
        name,
        (0, 0.5),
        (-40, 0),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="center",
    )


def _top(values: Sequence[float]) -> float:
    """Return the upper end of an axis from 0, above all values."""
    return 1.15 * max(values) or 1.0


def _short(word: str) -> str:
    text = one_line(word)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

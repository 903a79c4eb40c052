r"""Observe the recurrence: what gates, states and the image do while a caption is written.

Letters: T words of the caption (the end word included), L layers, H hidden size, V vocabulary,
R grid regions, F feature size.

The words of a finished caption are fed to the decoder one by one. Each step records the gates, the
norms of the states, the distribution over the next word, and how far the image still reaches:

    reach_t = | d log p(w_t | w_1 … w_{t-1}, v) / dv |

Here v is the image's features, (F,), or those of all regions, (R, F). The reach of a word is near 0
if it could be said without the photo, and for every late word if the recurrence forgets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captioner.analysis.gradient_flow import CLOSED, OPEN
from captioner.model.captioner import Captioner
from captioner.model.cells import CellState
from captioner.text.vocabulary import START, Vocabulary

RIVALS = 5
"""Number of rivals listed per word of the caption."""

BINS = 10
"""Number of equal bins in a gate's histogram, from 0 to 1."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Gate:
    """One gate of one layer at one step, over the H units.

    Attributes:
        mean: Mean activity, 0 (closed) to 1 (open).
        quantiles: Activities at the shares `QUANTILES` of the units.
        histogram: Share of the units in each of `BINS` bins from 0 to 1; they sum to 1.
        closed: Share of the units below `gradient_flow.CLOSED`.
        open: Share of the units above `gradient_flow.OPEN`.
    """

    mean: float
    quantiles: tuple[float, ...]
    histogram: tuple[float, ...]
    closed: float
    open: float


@dataclass(frozen=True)
class LayerStep:
    """One layer at one step.

    Attributes:
        gates: Gates by name; empty in a simple network.
        hidden: Norm of h_t.
        cell: Norm of the cell c_t of an LSTM; None in other networks.
        feedback: Norm of U y_t, the state of a Jordan network; None in others.
    """

    gates: Mapping[str, Gate]
    hidden: float
    cell: float | None = None
    feedback: float | None = None


@dataclass(frozen=True)
class WordStep:
    """The step that wrote one word.

    Attributes:
        word: The word in the vocabulary.
        probability: Probability of the word, given the previous words and the photo.
        entropy: Entropy of the distribution over the next word, in nats.
        rivals: The most probable other words, with their probabilities.
        reach: Norm of the gradient of the word's log-probability with respect to the features.
        reach_by_region: The same for each region's features (R,); None without a grid.
        layers: Layers, from the first to the last.
        attention: Weights of the regions (R,); None without attention.
        sentinel: Weight of the sentinel; None without one.
    """

    word: str
    probability: float
    entropy: float
    rivals: tuple[tuple[str, float], ...]
    reach: float
    reach_by_region: tuple[float, ...] | None
    layers: tuple[LayerStep, ...]
    attention: tuple[float, ...] | None = None
    sentinel: float | None = None


def inspect_words(
    captioner: Captioner, vocabulary: Vocabulary, features: Tensor, words: Sequence[int]
) -> list[WordStep]:
    """Observe the steps that write a caption, without changing weights or their gradients.

    Args:
        captioner: Captioner in evaluation mode, so that dropout does not add noise.
        vocabulary: Its words.
        features: Features of one image, (F,) or (R, F).
        words: Word ids in the captioner's word order, including the end word.
    """
    decoder = captioner.decoder
    observed: list[dict[str, Tensor]] = []
    hidden: list[Tensor] = []

    def observe(layer: int, x: Tensor, before: CellState, h: Tensor) -> None:
        with torch.no_grad():
            observed.append(decoder.cells[layer].gates(x, before))
            hidden.append(h[0].detach())

    steps = []
    with torch.enable_grad():
        image = features.detach().clone()[None].float().requires_grad_()
        state, regions = decoder.begin(image)
        fed = START
        for number, word in enumerate(words):
            observed.clear()
            hidden.clear()
            previous = torch.tensor([fed], device=image.device)
            logits, state = decoder.step(previous, state, regions, observe)
            log_probs = logits[0].log_softmax(0)
            last = number == len(words) - 1
            # The end word of a network without an image has no gradient.
            (gradient,) = torch.autograd.grad(
                log_probs[word], image, retain_graph=not last, allow_unused=True
            )
            layers = [
                _layer(gates, h, cell, decoder.cells[i].reads_output)
                for i, (gates, h, cell) in enumerate(
                    zip(observed, hidden, state[: len(decoder.cells)], strict=True)
                )
            ]
            weights = None if regions is None else decoder.weights(state)[0].detach()
            steps.append(
                _word(vocabulary, word, log_probs.detach(), gradient, layers, weights, decoder.kind)
            )
            fed = word
    return steps


def as_plain(steps: Sequence[WordStep]) -> list[dict[str, Any]]:
    """Return the steps as JSON values, without absent ones."""
    return [_present(step) for step in steps]


def _present(value: Any) -> Any:
    if isinstance(value, (WordStep, LayerStep, Gate)):
        return {name: _present(one) for name, one in vars(value).items() if one is not None}
    if isinstance(value, Mapping):
        return {name: _present(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return [_present(one) for one in value]
    return value


def _layer(
    gates: Mapping[str, Tensor], h: Tensor, state: CellState, reads_output: bool
) -> LayerStep:
    """Build a layer from gates (1, H), h_t (H,) and the state after the step."""
    kept = float(state[0][0].detach().norm())
    return LayerStep(
        gates={name: _gate(values[0]) for name, values in gates.items()},
        hidden=float(h.norm()),
        cell=float(state[1][0].detach().norm()) if len(state) > 1 else None,
        feedback=kept if reads_output else None,
    )


def _gate(values: Tensor) -> Gate:
    values = values.float().cpu()
    counts = torch.histc(values, BINS, 0.0, 1.0)
    return Gate(
        mean=float(values.mean()),
        quantiles=tuple(values.quantile(torch.tensor(QUANTILES)).tolist()),
        histogram=tuple((counts / len(values)).tolist()),
        closed=float((values < CLOSED).float().mean()),
        open=float((values > OPEN).float().mean()),
    )


def _word(
    vocabulary: Vocabulary,
    word: int,
    log_probs: Tensor,
    gradient: Tensor | None,
    layers: Sequence[LayerStep],
    weights: Tensor | None,
    kind: str,
) -> WordStep:
    """Build a word from log-probs (V,), the gradient (1, F) or (1, R, F), and weights (R,)."""
    probabilities = log_probs.exp()
    best = probabilities.topk(min(RIVALS + 1, len(probabilities)))
    rivals = [
        (vocabulary.words[i], probability)
        for i, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        if i != word
    ]
    by_region = None
    if gradient is not None and gradient.dim() == 3:
        by_region = tuple(gradient[0].nan_to_num().norm(dim=1).tolist())
    sentinel = None
    if weights is not None and kind == "adaptive":
        weights, sentinel = weights[:-1], float(weights[-1])
    return WordStep(
        word=vocabulary.words[word],
        probability=float(probabilities[word]),
        # 0 log 0 is 0
        entropy=float(-(probabilities * log_probs).nan_to_num().sum()),
        rivals=tuple(rivals[:RIVALS]),
        reach=0.0 if gradient is None else float(gradient.nan_to_num().norm()),
        reach_by_region=by_region,
        layers=tuple(layers),
        attention=None if weights is None else tuple(weights.tolist()),
        sentinel=sentinel,
    )

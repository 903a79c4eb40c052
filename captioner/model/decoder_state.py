"""Types that go in and out of a decoder: its state, the result of teacher forcing, its loss.

Letters: M captions or hypotheses, W words, V vocabulary, E embedding, H hidden, R regions.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.cells import CellState, first_of_state
from captioner.model.kernels.cross_entropy import cross_entropy
from captioner.model.kernels.linear import onednn_multiplies

Place = Literal["init", "pre", "par", "merge"]
"""Where the image goes in (Tanti et al. 2018)."""

DecoderState = tuple[CellState, ...]
"""One cell state for each layer; then, in the places `par` and `merge`, the image vector; then,
after a step with attention, its weights (M, R)."""


MOST_LOGITS = 2**26
"""Most logits of a batch held at once on a CPU: 0.27 GB, and as much again for the gradient."""

SearchStep = Callable[..., tuple[Tensor, DecoderState]]
"""Takes words (M,), state and, with attention, regions; returns logits (M, V) of the next word and
the new state."""

Observer = Callable[[int, Tensor, CellState, Tensor], None]
"""Called at each layer's step with its number, input (M, E or H), previous state and h_t."""


class Unrolled(NamedTuple):
    """Result of teacher forcing: outputs, and the logits only where the recurrence needs them."""

    outputs: Tensor
    """What the projection to the vocabulary reads (W, its input size)."""
    logits: Tensor | None = None
    """Logits (W, V), if the recurrence needed them (Jordan)."""
    weights: Tensor | None = None
    """Attention weights (W, R) of each word; see `Attention.forward`."""


def loss_of(
    unrolled: Unrolled, projection: nn.Linear, targets: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy in nats of a teacher-forced unroll, for target words (W,).

    Args:
        unrolled: the outputs, or already the logits.
        projection: from the outputs to the vocabulary.
        targets: words to be predicted (W,).
        label_smoothing: share of a target's probability spread over the vocabulary.
    """
    outputs, weight = unrolled.outputs, projection.weight
    fused = getattr(F, "linear_cross_entropy", None)  # newer torch only
    # It never holds all logits; oneDNN's product is faster while they fit.
    quick = onednn_multiplies(outputs) and len(outputs) * len(weight) <= MOST_LOGITS
    if fused is not None and unrolled.logits is None and not quick:
        loss: Tensor = fused(
            outputs,
            weight,
            targets,
            linear_bias=projection.bias,
            label_smoothing=label_smoothing,
        )
        return loss
    logits = projection(outputs) if unrolled.logits is None else unrolled.logits
    return cross_entropy(logits, targets, label_smoothing)


def first_rows(state: DecoderState, n: int) -> DecoderState:
    """Return the first n rows of the states of all layers."""
    return tuple(first_of_state(cell, n) for cell in state)


def select_rows(state: DecoderState, rows: Tensor) -> DecoderState:
    """Select rows of a state, for instance an image's state for each of its captions."""
    return tuple(tuple(tensor.index_select(0, rows) for tensor in cell) for cell in state)

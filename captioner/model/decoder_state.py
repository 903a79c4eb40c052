"""What goes in and out of a decoder: its state, what teacher forcing gives, and the loss of it.

Letters: M captions or hypotheses, W words, V vocabulary, E embedding, H hidden, R regions.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.cells import CellState
from captioner.model.kernels.cross_entropy import cross_entropy
from captioner.model.kernels.linear import onednn_multiplies

Place = Literal["init", "pre", "par", "merge"]
"""Where the image goes in (Tanti et al. 2018)."""

DecoderState = tuple[CellState, ...]
"""One cell state for each layer; then, in the places `par` and `merge`, the image vector; then,
after a step with attention, its weights (M, R)."""


MOST_LOGITS = 2**26
"""Logits of a batch that are held at once on a CPU: 0.27 GB, and as much again for the gradient."""

SearchStep = Callable[..., tuple[Tensor, DecoderState]]
"""Words (M,), state and, with attention, regions to logits (M, V) of the next word and the new
state."""

Observer = Callable[[int, Tensor, CellState, Tensor], None]
"""Is told of each layer's step: its number, its input (M, E or H), the state before it, and h_t."""


class Unrolled(NamedTuple):
    """What teacher forcing gives: as much of the way to the logits as had to be gone."""

    outputs: Tensor
    """What the projection to the vocabulary reads (W, its input size)."""
    logits: Tensor | None = None
    """Logits (W, V), where the recurrence needed them already (Jordan)."""
    weights: Tensor | None = None
    """Attention weights (W, R) of each word; see `Attention.forward`."""


def loss_of(
    unrolled: Unrolled, projection: nn.Linear, targets: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy in nats of what teacher forcing gave, target words (W,).

    Args:
        unrolled: the outputs, or already the logits.
        projection: from the outputs to the vocabulary.
        targets: words to be predicted (W,).
        label_smoothing: share of a target's probability spread over the vocabulary.
    """
    outputs, weight = unrolled.outputs, projection.weight
    fused = getattr(F, "linear_cross_entropy", None)  # newer torch only
    # It never holds all the logits; oneDNN's product is faster where they are not too many.
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


def select_rows(state: DecoderState, rows: Tensor) -> DecoderState:
    """Rows of a state: one image's state for each of its captions, without encoding it again."""
    return tuple(tuple(tensor.index_select(0, rows) for tensor in cell) for cell in state)

r"""Measure the gradient through time of a decoder, and the activity of its gates and units.

Letters: M captions, T time steps, H hidden size, L layers. The state s_t of a layer is what step t
passes to the next step: h_t, with c_t in an LSTM, and U y_t in Jordan's network. s_0 precedes the
first word. If the image sets it (place `init`), its gradient trains the image features.

Only the loss L_T of the last word is traced back. The norm of dL_T/ds_{T-k} over the distance k is
a product of k Jacobians. It vanishes or explodes exponentially in simple networks, while gates
preserve it in the others (Hochreiter & Schmidhuber 1997; Pascanu et al. 2013). The gradient of the
whole loss over t shows this less clearly, because nearby words contribute to it everywhere.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.model.cells import CellState
from captioner.model.decoder import Decoder

CLOSED, OPEN = 0.05, 0.95
"""A gate outside these bounds is saturated: its slope is below a fifth of its maximum."""

FLAT = 0.1
"""A simple unit is saturated if its activation's slope is below this share of the maximum."""


@dataclass(frozen=True)
class GradientThroughTime:
    """One measurement.

    Attributes:
        by_distance: (L, T) mean over captions of |dL_T/ds_{T-k}|, k from 1 to T.
        by_time: (L, T) mean over captions of |dL/ds_t|, L the loss of all words, t from 0 to T - 1.
        gates: Mean activity of each kind of gate over layers, captions, steps and units, 0 to 1.
        saturated: Share of saturated gates of each kind; in a simple network, of `hidden` units.
    """

    by_distance: Tensor
    by_time: Tensor
    gates: dict[str, float]
    saturated: dict[str, float]


def gradient_through_time(
    decoder: Decoder, features: Tensor, words: Tensor, targets: Tensor
) -> GradientThroughTime:
    """Measure the gradient of some captions, without changing weights or their gradients.

    Args:
        decoder: Decoder in evaluation mode, so that dropout does not add noise.
        features: (M, F) or (M, R, F), one row per caption.
        words: Input word of each step, (M, T).
        targets: Target word of each step, (M, T).
    """
    layers = len(decoder.cells)
    gates: dict[str, list[Tensor]] = {}
    hidden: list[Tensor] = []

    def observe(layer: int, x: Tensor, before: CellState, h: Tensor) -> None:
        with torch.no_grad():
            for name, gate in decoder.cells[layer].gates(x, before).items():
                gates.setdefault(name, []).append(gate)
            hidden.append(h.detach())

    with torch.enable_grad():
        state, regions = decoder.initial_state(features), decoder.regions(features)
        states: list[tuple[CellState, ...]] = []
        losses = []
        for word, target in zip(words.unbind(1), targets.unbind(1), strict=True):
            states.append(tuple(tuple(_node(tensor) for tensor in s) for s in state[:layers]))
            logits, state = decoder.step(word, (*states[-1], *state[layers:]), regions, observe)
            losses.append(F.cross_entropy(logits, target, reduction="sum"))
        by_distance = _norms(losses[-1], states)
        by_time = _norms(torch.stack(losses).sum(), states)
    return GradientThroughTime(
        by_distance=by_distance.flip(1),
        by_time=by_time,
        gates={name: float(torch.stack(values).mean()) for name, values in gates.items()},
        saturated=_saturated(decoder, gates, hidden),
    )


def _node(tensor: Tensor) -> Tensor:
    """Return an equal tensor as a separate node of the graph.

    The word of step t reads h_t directly. The new node only receives the gradient of later steps.
    """
    return tensor.clone() if tensor.requires_grad else tensor.clone().requires_grad_()


def _norms(loss: Tensor, states: list[tuple[CellState, ...]]) -> Tensor:
    """Return the gradient's mean norm over captions, for each layer and step, (L, steps)."""
    tensors = [tensor for step in states for cell in step for tensor in cell]
    gradients = iter(torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True))
    rows = []
    for step in states:
        row = []
        for cell in step:
            parts = [next(gradients) for _ in cell]
            known = [part for part in parts if part is not None]
            row.append(torch.cat(known, 1).norm(dim=1).mean() if known else loss.new_zeros(()))
        rows.append(torch.stack(row))
    return torch.stack(rows, 1).detach()


def _saturated(
    decoder: Decoder, gates: dict[str, list[Tensor]], hidden: list[Tensor]
) -> dict[str, float]:
    if gates:
        shares = {name: torch.stack(values) for name, values in gates.items()}
        return {
            name: float(((gate < CLOSED) | (gate > OPEN)).float().mean())
            for name, gate in shares.items()
        }
    h = torch.stack(hidden)
    activation = decoder.cells[0].activation
    if activation == "tanh":
        slope = 1 - h * h
    elif activation == "logistic":
        slope = 4 * h * (1 - h)
    else:
        slope = (h > 0).float()
    return {"hidden": float((slope < FLAT).float().mean())}

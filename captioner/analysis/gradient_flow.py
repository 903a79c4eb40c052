r"""How far the gradient reaches back through a decoder, and what its gates and units do meanwhile.

Letters: M captions, T time steps, H hidden size, L layers. The state s_t of a layer is what step t
hands to the next: h_t, with c_t in an LSTM, U y_t in Jordan's network. s_0 is there before the
first word; where the image makes it (`init`), its gradient is what teaches the image.

The loss L_T of the last word alone is followed back: the norm of dL_T/ds_{T-k} over the distance k
is a product of k Jacobians, which fades or bursts exponentially in a simple network and is carried
by the gates in the others (Hochreiter & Schmidhuber 1997; Pascanu et al. 2013). The gradient of the
whole loss over t shows it less well: near words keep it alive everywhere.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.model.cells import CellState
from captioner.model.decoder import Decoder

CLOSED, OPEN = 0.05, 0.95
"""A gate below or above is saturated: its own gradient is less than a fifth of its largest."""

FLAT = 0.1
"""A simple unit is saturated where the slope of its activation is below this share of its top."""


@dataclass(frozen=True)
class GradientThroughTime:
    """One look.

    Attributes:
        by_distance: (L, T) mean over captions of |dL_T/ds_{T-k}|, k from 1 to T.
        by_time: (L, T) mean over captions of |dL/ds_t|, L the loss of all words, t from 0 to T - 1.
        gates: mean activity of each kind of gate over layers, captions, steps and units, 0 to 1.
        saturated: share of saturated gates of each kind; in a simple network, `hidden` units.
    """

    by_distance: Tensor
    by_time: Tensor
    gates: dict[str, float]
    saturated: dict[str, float]


def gradient_through_time(
    decoder: Decoder, features: Tensor, words: Tensor, targets: Tensor
) -> GradientThroughTime:
    """Look at the gradient of some captions; weights and their gradients are left alone.

    Args:
        decoder: in evaluation mode, so that dropout blurs nothing.
        features: (M, F) or (M, R, F), one row a caption.
        words: fed to the decoder at each step (M, T).
        targets: to be predicted at each step (M, T).
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
    """The same numbers with a name of their own in the graph, begun there if they came from none.

    Step t's own word reads h_t directly; this name is for what the later steps see of it.
    """
    return tensor.clone() if tensor.requires_grad else tensor.clone().requires_grad_()


def _norms(loss: Tensor, states: list[tuple[CellState, ...]]) -> Tensor:
    """Mean over captions of the gradient's norm, for each layer and step: (L, steps)."""
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

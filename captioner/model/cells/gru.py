"""Gated recurrent unit, with the reset gate after or before the product with the state."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from captioner.model.cells.cell import Cell, CellState, initialise
from captioner.model.kernels.backprop_through_time import GRUThroughTime, by_hand
from captioner.model.kernels.linear import linear, onednn_multiplies

UPDATE = slice(1, 2)
"""Index of the update gate in torch's order r, z, n (the candidate)."""


class GRU(Cell):
    r"""Gated recurrent unit (Cho et al. 2014), in torch's form (`reset_after`).

        z_t, r_t = s(W_{z,r} x_t + U_{z,r} h_{t-1} + b_{z,r})
        n_t = tanh(W x_t + b + r_t * (U h_{t-1} + b'))
        h_t = (1 - z_t) * n_t + z_t * h_{t-1}

    There is no separate cell and no output gate: h_t is a mix of h_{t-1} and a candidate. The reset
    gate acts after the product with U, so that one matrix product serves all three gates. The
    update gate's bias starts at 2, for the same reason as the LSTM's forget gate: at 0, every word
    would halve the image information in the first state, and its gradient.

    Args:
        input_size: Size E of an input.
        hidden_size: Size H of the hidden state.
    """

    n_states = 1

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.recurrence = nn.GRU(input_size, hidden_size)
        initialise(self.recurrence, hidden_size)
        open_update_gate(self.recurrence.all_weights[0][2])

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Take one time step from x (M, E) and state (h,), (M, H); return h_t and (h_t,)."""
        # The kernel writes in place, which fixes sizes in an exported graph.
        if onednn_multiplies(x) or torch.compiler.is_exporting():
            return super().step(x, state)
        h = torch.gru_cell(x, state[0], *self.recurrence.all_weights[0])
        return h, (h,)

    @property
    def input_weight(self) -> Tensor:
        """W of all gates (G * H, E)."""
        weight: Tensor = self.recurrence.all_weights[0][0]
        return weight

    @property
    def input_bias(self) -> Tensor:
        """Bias of all gates in order r, z, n (3 * H,)."""
        bias: Tensor = self.recurrence.all_weights[0][2]
        return bias

    def advance(self, product: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Take one time step from a product (M, 3 * H) and state (h,); return h_t and (h_t,)."""
        (h,) = state
        both = 2 * h.shape[1]
        of_h = self._state_product(h)
        r, z = (product[:, :both] + of_h[:, :both]).sigmoid().chunk(2, dim=1)
        n = torch.addcmul(product[:, both:], r, of_h[:, both:]).tanh()
        h = torch.lerp(n, h, z)  # (1 - z) * n + z * h
        return h, (h,)

    def unroll(self, xs: Tensor, batch_sizes: Tensor, state: CellState) -> Tensor:
        """Take all time steps from packed xs (W, E); return h_1 ... h_T packed (W, H)."""
        if by_hand(xs):
            _, u, _, d = self.recurrence.all_weights[0]
            hidden_states: Tensor = GRUThroughTime.apply(
                self.input_product(xs), batch_sizes.tolist(), *state, u, d
            )
            return hidden_states
        h = state[0].unsqueeze(0)
        hidden: PackedSequence = self.recurrence(PackedSequence(xs, batch_sizes), h)[0]
        return hidden.data

    def gates(self, x: Tensor, state: CellState) -> dict[str, Tensor]:
        """Return the reset and update gates of a step, (M, H) each."""
        sums = self.input_product(x) + self._state_product(state[0])
        r, z, _ = sums.sigmoid().chunk(3, dim=1)
        return {"reset": r, "update": z}

    def _state_product(self, h: Tensor) -> Tensor:
        _, u, _, d = self.recurrence.all_weights[0]
        return linear(h, u, d)


class ResetBeforeGRU(Cell):
    r"""GRU whose reset gate acts on the state before the product with U (Cho et al. 2014).

        z_t, r_t = s(W_{z,r} x_t + U_{z,r} h_{t-1} + b_{z,r})
        n_t = tanh(W x_t + U (r_t * h_{t-1}) + b)
        h_t = (1 - z_t) * n_t + z_t * h_{t-1}

    This is the form of the first papers. It needs a second product per step. Cho et al. let z weigh
    the candidate in one paper and the old state in another; here z = 1 keeps the old state, as in
    torch.

    Args:
        input_size: Size E of an input.
        hidden_size: Size H of the hidden state.
    """

    n_states = 1

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size))
        initialise(self, hidden_size)
        open_update_gate(self.bias)

    @property
    def input_weight(self) -> Tensor:
        """W of all gates (G * H, E)."""
        weight: Tensor = self.weight_ih
        return weight

    @property
    def input_bias(self) -> Tensor:
        """Bias of all gates in order r, z, n (3 * H,)."""
        bias: Tensor = self.bias
        return bias

    def advance(self, product: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Take one time step from a product (M, 3 * H) and state (h,); return h_t and (h_t,)."""
        (h,) = state
        r, z = self._gates(product, h)
        size = h.shape[1]
        n = (product[:, 2 * size :] + linear(r * h, self.weight_hh[2 * size :])).tanh()
        h = torch.lerp(n, h, z)
        return h, (h,)

    def gates(self, x: Tensor, state: CellState) -> dict[str, Tensor]:
        """Return the reset and update gates of a step, (M, H) each."""
        r, z = self._gates(self.input_product(x), state[0])
        return {"reset": r, "update": z}

    def _gates(self, product: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        both = 2 * h.shape[1]
        gates = product[:, :both] + linear(h, self.weight_hh[:both])
        return gates.sigmoid().chunk(2, dim=1)


def open_update_gate(bias: Tensor) -> None:
    """Set the update gate's part of a bias (3 * H) to 2."""
    nn.init.constant_(bias.detach().view(3, -1)[UPDATE], 2.0)

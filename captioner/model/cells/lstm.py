"""Long short-term memory, without and with peepholes."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from captioner.model.cells.cell import Cell, CellState, initialise
from captioner.model.kernels.backprop_through_time import LSTMThroughTime, by_hand
from captioner.model.kernels.linear import linear, onednn_multiplies

FORGET = slice(1, 2)
"""Index of the forget gate in torch's order i, f, c (the candidate), o."""


class LSTM(Cell):
    r"""Long short-term memory with forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

        i_t, f_t, o_t = s(W_{i,f,o} x_t + U_{i,f,o} h_{t-1} + b_{i,f,o})
        c_t = f_t * c_{t-1} + i_t * tanh(W_c x_t + U_c h_{t-1} + b_c)
        h_t = o_t * tanh(c_t)

    The content of the separate cell c_t is gated on output. The forget gate's bias starts at 1, so
    that gradients pass through time from the start of training (Jozefowicz et al. 2015).

    Args:
        input_size: Size E of an input.
        hidden_size: Size H of the hidden state.
    """

    n_states = 2

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.recurrence = nn.LSTM(input_size, hidden_size)
        initialise(self.recurrence, hidden_size)
        open_forget_gate(self.recurrence.all_weights[0][2])

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Take one time step from x (M, E) and state (h, c), (M, H); return h_t, (h_t, c_t)."""
        # The kernel writes in place, which fixes sizes in an exported graph.
        if onednn_multiplies(x) or torch.compiler.is_exporting():
            return super().step(x, state)
        h, c = torch.lstm_cell(x, state, *self.recurrence.all_weights[0])
        return h, (h, c)

    @property
    def input_weight(self) -> Tensor:
        """W of all gates (G * H, E)."""
        weight: Tensor = self.recurrence.all_weights[0][0]
        return weight

    @property
    def input_bias(self) -> Tensor:
        """Bias of all gates in order i, f, c, o (4 * H,): the sum of both that torch has."""
        _, _, b, d = self.recurrence.all_weights[0]
        return b + d

    def advance(self, product: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Take one time step from a product (M, 4 * H) and (h, c); return h_t and (h_t, c_t)."""
        h, c = state
        sums = product + linear(h, self.recurrence.all_weights[0][1])
        i, f, candidate, o = sums.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * candidate.tanh()
        h = o.sigmoid() * c.tanh()
        return h, (h, c)

    def unroll(self, xs: Tensor, batch_sizes: Tensor, state: CellState) -> Tensor:
        """Take all time steps from packed xs (W, E); return h_1 ... h_T packed (W, H)."""
        if by_hand(xs):
            return self.unroll_with_memory(xs, batch_sizes, state)[0]
        h, c = (tensor.unsqueeze(0) for tensor in state)
        hidden: PackedSequence = self.recurrence(PackedSequence(xs, batch_sizes), (h, c))[0]
        return hidden.data

    def unroll_with_memory(
        self, xs: Tensor, batch_sizes: Tensor, state: CellState
    ) -> tuple[Tensor, Tensor]:
        """Unroll; return h_1 ... h_T and c_1 ... c_T, packed (W, H) each."""
        if not by_hand(xs):
            return super().unroll_with_memory(xs, batch_sizes, state)
        u = self.recurrence.all_weights[0][1]
        hidden: Tensor
        cells: Tensor
        hidden, cells = LSTMThroughTime.apply(
            self.input_product(xs), batch_sizes.tolist(), *state, u
        )
        return hidden, cells

    def gates(self, x: Tensor, state: CellState) -> dict[str, Tensor]:
        """Return the input, forget and output gates of a step, (M, H) each."""
        sums = self.input_product(x) + linear(state[0], self.recurrence.all_weights[0][1])
        i, f, _, o = sums.sigmoid().chunk(4, dim=1)
        return {"input": i, "forget": f, "output": o}


class PeepholeLSTM(Cell):
    r"""LSTM whose gates see the cell (Gers & Schmidhuber 2000).

        i_t = s(W_i x_t + U_i h_{t-1} + p_i * c_{t-1} + b_i)
        f_t = s(W_f x_t + U_f h_{t-1} + p_f * c_{t-1} + b_f)
        c_t = f_t * c_{t-1} + i_t * tanh(W_c x_t + U_c h_{t-1} + b_c)
        o_t = s(W_o x_t + U_o h_{t-1} + p_o * c_t + b_o)
        h_t = o_t * tanh(c_t)

    The peepholes p are diagonal matrices, one number per unit. They start at 0, where this cell
    equals `LSTM`.

    Args:
        input_size: Size E of an input.
        hidden_size: Size H of the hidden state.
    """

    n_states = 2

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        self.peephole_input = nn.Parameter(torch.empty(hidden_size))
        self.peephole_forget = nn.Parameter(torch.empty(hidden_size))
        self.peephole_output = nn.Parameter(torch.empty(hidden_size))
        initialise(self, hidden_size)
        open_forget_gate(self.bias)

    @property
    def input_weight(self) -> Tensor:
        """W of all gates (G * H, E)."""
        weight: Tensor = self.weight_ih
        return weight

    @property
    def input_bias(self) -> Tensor:
        """Bias of all gates in order i, f, c, o (4 * H,)."""
        bias: Tensor = self.bias
        return bias

    def advance(self, product: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Take one time step from a product (M, 4 * H) and (h, c); return h_t and (h_t, c_t)."""
        _, _, o, c = self._gates_and_cell(product, state)
        h = o * c.tanh()
        return h, (h, c)

    def gates(self, x: Tensor, state: CellState) -> dict[str, Tensor]:
        """Return the input, forget and output gates of a step, (M, H) each."""
        i, f, o, _ = self._gates_and_cell(self.input_product(x), state)
        return {"input": i, "forget": f, "output": o}

    def _gates_and_cell(
        self, product: Tensor, state: CellState
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        h, c = state
        to_i, to_f, candidate, to_o = (product + linear(h, self.weight_hh)).chunk(4, dim=1)
        i = torch.addcmul(to_i, self.peephole_input, c).sigmoid()
        f = torch.addcmul(to_f, self.peephole_forget, c).sigmoid()
        c = f * c + i * candidate.tanh()
        o = torch.addcmul(to_o, self.peephole_output, c).sigmoid()
        return i, f, o, c


def open_forget_gate(bias: Tensor) -> None:
    """Set the forget gate's part of a bias (4 * H) to 1."""
    nn.init.ones_(bias.detach().view(4, -1)[FORGET])

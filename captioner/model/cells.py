"""Recurrent cells: one layer of recurrence, as one step and as a whole unroll.

Letters: B sequences, T time steps, E input size, H hidden size. x_t is the input at step t, h_t the
hidden state, s the logistic function, * the elementwise product.

A cell owns its weights and answers two calls that agree to rounding: `step` takes one input and is
what search uses; `unroll` takes a whole sequence and is what training uses, by torch's fused
kernels. Its state is a tuple of (B, H) tensors, the hidden state first.
"""

import torch
from torch import Tensor, nn

CellState = tuple[Tensor, ...]


class Cell(nn.Module):
    """What a decoder asks of a recurrent layer."""

    n_states: int
    """Number of (B, H) tensors in the state."""

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """One time step: input (B, E) and state to hidden state (B, H) and new state."""
        raise NotImplementedError

    def unroll(self, xs: Tensor, state: CellState) -> Tensor:
        """All time steps: inputs (B, T, E) and the first state to hidden states (B, T, H)."""
        raise NotImplementedError


class LSTM(Cell):
    r"""Long short-term memory with forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

        i_t, f_t, o_t = s(W_{i,f,o} x_t + U_{i,f,o} h_{t-1} + b_{i,f,o})
        c_t = f_t * c_{t-1} + i_t * tanh(W_c x_t + U_c h_{t-1} + b_c)
        h_t = o_t * tanh(c_t)

    A separate cell c_t, whose content is gated on its way out. The forget gate's bias starts at 1,
    so that gradients pass through time from the first step (Jozefowicz et al. 2015).

    Args:
        input_size: numbers in an input, E.
        hidden_size: numbers in the hidden state, H.
    """

    n_states = 2

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.recurrence = nn.LSTM(input_size, hidden_size, batch_first=True)
        initialise_recurrence(self.recurrence)
        input_bias = self.recurrence.all_weights[0][2]  # torch's gates stand in order i, f, c, o
        nn.init.ones_(input_bias.detach()[hidden_size : 2 * hidden_size])

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """One time step: x (B, E), state (h, c) of (B, H) each; returns h_t and (h_t, c_t)."""
        h, c = torch.lstm_cell(x, state, *self.recurrence.all_weights[0])
        return h, (h, c)

    def unroll(self, xs: Tensor, state: CellState) -> Tensor:
        """All time steps: xs (B, T, E) and the first state; returns h_1 … h_T as (B, T, H)."""
        h, c = state
        hidden: Tensor = self.recurrence(xs, (h.unsqueeze(0), c.unsqueeze(0)))[0]
        return hidden


class GRU(Cell):
    r"""Gated recurrent unit (Cho et al. 2014), in the form that torch computes.

        z_t, r_t = s(W_{z,r} x_t + U_{z,r} h_{t-1} + b_{z,r})
        n_t = tanh(W x_t + b + r_t * (U h_{t-1} + b'))
        h_t = (1 - z_t) * n_t + z_t * h_{t-1}

    No separate cell and no output gate: h_t is a mix of h_{t-1} and a candidate. The reset gate
    acts after the product with U, which lets one matrix product serve all three.

    Args:
        input_size: numbers in an input, E.
        hidden_size: numbers in the hidden state, H.
    """

    n_states = 1

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.recurrence = nn.GRU(input_size, hidden_size, batch_first=True)
        initialise_recurrence(self.recurrence)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """One time step: x (B, E), state (h,) of (B, H); returns h_t and (h_t,)."""
        h = torch.gru_cell(x, state[0], *self.recurrence.all_weights[0])
        return h, (h,)

    def unroll(self, xs: Tensor, state: CellState) -> Tensor:
        """All time steps: xs (B, T, E) and the first state; returns h_1 … h_T as (B, T, H)."""
        hidden: Tensor = self.recurrence(xs, state[0].unsqueeze(0))[0]
        return hidden


def initialise_recurrence(recurrence: nn.RNNBase) -> None:
    """Starting weights of a gated layer.

    ========== ============================================================
    W (input)  uniform by fan-in and fan-out (Glorot & Bengio 2010)
    U (hidden) orthogonal for each gate (Saxe et al. 2014): keeps norms
               through time before any training
    biases     0
    ========== ============================================================
    """
    hidden = recurrence.hidden_size
    for name, weight in recurrence.named_parameters():
        if name.startswith("bias"):
            nn.init.zeros_(weight)
            continue
        for gate in weight.detach().split(hidden):
            if name.startswith("weight_hh"):
                nn.init.orthogonal_(gate)
            else:
                nn.init.xavier_uniform_(gate)

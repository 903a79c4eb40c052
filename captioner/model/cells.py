"""Recurrent cells: one layer of recurrence, as one step and as a whole unroll.

Letters: M sequences, T time steps, W words of all sequences together, E input size, H hidden size.
x_t is the input at step t, h_t the hidden state, s the logistic function, * the elementwise
product.

A cell owns its weights and answers two calls that agree to rounding: `step` takes one input a
sequence and is what search uses; `unroll` takes whole sequences and is what training uses, by
torch's fused kernels. Its state is a tuple of (M, H) tensors, the hidden state first.

Whole sequences are packed, as in `torch.nn.utils.rnn.PackedSequence`: sorted from long to short,
and all words of step 1 stand before all of step 2. `batch_sizes` tells how many sequences still run
at each step. There is no padding, so none is computed: on real captions, whose longest in a batch
is twice as long as the mean, that is worth 1.5 times the words per second for a GRU.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

CellState = tuple[Tensor, ...]


class Cell(nn.Module):
    """What a decoder asks of a recurrent layer."""

    n_states: int
    """Number of (M, H) tensors in the state."""

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """One time step: input (M, E) and state to hidden state (M, H) and new state."""
        raise NotImplementedError

    def unroll(self, xs: Tensor, batch_sizes: Tensor, state: CellState) -> Tensor:
        """All time steps: packed inputs (W, E) and the first state to hidden states (W, H).

        Args:
            xs: inputs, packed.
            batch_sizes: sequences that still run at each step (T,), on the CPU.
            state: before the first step, in the order of the packed sequences.
        """
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
        self.recurrence = nn.LSTM(input_size, hidden_size)
        initialise_recurrence(self.recurrence)
        input_bias = self.recurrence.all_weights[0][2]  # torch's gates stand in order i, f, c, o
        nn.init.ones_(input_bias.detach()[hidden_size : 2 * hidden_size])

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """One time step: x (M, E), state (h, c) of (M, H) each; returns h_t and (h_t, c_t)."""
        h, c = torch.lstm_cell(x, state, *self.recurrence.all_weights[0])
        return h, (h, c)

    def unroll(self, xs: Tensor, batch_sizes: Tensor, state: CellState) -> Tensor:
        """All time steps: packed xs (W, E) and the first state; returns h_1 … h_T packed (W, H)."""
        h, c = (tensor.unsqueeze(0) for tensor in state)
        hidden: PackedSequence = self.recurrence(PackedSequence(xs, batch_sizes), (h, c))[0]
        return hidden.data


class GRU(Cell):
    r"""Gated recurrent unit (Cho et al. 2014), in the form that torch computes.

        z_t, r_t = s(W_{z,r} x_t + U_{z,r} h_{t-1} + b_{z,r})
        n_t = tanh(W x_t + b + r_t * (U h_{t-1} + b'))
        h_t = (1 - z_t) * n_t + z_t * h_{t-1}

    No separate cell and no output gate: h_t is a mix of h_{t-1} and a candidate. The reset gate
    acts after the product with U, which lets one matrix product serve all three. The update gate's
    bias starts at 2, for the reason that the LSTM's forget gate has one: at 0 it would halve what
    the first state holds of the image at every word, and the gradient with it.

    Args:
        input_size: numbers in an input, E.
        hidden_size: numbers in the hidden state, H.
    """

    n_states = 1

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.recurrence = nn.GRU(input_size, hidden_size)
        initialise_recurrence(self.recurrence)
        input_bias = self.recurrence.all_weights[0][2]  # torch's gates stand in order r, z, n
        nn.init.constant_(input_bias.detach()[hidden_size : 2 * hidden_size], 2.0)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """One time step: x (M, E), state (h,) of (M, H); returns h_t and (h_t,)."""
        h = torch.gru_cell(x, state[0], *self.recurrence.all_weights[0])
        return h, (h,)

    def unroll(self, xs: Tensor, batch_sizes: Tensor, state: CellState) -> Tensor:
        """All time steps: packed xs (W, E) and the first state; returns h_1 … h_T packed (W, H)."""
        h = state[0].unsqueeze(0)
        hidden: PackedSequence = self.recurrence(PackedSequence(xs, batch_sizes), h)[0]
        return hidden.data


def initialise_recurrence(recurrence: nn.RNNBase) -> None:
    """Starting weights of a gated layer.

    ========== ============================================================
    W (input)  uniform by fan-in and fan-out (Glorot & Bengio 2010)
    U (hidden) orthogonal for each gate (Saxe et al. 2014): keeps norms
               through time before any training
    biases     0, but for the gate that keeps the state: 1 or 2
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

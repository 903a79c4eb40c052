"""The interface of a recurrent cell: one recurrent layer, as a single step and as an unroll.

Letters: M sequences, T time steps, W words of all sequences together, E input size, H hidden size,
V vocabulary, G gates of a cell. x_t is the input at step t, h_t the hidden state, y_t the output
distribution, s the logistic function, * the elementwise product.

A cell owns its weights and offers two methods that agree up to rounding. Search uses `step`, which
takes one input per sequence. Training uses `unroll`, which takes whole sequences. The state of a
cell is a tuple of (M, H) tensors.

Whole sequences are packed as in `torch.nn.utils.rnn.PackedSequence`: sorted from long to short,
with all words of step 1 before all words of step 2. `batch_sizes` holds the number of sequences
still running at each step. There is no padding to compute. On real captions, where the longest of a
batch is twice the mean length, this gives a GRU 1.5 times the training throughput.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from captioner.model.kernels.all_steps import one_gradient_for_all_steps
from captioner.model.kernels.linear import linear

CellState = tuple[Tensor, ...]

Activation = Literal["tanh", "relu", "logistic"]
"""Nonlinearity f of the simple cells."""

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "logistic": torch.sigmoid,
}


class Cell(nn.Module):
    """A recurrent layer, as the decoder uses it."""

    n_states: int
    """Number of (M, H) tensors in the state."""
    activation: Activation = "tanh"
    """Nonlinearity that produces h_t."""
    reads_output = False
    """Whether the recurrence uses the output y_{t-1} instead of the hidden state."""

    @property
    def input_weight(self) -> Tensor:
        """Weight of the inputs, with all gates stacked (G * H, E)."""
        raise NotImplementedError

    @property
    def input_bias(self) -> Tensor:
        """Bias of that product, with all gates stacked (G * H,)."""
        raise NotImplementedError

    def input_product(self, xs: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the contribution W x + b of inputs (W, E) to every gate, (W, G * H).

        Args:
            xs: Inputs.
            weight: W for inputs whose other columns follow later, one step at a time; the whole
                `input_weight` by default.
        """
        return linear(xs, self.input_weight if weight is None else weight, self.input_bias)

    def advance(self, product: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Take one time step from the `input_product` (M, G * H); return h_t and the new state."""
        raise NotImplementedError

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Take one time step from input (M, E) and state; return h_t (M, H) and the new state."""
        return self.advance(self.input_product(x), state)

    def unroll(self, xs: Tensor, batch_sizes: Tensor, state: CellState) -> Tensor:
        """Take all time steps; return the hidden states (W, H).

        The products with the inputs of all steps are computed at once, and the loop only does what
        depends on the state. Cells with a torch kernel override this.

        Args:
            xs: Packed inputs (W, E).
            batch_sizes: Number of sequences still running at each step (T,), on the CPU.
            state: State before the first step, in the order of the packed sequences.
        """
        hidden = []
        products = self.input_product(xs).split(batch_sizes.tolist())
        with one_gradient_for_all_steps():
            for product in products:
                h, state = self.advance(product, first_of_state(state, len(product)))
                hidden.append(h)
        return torch.cat(hidden)

    def unroll_with_memory(
        self, xs: Tensor, batch_sizes: Tensor, state: CellState
    ) -> tuple[Tensor, Tensor]:
        """Unroll; return the hidden states and the `memory` of each step, (W, H) each."""
        if self.n_states == 1:
            hidden = self.unroll(xs, batch_sizes, state)
            return hidden, hidden
        steps = []
        products = self.input_product(xs).split(batch_sizes.tolist())
        with one_gradient_for_all_steps():
            for product in products:
                h, state = self.advance(product, first_of_state(state, len(product)))
                steps.append((h, self.memory(h, state)))
        hidden_states, memories = zip(*steps, strict=True)
        return torch.cat(hidden_states), torch.cat(memories)

    def memory(self, h: Tensor, state: CellState) -> Tensor:
        """Return the memory (M, H) after a step with h_t and a state: an LSTM's c_t, else h_t."""
        return h if self.n_states == 1 else state[1]

    def feed_back(self, y: Tensor, state: CellState) -> CellState:
        """Return the state after a step, given the decoder's output distribution y (M, V).

        The state is unchanged if the recurrence uses the hidden layer.
        """
        return state

    def feed_back_words(self, words: Tensor, state: CellState) -> CellState:
        """Do the same for outputs that are certain of one word per sequence, words (M,)."""
        return state

    def gates(self, x: Tensor, state: CellState) -> dict[str, Tensor]:
        """Return the gates of one step by name, (M, H) each, 0 to 1; empty without gates."""
        return {}


def first_of(rows: Tensor, n: int) -> Tensor:
    """Return the first n rows; all rows as they are, because a slice would add a gradient step."""
    return rows if len(rows) == n else rows[:n]


def first_of_state(state: CellState, n: int) -> CellState:
    """Return the first n rows of a state: captions are sorted by length, so the others ended."""
    return tuple(first_of(rows, n) for rows in state)


def initialise(weights: nn.Module, hidden_size: int) -> None:
    """Initialise the weights of a cell, gate by gate.

    ========== ============================================================
    W (input)  uniform by fan-in and fan-out (Glorot & Bengio 2010)
    U (hidden) orthogonal for each gate (Saxe et al. 2014): keeps norms
               through time before any training
    vectors    0: biases (but for the gate that keeps the state, which each
               cell opens itself) and peepholes
    ========== ============================================================
    """
    for name, weight in weights.named_parameters():
        if weight.dim() == 1:
            nn.init.zeros_(weight)
            continue
        for gate in weight.detach().split(hidden_size):
            if "_hh" in name:
                nn.init.orthogonal_(gate)
            else:
                nn.init.xavier_uniform_(gate)

"""What a recurrent cell is: one layer of recurrence, as one step and as a whole unroll.

Letters: M sequences, T time steps, W words of all sequences together, E input size, H hidden size,
V vocabulary, G gates of a cell. x_t is the input at step t, h_t the hidden state, y_t the output
distribution, s the logistic function, * the elementwise product.

A cell owns its weights and answers two calls that agree to rounding: `step` takes one input a
sequence and is what search uses; `unroll` takes whole sequences and is what training uses. Its
state is a tuple of (M, H) tensors.

Whole sequences are packed, as in `torch.nn.utils.rnn.PackedSequence`: sorted from long to short,
and all words of step 1 stand before all of step 2. `batch_sizes` tells how many sequences still run
at each step. There is no padding, so none is computed: on real captions, whose longest in a batch
is twice as long as the mean, that is worth 1.5 times the words per second for a GRU.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

CellState = tuple[Tensor, ...]

Activation = Literal["tanh", "relu", "logistic"]
"""Nonlinearity f of the simple cells."""

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "logistic": torch.sigmoid,
}


class Cell(nn.Module):
    """What a decoder asks of a recurrent layer."""

    n_states: int
    """Number of (M, H) tensors in the state."""
    activation: Activation = "tanh"
    """Nonlinearity on the way to h_t."""
    reads_output = False
    """Whether the recurrence is on the output y_{t-1} instead of the hidden state."""

    @property
    def input_weight(self) -> Tensor:
        """The weight of the inputs, all gates below one another (G * H, E)."""
        raise NotImplementedError

    def input_product(self, xs: Tensor) -> Tensor:
        """What the inputs (W, E) contribute to every gate, biases included: (W, G * H).

        Inputs may also be the first columns alone, where the others come later, one step at a time.
        """
        raise NotImplementedError

    def advance(self, product: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """One time step from the `input_product` of its inputs (M, G * H): h_t and new state."""
        raise NotImplementedError

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """One time step: input (M, E) and state to hidden state (M, H) and new state."""
        return self.advance(self.input_product(x), state)

    def unroll(self, xs: Tensor, batch_sizes: Tensor, state: CellState) -> Tensor:
        """All time steps: packed inputs (W, E) and the first state to hidden states (W, H).

        The products with the inputs of all steps are one; what is left in the loop is what depends
        on the state. Cells that torch has a kernel for do better.

        Args:
            xs: inputs, packed.
            batch_sizes: sequences that still run at each step (T,), on the CPU.
            state: before the first step, in the order of the packed sequences.
        """
        hidden = []
        for product in self.input_product(xs).split(batch_sizes.tolist()):
            h, state = self.advance(product, tuple(tensor[: len(product)] for tensor in state))
            hidden.append(h)
        return torch.cat(hidden)

    def unroll_with_memory(
        self, xs: Tensor, batch_sizes: Tensor, state: CellState
    ) -> tuple[Tensor, Tensor]:
        """As `unroll`; hidden states and what `memory` says of each step, (W, H) both."""
        if self.n_states == 1:
            hidden = self.unroll(xs, batch_sizes, state)
            return hidden, hidden
        steps = []
        for product in self.input_product(xs).split(batch_sizes.tolist()):
            h, state = self.advance(product, tuple(tensor[: len(product)] for tensor in state))
            steps.append((h, self.memory(h, state)))
        hidden_states, memories = zip(*steps, strict=True)
        return torch.cat(hidden_states), torch.cat(memories)

    def memory(self, h: Tensor, state: CellState) -> Tensor:
        """The memory (M, H) after a step that gave h_t and a state: c_t in an LSTM, else h_t."""
        return h if self.n_states == 1 else state[1]

    def feed_back(self, y: Tensor, state: CellState) -> CellState:
        """State after a step, once the decoder knows its output distribution y (M, V).

        Unchanged where the recurrence is on the hidden layer.
        """
        return state

    def feed_back_words(self, words: Tensor, state: CellState) -> CellState:
        """The same for a distribution that is certain of one word a sequence, words (M,)."""
        return state

    def gates(self, x: Tensor, state: CellState) -> dict[str, Tensor]:
        """Gates of one step by name, (M, H) each, from 0 to 1; none in a cell without gates."""
        return {}


def first_columns(weight: Tensor, xs: Tensor) -> Tensor:
    """As many columns of a weight (O, E) as the inputs (W, I) have."""
    return weight if weight.shape[1] == xs.shape[1] else weight[:, : xs.shape[1]].contiguous()


def initialise(weights: nn.Module, hidden_size: int) -> None:
    """Starting weights of a cell, gate by gate.

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

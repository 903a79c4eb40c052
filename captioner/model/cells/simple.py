"""The simple recurrent networks: Elman's and Jordan's. No gates: their gradient fades or bursts."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from captioner.model.cells.cell import (
    ACTIVATIONS,
    Activation,
    Cell,
    CellState,
    first_columns,
    initialise,
)
from captioner.model.kernels.linear import Linear, linear


class Elman(Cell):
    r"""Simple recurrent network: the recurrence is on the hidden layer (Elman 1990).

        h_t = f(W x_t + U h_{t-1} + b)

    The gradient that travels from step t back to step t - k is multiplied by U and by f' k times,
    so it fades or bursts with distance (Pascanu et al. 2013). Runs in torch's kernel, which knows
    tanh and ReLU; the logistic function takes a loop.

    Args:
        input_size: numbers in an input, E.
        hidden_size: numbers in the hidden state, H.
        activation: f.
    """

    n_states = 1

    def __init__(self, input_size: int, hidden_size: int, activation: Activation = "tanh") -> None:
        super().__init__()
        self.activation = activation
        # With the logistic function the module only holds the weights.
        kernel = "relu" if activation == "relu" else "tanh"
        self.recurrence = nn.RNN(input_size, hidden_size, nonlinearity=kernel)
        initialise(self.recurrence, hidden_size)

    @property
    def input_weight(self) -> Tensor:
        """W of all gates (G * H, E)."""
        weight: Tensor = self.recurrence.all_weights[0][0]
        return weight

    def input_product(self, xs: Tensor) -> Tensor:
        """W x + b, of inputs (W, E): (W, H)."""
        w, _, b, c = self.recurrence.all_weights[0]
        return linear(xs, first_columns(w, xs), b + c)

    def advance(self, product: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """One time step: product (M, H), state (h,) of (M, H); returns h_t and (h_t,)."""
        sums = product + linear(state[0], self.recurrence.all_weights[0][1])
        h = ACTIVATIONS[self.activation](sums)
        return h, (h,)

    def unroll(self, xs: Tensor, batch_sizes: Tensor, state: CellState) -> Tensor:
        """All time steps: packed xs (W, E) and the first state; returns h_1 … h_T packed (W, H)."""
        if self.activation == "logistic":
            return super().unroll(xs, batch_sizes, state)
        h = state[0].unsqueeze(0)
        hidden: PackedSequence = self.recurrence(PackedSequence(xs, batch_sizes), h)[0]
        return hidden.data


class Jordan(Cell):
    r"""Network whose recurrence is on the output after its activation (Jordan 1986).

        h_t = f(W x_t + U y_{t-1} + b),   y_t = softmax(V h_t + c)

    Nothing but y_{t-1} and the word comes back: what the network remembers must pass through the
    distribution over words. The state kept between steps is U y_{t-1} (M, H), not y_{t-1} (M, V):
    the same information to the next step at a fraction of the size, which search has to gather.

    The output belongs to the decoder, which calls `feed_back` once it has y_t. So a step cannot be
    taken before the one before it has been projected to the vocabulary, and whole captions cannot
    be unrolled here: two products of H with V a step are the cost of this network.

    Args:
        input_size: numbers in an input, E.
        hidden_size: numbers in the hidden state, H.
        output_size: words in the vocabulary, V.
        activation: f.
    """

    n_states = 1
    reads_output = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        activation: Activation = "tanh",
    ) -> None:
        super().__init__()
        self.activation = activation
        self.input = Linear(input_size, hidden_size)
        # Stored as (V, H), so that a word's column of U is a row to look up.
        self.feedback = nn.Parameter(torch.empty(output_size, hidden_size))
        initialise(self.input, hidden_size)
        # Once the network is certain of a word, y is nearly one column of U, and which sentence it
        # is in must pass through the little probability of the others: a small U is deaf to it.
        nn.init.normal_(self.feedback, std=5.0)

    @property
    def input_weight(self) -> Tensor:
        """W of all gates (G * H, E)."""
        weight: Tensor = self.input.weight
        return weight

    def input_product(self, xs: Tensor) -> Tensor:
        """W x + b, of inputs (W, E): (W, H)."""
        return linear(xs, first_columns(self.input.weight, xs), self.input.bias)

    def advance(self, product: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """One time step: product (M, H), state (U y_{t-1},); returns h_t, the state as it was.

        The new state is what `feed_back` makes of the output.
        """
        return ACTIVATIONS[self.activation](product + state[0]), state

    def feed_back(self, y: Tensor, state: CellState) -> CellState:
        """State after a step whose output is the distribution y (M, V)."""
        return (linear(y, self.feedback.t()),)

    def feed_back_words(self, words: Tensor, state: CellState) -> CellState:
        """State after a step whose output is certain of one word a sequence, words (M,)."""
        return (F.embedding(words, self.feedback),)

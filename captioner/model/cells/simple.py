"""Simple recurrent networks, Elman's and Jordan's; without gates, gradients vanish or explode."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from captioner.model.cells.cell import (
    ACTIVATIONS,
    Activation,
    Cell,
    CellState,
    initialise,
)
from captioner.model.kernels.linear import Linear, linear


class Elman(Cell):
    r"""Simple recurrent network with recurrence on the hidden layer (Elman 1990).

        h_t = f(W x_t + U h_{t-1} + b)

    The gradient from step t back to step t - k is multiplied by U and by f' k times, so that it
    vanishes or explodes with distance (Pascanu et al. 2013). For tanh and ReLU the cell uses
    torch's kernel, for the logistic function a loop.

    Args:
        input_size: Size E of an input.
        hidden_size: Size H of the hidden state.
        activation: Nonlinearity f.
    """

    n_states = 1

    def __init__(self, input_size: int, hidden_size: int, activation: Activation = "tanh") -> None:
        super().__init__()
        self.activation = activation
        # With the logistic function, this module only holds the weights.
        kernel = "relu" if activation == "relu" else "tanh"
        self.recurrence = nn.RNN(input_size, hidden_size, nonlinearity=kernel)
        initialise(self.recurrence, hidden_size)

    @property
    def input_weight(self) -> Tensor:
        """W of all gates (G * H, E)."""
        weight: Tensor = self.recurrence.all_weights[0][0]
        return weight

    @property
    def input_bias(self) -> Tensor:
        """Bias (H,): the sum of both that torch has."""
        _, _, b, c = self.recurrence.all_weights[0]
        return b + c

    def advance(self, product: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Take one time step from a product (M, H) and state (h,), (M, H); return h_t, (h_t,)."""
        sums = product + linear(state[0], self.recurrence.all_weights[0][1])
        h = ACTIVATIONS[self.activation](sums)
        return h, (h,)

    def unroll(self, xs: Tensor, batch_sizes: Tensor, state: CellState) -> Tensor:
        """Take all time steps from packed xs (W, E); return h_1 ... h_T packed (W, H)."""
        if self.activation == "logistic":
            return super().unroll(xs, batch_sizes, state)
        h = state[0].unsqueeze(0)
        hidden: PackedSequence = self.recurrence(PackedSequence(xs, batch_sizes), h)[0]
        return hidden.data


class Jordan(Cell):
    r"""Simple recurrent network with recurrence on the output distribution (Jordan 1986).

        h_t = f(W x_t + U y_{t-1} + b),   y_t = softmax(V h_t + c)

    Only y_{t-1} and the word are fed back: everything the network remembers must pass through the
    distribution over words. The state between steps is U y_{t-1} (M, H) rather than y_{t-1} (M, V).
    It carries the same information to the next step, and search gathers far fewer numbers.

    The output layer belongs to the decoder, which calls `feed_back` once it has y_t. A step thus
    needs the previous step's projection to the vocabulary, so that whole captions cannot be
    unrolled here. The network costs two products of H with V per step.

    Args:
        input_size: Size E of an input.
        hidden_size: Size H of the hidden state.
        output_size: Number V of words in the vocabulary.
        activation: Nonlinearity f.
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
        # Once the network is certain of a word, y is almost one column of U. The rest of the
        # sentence is then encoded in small probabilities, which a small U could not pass on.
        nn.init.normal_(self.feedback, std=5.0)

    @property
    def input_weight(self) -> Tensor:
        """W of all gates (G * H, E)."""
        weight: Tensor = self.input.weight
        return weight

    @property
    def input_bias(self) -> Tensor:
        """Bias (H,)."""
        return self.input.bias

    def advance(self, product: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Take one time step from a product (M, H) and state (U y_{t-1},).

        Return h_t and the unchanged state. `feed_back` computes the new state from the output.
        """
        return ACTIVATIONS[self.activation](product + state[0]), state

    def feed_back(self, y: Tensor, state: CellState) -> CellState:
        """Return the state after a step with output distribution y (M, V)."""
        return (linear(y, self.feedback.t()),)

    def feed_back_words(self, words: Tensor, state: CellState) -> CellState:
        """Do the same for outputs that are certain of one word per sequence, words (M,)."""
        return (F.embedding(words, self.feedback),)

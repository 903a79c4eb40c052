"""A deeper way from one hidden state to the next."""

import torch
from torch import Tensor, nn

from captioner.model.cells.cell import Cell, CellState
from captioner.model.kernels.linear import Linear


class DeepTransition(Cell):
    r"""Any cell followed by further layers inside its recurrence (Pascanu et al. 2014, DT-RNN).

        h'_t = cell(x_t, h_{t-1}),   h_t = tanh(D_d … tanh(D_1 h'_t + b_1) … + b_d)

    What the next step sees as h_{t-1} has gone through all of them: depth in the transition, where
    stacked layers put depth between input and output. Each D starts orthogonal.

    Args:
        cell: the first layer of the transition.
        hidden_size: numbers in the hidden state, H.
        depth: layers after the cell, d.
    """

    def __init__(self, cell: Cell, hidden_size: int, depth: int) -> None:
        super().__init__()
        self.cell = cell
        self.n_states = cell.n_states
        self.reads_output = cell.reads_output
        self.transition = nn.ModuleList(Linear(hidden_size, hidden_size) for _ in range(depth))
        for name, weight in self.transition.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weight)
            else:
                nn.init.orthogonal_(weight)

    @property
    def input_weight(self) -> Tensor:
        """W of all gates (G * H, E)."""
        weight: Tensor = self.cell.input_weight
        return weight

    def input_product(self, xs: Tensor) -> Tensor:
        """That of the cell."""
        return self.cell.input_product(xs)

    def advance(self, product: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """One time step; the cell's other states (an LSTM's c) pass the deeper layers by."""
        h, state = self.cell.advance(product, state)
        for layer in self.transition:
            h = torch.tanh(layer(h))
        return h, state if self.reads_output else (h, *state[1:])

    def feed_back(self, y: Tensor, state: CellState) -> CellState:
        """State after a step, once its output distribution y (M, V) is known."""
        return self.cell.feed_back(y, state)

    def feed_back_words(self, words: Tensor, state: CellState) -> CellState:
        """The same for a distribution that is certain of one word a sequence, words (M,)."""
        return self.cell.feed_back_words(words, state)

    def gates(self, x: Tensor, state: CellState) -> dict[str, Tensor]:
        """Gates of the cell."""
        return self.cell.gates(x, state)

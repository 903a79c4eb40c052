"""A cell with additional layers between one hidden state and the next."""

import torch
from torch import Tensor, nn

from captioner.model.cells.cell import Cell, CellState
from captioner.model.kernels.linear import Linear


class DeepTransition(Cell):
    r"""Any cell followed by further layers inside its recurrence (Pascanu et al. 2014, DT-RNN).

        h'_t = cell(x_t, h_{t-1}),   h_t = tanh(D_d ... tanh(D_1 h'_t + b_1) ... + b_d)

    The next step's h_{t-1} has passed through all of these layers. They add depth to the
    transition, whereas stacked layers add depth between input and output. Each D is initialised
    orthogonal.

    Args:
        cell: First layer of the transition.
        hidden_size: Size H of the hidden state.
        depth: Number d of layers after the cell.
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

    @property
    def input_bias(self) -> Tensor:
        """Bias of all gates (G * H,)."""
        return self.cell.input_bias

    def advance(self, product: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Take one time step; other states of the cell (an LSTM's c) skip the deeper layers."""
        h, state = self.cell.advance(product, state)
        for layer in self.transition:
            h = torch.tanh(layer(h))
        return h, state if self.reads_output else (h, *state[1:])

    def feed_back(self, y: Tensor, state: CellState) -> CellState:
        """Return the state after a step with output distribution y (M, V)."""
        return self.cell.feed_back(y, state)

    def feed_back_words(self, words: Tensor, state: CellState) -> CellState:
        """Do the same for outputs that are certain of one word per sequence, words (M,)."""
        return self.cell.feed_back_words(words, state)

    def gates(self, x: Tensor, state: CellState) -> dict[str, Tensor]:
        """Return the gates of the cell."""
        return self.cell.gates(x, state)

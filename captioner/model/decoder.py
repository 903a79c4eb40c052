"""The decoder: image features and the words so far to scores for the next word.

Letters: B images, M captions or hypotheses, W words, T time steps, V vocabulary, E embedding,
H hidden, F feature size, L layers.

One interface, whatever the cell: `initial_state` reads the image once, `step` reads one word a row
and is what search calls, `unroll` reads whole captions (teacher forcing) and is what training
calls. A test holds `step` by `step` equal to `unroll`. The state is a tuple of tensors with the
row first, so that search can gather rows of it without knowing what it means.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.cells import Cell, CellState

DecoderState = tuple[CellState, ...]
"""One cell state for each layer."""


class Decoder(nn.Module):
    """Recurrent decoder whose first hidden state is made from the image (`init`).

        h_0 = tanh(W_h v + b_h) for each layer, and c_0 likewise where a cell has one
        x_t = embedding of word t
        logits_t = V dropout(h_t) + c

    with v the image's features (Vinyals et al. 2015 and Xu et al. 2015 for the form of h_0; Tanti
    et al. 2018 for the name of the place).

    Args:
        vocab_size: number of words, V.
        feature_size: numbers in an image's feature vector, F.
        cell: makes one recurrent layer from an input size and a hidden size.
        embedding_size: numbers in a word embedding, E.
        hidden_size: numbers in a hidden state, H.
        layers: recurrent layers, L.
        dropout: probability of dropping a unit, in training, of the features, the embeddings,
            between layers and before the projection to the vocabulary.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        feature_size: int,
        cell: Callable[[int, int], Cell],
        embedding_size: int = 512,
        hidden_size: int = 512,
        layers: int = 1,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.feature_norm = nn.LayerNorm(feature_size)
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        input_sizes = [embedding_size, *[hidden_size] * (layers - 1)]
        self.cells = [cell(size, hidden_size) for size in input_sizes]
        self.recurrent_layers = nn.ModuleList(self.cells)  # makes their weights this module's
        self.n_states = self.cells[0].n_states
        self.image_to_state = nn.Linear(feature_size, layers * self.n_states * hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(hidden_size, vocab_size)
        self.initialise()

    def initialise(self) -> None:
        """Starting weights of all but the cells, which set their own.

        ============== ==================================================
        embedding      normal, standard deviation 0.1
        image_to_state uniform by fan-in and fan-out; bias 0
        projection     uniform by fan-in and fan-out; bias 0
        ============== ==================================================
        """
        nn.init.normal_(self.embedding.weight, std=0.1)
        for layer in (self.image_to_state, self.projection):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def initial_state(self, features: Tensor) -> DecoderState:
        """State before the first word: features (B, F), or a grid (B, R, F) which is averaged."""
        if features.dim() == 3:
            features = features.mean(1)
        features = self.dropout(self.feature_norm(features.to(self.projection.weight.dtype)))
        parts = torch.tanh(self.image_to_state(features)).chunk(
            len(self.cells) * self.n_states, dim=1
        )
        n = self.n_states
        return tuple(parts[i * n : (i + 1) * n] for i in range(len(self.cells)))

    def step(self, words: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """One word a row: words (M,) and state to logits (M, V) of the next word and new state."""
        x = self.dropout(self.embedding(words))
        new_state: list[CellState] = []
        for cell, cell_state in zip(self.cells, state, strict=True):
            x, cell_state = cell.step(x, cell_state)
            new_state.append(cell_state)
            x = self.dropout(x)
        return self.projection(x), tuple(new_state)

    def unroll(self, words: Tensor, batch_sizes: Tensor, state: DecoderState) -> Tensor:
        """Whole captions, teacher forcing: packed words (W,) to outputs (W, H) for `projection`.

        Args:
            words: words of M captions, packed as `captioner.model.cells` says.
            batch_sizes: captions that still run at each step (T,), on the CPU.
            state: before the first word, one row a caption, in their packed order.
        """
        xs = self.dropout(self.embedding(words))
        for cell, cell_state in zip(self.cells, state, strict=True):
            xs = self.dropout(cell.unroll(xs, batch_sizes, cell_state))
        return xs

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy in nats: outputs (W, H) of `unroll`, target words (W,)."""
        weight, bias = self.projection.weight, self.projection.bias
        fused = getattr(F, "linear_cross_entropy", None)  # newer torch only
        if fused is not None:
            loss: Tensor = fused(
                outputs, weight, targets, linear_bias=bias, label_smoothing=label_smoothing
            )
            return loss
        return F.cross_entropy(
            F.linear(outputs, weight, bias), targets, label_smoothing=label_smoothing
        )


def select_rows(state: DecoderState, rows: Tensor) -> DecoderState:
    """Rows of a state: one image's state for each of its captions, without encoding it again."""
    return tuple(tuple(tensor.index_select(0, rows) for tensor in cell) for cell in state)

"""The decoder: image features and the words so far to scores for the next word.

Letters: B images, M captions or hypotheses, W words, T time steps, V vocabulary, E embedding,
H hidden, F feature size, L layers.

One interface, whatever the cell and wherever the image goes in: `initial_state` reads the image
once, `step` reads one word a row and is what search calls, `unroll` reads whole captions (teacher
forcing) and is what training calls. A test holds `step` by `step` equal to `unroll`. The state is a
tuple of tuples of tensors with the row first, so that search can gather rows of it without knowing
what it means.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.cells import Cell, CellState
from captioner.model.kernels.cross_entropy import cross_entropy
from captioner.model.kernels.input_cache import WordProducts
from captioner.model.kernels.linear import Linear, onednn_multiplies

Place = Literal["init", "pre", "par", "merge"]
"""Where the image goes in (Tanti et al. 2018)."""

DecoderState = tuple[CellState, ...]
"""One cell state for each layer; then, in the places `par` and `merge`, the image vector."""


MOST_LOGITS = 2**26
"""Logits of a batch that are held at once on a CPU: 0.27 GB, and as much again for the gradient."""

SearchStep = Callable[[Tensor, DecoderState], tuple[Tensor, DecoderState]]
"""Words (M,) and state to logits (M, V) of the next word and the new state."""

Observer = Callable[[int, Tensor, CellState, Tensor], None]
"""Is told of each layer's step: its number, its input (M, E or H), the state before it, and h_t."""


class Unrolled(NamedTuple):
    """What teacher forcing gives: as much of the way to the logits as had to be gone."""

    outputs: Tensor
    """What the projection to the vocabulary reads (W, its input size)."""
    logits: Tensor | None = None
    """Logits (W, V), where the recurrence needed them already (Jordan)."""


class Decoder(nn.Module):
    """Recurrent decoder; the image goes in at one of four places.

        v' = tanh(W_v v + b_v)                          the image vector
        x_t = embedding of word t         (par: joined by v')
        h_t = the cells, from x_t and their state
        o_t = h_t                         (merge: joined by v'), then the layers of a deep output
        logits_t = V dropout(o_t) + c

    with v the image's features, layer-normalised. The first state is

    - `init`: v' itself, one part for each state of each layer (Xu et al. 2015);
    - `pre`: what the cells make of v' as the first input (Vinyals et al. 2015);
    - `par`, `merge`: 0. The image is beside every input (Mao et al. 2015 and others), or never seen
      by the recurrence at all, which is then a language model. v' travels in the state.

    The places are compared by Tanti et al. 2018. A deep output (Pascanu et al. 2014) puts layers
    tanh(D o + d) of the embedding's size between state and vocabulary.

    Args:
        vocab_size: number of words, V.
        feature_size: numbers in an image's feature vector, F.
        cell: makes one recurrent layer from an input size and a hidden size.
        place: where the image goes in.
        embedding_size: numbers in a word embedding, E, and in the image vector of `pre`, `par` and
            `merge`.
        hidden_size: numbers in a hidden state, H.
        layers: recurrent layers, L.
        residual: whether a layer's input is added to its output, from the second layer on.
        output_depth: layers of a deep output.
        tie_embeddings: whether a word's embedding is also its row of the projection (Press & Wolf
            2017); needs outputs of the embedding's size.
        teacher: what a network whose recurrence is on the output is fed in teacher forcing: its own
            distribution ("softmax"), as in free running, or the true word ("word").
        dropout: probability of dropping a unit, in training, of the embeddings, between layers and
            before the projection to the vocabulary.
        image_dropout: the same of the image's features.

    Raises:
        ValueError: embeddings are to be tied to outputs of another size.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        feature_size: int,
        cell: Callable[[int, int], Cell],
        place: Place = "init",
        embedding_size: int = 512,
        hidden_size: int = 512,
        layers: int = 1,
        residual: bool = False,
        output_depth: int = 0,
        tie_embeddings: bool = False,
        teacher: Literal["softmax", "word"] = "softmax",
        dropout: float = 0.5,
        image_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.place = place
        self.residual = residual
        self.teacher = teacher
        self.feature_norm = nn.LayerNorm(feature_size)
        self.image_dropout = nn.Dropout(image_dropout)
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        first_input = 2 * embedding_size if place == "par" else embedding_size
        self.cells = [
            cell(size, hidden_size) for size in (first_input, *[hidden_size] * (layers - 1))
        ]
        self.recurrent_layers = nn.ModuleList(self.cells)  # makes their weights this module's
        self.hidden_size = hidden_size
        self.n_states = self.cells[0].n_states
        self.image = Linear(
            feature_size,
            layers * self.n_states * hidden_size if place == "init" else embedding_size,
        )
        self.dropout = nn.Dropout(dropout)
        output_size = hidden_size + embedding_size if place == "merge" else hidden_size
        self.deep_output = nn.ModuleList()
        for _ in range(output_depth):
            self.deep_output.append(Linear(output_size, embedding_size))
            output_size = embedding_size
        self.projection = Linear(output_size, vocab_size)
        self.initialise()
        if tie_embeddings:
            if output_size != embedding_size:
                raise ValueError(
                    f"embeddings of {embedding_size} numbers cannot be tied to outputs of "
                    f"{output_size}"
                )
            self.projection.weight = self.embedding.weight

    def initialise(self) -> None:
        """Starting weights of all but the cells, which set their own.

        =================== ==================================================
        embedding           normal, standard deviation 0.1
        image, deep output, uniform by fan-in and fan-out; bias 0
        projection
        =================== ==================================================
        """
        nn.init.normal_(self.embedding.weight, std=0.1)
        for layer in (self.image, *self.deep_output, self.projection):
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def initial_state(self, features: Tensor) -> DecoderState:
        """State before the first word: features (B, F), or a grid (B, R, F) which is averaged."""
        if features.dim() == 3:
            features = features.mean(1)
        features = self.feature_norm(features.to(self.projection.weight.dtype))
        image = torch.tanh(self.image(self.image_dropout(features)))
        n = self.n_states
        if self.place == "init":
            parts = image.chunk(len(self.cells) * n, dim=1)
            return tuple(parts[i * n : (i + 1) * n] for i in range(len(self.cells)))
        zero = image.new_zeros(len(image), self.hidden_size)
        state: DecoderState = tuple((zero,) * n for _ in self.cells)
        if self.place == "pre":
            output, state = self._advance(self.dropout(image), state)
            return self._feed_back(self.projection(output), state) if self._reads_output else state
        return (*state, (image,))

    def step(
        self, words: Tensor, state: DecoderState, observe: Observer | None = None
    ) -> tuple[Tensor, DecoderState]:
        """One word a row: words (M,) and state to logits (M, V) of the next word and new state."""
        output, state = self._advance(self.dropout(self.embedding(words)), state, observe)
        return self._logits_and_state(output, state)

    def search_step(self) -> SearchStep:
        """`step` in evaluation, for many captions by weights that do not change meanwhile.

        On a CPU what words contribute to the first layer is looked up (`WordProducts`), but at the
        place `par`, where the image is part of the first layer's input.
        """
        if self.embedding.weight.device.type != "cpu" or self.place == "par":
            return self.step
        first = self.cells[0]
        products = WordProducts(self.embedding.weight.detach(), first.input_product)

        def step(words: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
            h, first_state = first.advance(products(words), state[0])
            return self._logits_and_state(*self._advance_from_first(h, first_state, state))

        return step

    def unroll(self, words: Tensor, batch_sizes: Tensor, state: DecoderState) -> Unrolled:
        """Whole captions, teacher forcing: packed words (W,) to what `loss` and `logits` read.

        Args:
            words: words of M captions, packed as `captioner.model.cells` says.
            batch_sizes: captions that still run at each step (T,), on the CPU.
            state: before the first word, one row a caption, in their packed order.
        """
        if self._reads_output:
            return self._unroll_by_steps(words, batch_sizes, state)
        image = None
        if self.place in ("par", "merge"):
            rows = torch.cat([torch.arange(n) for n in batch_sizes.tolist()])
            image = state[-1][0].index_select(0, rows.to(words.device))
        xs = self._input(self.dropout(self.embedding(words)), image)
        for i, cell in enumerate(self.cells):
            xs = self._above(i, xs, cell.unroll(xs, batch_sizes, state[i]))
        return Unrolled(self._output(xs, image))

    def logits(self, unrolled: Unrolled) -> Tensor:
        """Scores of every word of the vocabulary (W, V)."""
        if unrolled.logits is not None:
            return unrolled.logits
        logits: Tensor = self.projection(unrolled.outputs)
        return logits

    def loss(self, unrolled: Unrolled, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy in nats: what `unroll` gave, target words (W,)."""
        outputs, weight = unrolled.outputs, self.projection.weight
        fused = getattr(F, "linear_cross_entropy", None)  # newer torch only
        # It never holds all the logits; oneDNN's product is faster where they are not too many.
        quick = onednn_multiplies(outputs) and len(outputs) * len(weight) <= MOST_LOGITS
        if fused is not None and unrolled.logits is None and not quick:
            loss: Tensor = fused(
                outputs,
                weight,
                targets,
                linear_bias=self.projection.bias,
                label_smoothing=label_smoothing,
            )
            return loss
        return cross_entropy(self.logits(unrolled), targets, label_smoothing)

    def _logits_and_state(self, output: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """The end of a step: what the projection reads to logits (M, V), and the new state."""
        logits: Tensor = self.projection(output)
        return logits, self._feed_back(logits, state) if self._reads_output else state

    @property
    def _reads_output(self) -> bool:
        return self.cells[0].reads_output

    def _advance(
        self, x: Tensor, state: DecoderState, observe: Observer | None = None
    ) -> tuple[Tensor, DecoderState]:
        """One step from an embedded word (M, E) to what the projection reads, and the new state."""
        x = self._input(x, self._image(state))
        h, first = self.cells[0].step(x, state[0])
        if observe is not None:
            observe(0, x, state[0], h)
        return self._advance_from_first(h, first, state, observe)

    def _advance_from_first(
        self, h: Tensor, first: CellState, state: DecoderState, observe: Observer | None = None
    ) -> tuple[Tensor, DecoderState]:
        """The rest of that step, from h_t (M, H) and the new state of the first layer."""
        x = self.dropout(h)
        new_state = [first]
        for i, cell in enumerate(self.cells[1:], start=1):
            h, cell_state = cell.step(x, state[i])
            new_state.append(cell_state)
            if observe is not None:
                observe(i, x, state[i], h)
            x = self._above(i, x, h)
        return self._output(x, self._image(state)), (*new_state, *state[len(self.cells) :])

    def _image(self, state: DecoderState) -> Tensor | None:
        """The image vector where it travels in the state."""
        return state[-1][0] if self.place in ("par", "merge") else None

    def _input(self, x: Tensor, image: Tensor | None) -> Tensor:
        return torch.cat((x, image), 1) if image is not None and self.place == "par" else x

    def _above(self, layer: int, below: Tensor, hidden: Tensor) -> Tensor:
        """What goes up from a layer: its hidden states, in a residual network over its inputs."""
        hidden = self.dropout(hidden)
        return hidden + below if self.residual and layer > 0 else hidden

    def _output(self, hidden: Tensor, image: Tensor | None) -> Tensor:
        if image is not None and self.place == "merge":
            hidden = torch.cat((hidden, self.dropout(image)), 1)
        for layer in self.deep_output:
            hidden = self.dropout(torch.tanh(layer(hidden)))
        return hidden

    def _feed_back(self, logits: Tensor, state: DecoderState) -> DecoderState:
        """State once the output is known, for a recurrence on the output."""
        y = logits.softmax(1)
        cells = (cell.feed_back(y, old) for cell, old in zip(self.cells, state, strict=False))
        return (*cells, *state[len(self.cells) :])

    def _feed_back_words(self, words: Tensor, state: DecoderState) -> DecoderState:
        """The same where the output is taken to be the true word."""
        cells = (
            cell.feed_back_words(words, old) for cell, old in zip(self.cells, state, strict=False)
        )
        return (*cells, *state[len(self.cells) :])

    def _unroll_by_steps(self, words: Tensor, batch_sizes: Tensor, state: DecoderState) -> Unrolled:
        """Teacher forcing where a step waits for the output of the one before it."""
        xs = self.dropout(self.embedding(words))
        sizes = batch_sizes.tolist()
        outputs, logits = [], []
        for t, (word, x) in enumerate(zip(words.split(sizes), xs.split(sizes), strict=True)):
            state = tuple(tuple(tensor[: len(x)] for tensor in cell) for cell in state)
            if t > 0 and self.teacher == "word":
                state = self._feed_back_words(word, state)
            output, state = self._advance(x, state)
            outputs.append(output)
            if self.teacher == "softmax":
                logits.append(self.projection(output))
                state = self._feed_back(logits[-1], state)
        return Unrolled(torch.cat(outputs), torch.cat(logits) if logits else None)


def select_rows(state: DecoderState, rows: Tensor) -> DecoderState:
    """Rows of a state: one image's state for each of its captions, without encoding it again."""
    return tuple(tuple(tensor.index_select(0, rows) for tensor in cell) for cell in state)

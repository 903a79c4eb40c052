"""The layers of a decoder, and one step through them; `captioner.model.decoder` is built on it.

Letters: B images, M captions or hypotheses, V vocabulary, E embedding, H hidden, F feature size,
G gates, L layers.
"""

import torch
from torch import Tensor, nn

from captioner.model.attention import Attention, Regions, Sentinel
from captioner.model.cells import Cell, CellState
from captioner.model.decoder_settings import (
    AttentionSettings,
    DropoutSettings,
    RecurrenceSettings,
    WordSettings,
)
from captioner.model.decoder_state import DecoderState, Observer, Place
from captioner.model.kernels.dropout import Dropout
from captioner.model.kernels.linear import Linear


class DecoderLayers(nn.Module):
    """Embedding, recurrent layers, attention and projection, and one step through them.

    Args:
        vocab_size: number of words, V.
        feature_size: numbers in an image's feature vector, F.
        recurrence: the recurrent layers.
        place: where the image goes in.
        words: embedding and output.
        attention: which state attends, if any.
        dropout: probabilities of dropping a unit.

    Raises:
        ValueError: embeddings cannot be tied to outputs of another size.
    """

    def __init__(
        self,
        vocab_size: int,
        feature_size: int,
        recurrence: RecurrenceSettings,
        *,
        place: Place = "init",
        words: WordSettings | None = None,
        attention: AttentionSettings | None = None,
        dropout: DropoutSettings | None = None,
    ) -> None:
        super().__init__()
        words, attention = words or WordSettings(), attention or AttentionSettings()
        dropout = dropout or DropoutSettings()
        self.place = place
        self.kind = attention.kind
        self.residual = recurrence.residual
        self.teacher = recurrence.teacher
        self.hidden_size = hidden_size = recurrence.hidden_size
        embedding_size = words.embedding_size
        # The order of these lines is that of the weights in optimiser states of checkpoints, and of
        # the random numbers that they start from.
        self.feature_norm = nn.LayerNorm(feature_size)
        self.image_dropout = Dropout(dropout.image)
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        inputs = self._input_sizes(embedding_size, recurrence.layers)
        self.recurrent_layers = nn.ModuleList(recurrence.cell(n, hidden_size) for n in inputs)
        self.n_states = self.cells[0].n_states
        image_size = recurrence.layers * self.n_states * hidden_size
        self.image = Linear(feature_size, image_size if place == "init" else embedding_size)
        self.dropout = Dropout(dropout.units)
        output_size = hidden_size + embedding_size if place == "merge" else hidden_size
        self.deep_output = nn.ModuleList()
        for _ in range(words.output_depth):
            self.deep_output.append(Linear(output_size, embedding_size))
            output_size = embedding_size
        self.projection = Linear(output_size, vocab_size)
        self.initialise()
        if attention.kind != "none":
            self.attention = Attention(
                feature_size, hidden_size, attention.size, attention.score, dropout.image
            )
        if attention.kind == "adaptive":
            self.sentinel = Sentinel(inputs[-1], hidden_size, attention.size)
        self.gate = Linear(hidden_size, 1) if attention.gate else None
        if words.tie_embeddings:
            if output_size != embedding_size:
                raise ValueError(
                    f"embeddings of {embedding_size} numbers cannot be tied to outputs of "
                    f"{output_size}"
                )
            self.projection.weight = self.embedding.weight

    def _input_sizes(self, embedding_size: int, layers: int) -> list[int]:
        """Numbers that each layer reads."""
        sizes = [2 * embedding_size if self.place == "par" else embedding_size]
        sizes += [self.hidden_size] * (layers - 1)
        if self.waits:
            sizes[0] += self.hidden_size
        if self.kind == "top_down":
            sizes[1] += self.hidden_size
        return sizes

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The recurrent layers, from the first to the last."""
        return tuple(self.recurrent_layers)  # type: ignore[arg-type]

    @property
    def waits(self) -> bool:
        """Whether the first layer reads a result of the step before, beside its word."""
        return self.kind in ("soft", "top_down")

    @property
    def _reads_output(self) -> bool:
        return self.cells[0].reads_output

    def initialise(self) -> None:
        """Set the starting weights of all but the cells, which set their own.

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

    def regions(self, features: Tensor) -> Regions | None:
        """Return what attention reads of images, features (B, R, F); None without attention."""
        return None if self.kind == "none" else self.attention.regions(features)

    def weights(self, state: DecoderState) -> Tensor:
        """Return the attention weights (M, R) of the step that led to a state."""
        return state[-1][0]

    def _logits_and_state(self, output: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """End a step: from the projection's input to logits (M, V), with the new state."""
        logits: Tensor = self.projection(output)
        return logits, self._feed_back(logits, state) if self._reads_output else state

    def _first_weights(self) -> tuple[Tensor, Tensor | None]:
        """Return the first layer's weights of a word and of what `_late` returns (G * H, H)."""
        weight = self.cells[0].input_weight
        if not self.waits:
            return weight, None
        # One split: two slices would each fill a gradient of the whole weight with zeros.
        of_word, of_late = weight.split_with_sizes(
            [weight.shape[1] - self.hidden_size, self.hidden_size], 1
        )
        return of_word.contiguous(), of_late.contiguous()

    def _late(self, state: DecoderState, regions: Regions | None) -> tuple[Tensor, Tensor | None]:
        """Return what joins the first layer's input (M, H), and the attention weights if known.

        For `soft` it is the context, for `top_down` the state of the last layer.
        """
        h = state[len(self.recurrent_layers) - 1][0]
        if self.kind == "top_down":
            return h, None
        assert regions is not None
        context, weights = self.attention(h, regions)
        if self.gate is not None:
            context = context * torch.sigmoid(self.gate(h))
        return self.dropout(context), weights

    def _attend_after(
        self, x: Tensor, h: Tensor, before: Tensor, memory: Tensor, regions: Regions
    ) -> tuple[Tensor, Tensor]:
        """Return contexts (M, H) and weights of the last layer's h_t, for `spatial` and `adaptive`.

        Args:
            x: inputs of the last layer.
            h: its states h_t (M, H).
            before: its states before the step (M, H).
            memory: the memory of its cell (M, H).
            regions: of the images.
        """
        sentinel = self.sentinel(x, before, memory) if self.kind == "adaptive" else None
        context, weights = self.attention(h, regions, sentinel)
        return self.dropout(context), weights

    def _advance(
        self,
        x: Tensor,
        state: DecoderState,
        regions: Regions | None = None,
        observe: Observer | None = None,
    ) -> tuple[Tensor, DecoderState]:
        """Step from an embedded word (M, E) to the projection's input, with the new state."""
        x, weights = self._input(x, self._image(state)), None
        if self.waits:
            late, weights = self._late(state, regions)
            x = torch.cat((x, late), 1)
        h, first = self.cells[0].step(x, state[0])
        if observe is not None:
            observe(0, x, state[0], h)
        return self._advance_from_first(x, h, first, state, regions, weights, observe)

    def _advance_from_first(
        self,
        below: Tensor,
        h: Tensor,
        first: CellState,
        state: DecoderState,
        regions: Regions | None = None,
        weights: Tensor | None = None,
        observe: Observer | None = None,
    ) -> tuple[Tensor, DecoderState]:
        """Finish that step, from h_t (M, H) and the new state of the first layer.

        Args:
            below: input of the first layer, which the sentinel of a single layer reads.
            h: hidden state of the first layer (M, H).
            first: its new state.
            state: before the step.
            regions: with attention, those of the images.
            weights: of attention, where it precedes the first layer.
            observe: see `Observer`.
        """
        x = self.dropout(h)
        new_state = [first]
        cells = self.cells
        for i, cell in enumerate(cells[1:], start=1):
            below = x
            if i == 1 and self.kind == "top_down":
                assert regions is not None
                context, weights = self.attention(h, regions)
                below = torch.cat((x, self.dropout(context)), 1)
            h, cell_state = cell.step(below, state[i])
            new_state.append(cell_state)
            if observe is not None:
                observe(i, below, state[i], h)
            x = self._above(i, x, h)
        if self.kind in ("spatial", "adaptive"):
            assert regions is not None
            top = len(cells) - 1
            memory = cells[top].memory(h, new_state[top])
            context, weights = self._attend_after(below, h, state[top][0], memory, regions)
            x = x + context
        image = self._image(state)
        extra = () if image is None else ((image,),)
        seen = () if weights is None else ((weights,),)
        return self._output(x, image), (*new_state, *extra, *seen)

    def _image(self, state: DecoderState) -> Tensor | None:
        """Return the image vector where it is part of the state."""
        return state[len(self.recurrent_layers)][0] if self.place in ("par", "merge") else None

    def _input(self, x: Tensor, image: Tensor | None) -> Tensor:
        return torch.cat((x, image), 1) if image is not None and self.place == "par" else x

    def _above(self, layer: int, below: Tensor, hidden: Tensor) -> Tensor:
        """Return a layer's output: its hidden states, plus its inputs in a residual network."""
        hidden = self.dropout(hidden)
        return hidden + below if self.residual and layer > 0 else hidden

    def _output(self, hidden: Tensor, image: Tensor | None) -> Tensor:
        if image is not None and self.place == "merge":
            hidden = torch.cat((hidden, self.dropout(image)), 1)
        for layer in self.deep_output:
            hidden = self.dropout(torch.tanh(layer(hidden)))
        return hidden

    def _feed_back(self, logits: Tensor, state: DecoderState) -> DecoderState:
        """Return the state once the output is known, for a recurrence on the output."""
        y = logits.softmax(1)
        cells = (cell.feed_back(y, old) for cell, old in zip(self.cells, state, strict=False))
        return (*cells, *state[len(self.cells) :])

    def _feed_back_words(self, words: Tensor, state: DecoderState) -> DecoderState:
        """Return the state if the output is taken to be the true word."""
        cells = (
            cell.feed_back_words(words, old) for cell, old in zip(self.cells, state, strict=False)
        )
        return (*cells, *state[len(self.cells) :])

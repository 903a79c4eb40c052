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
from typing import Literal

import torch
from torch import Tensor, nn

from captioner.model.attention import (
    Attention,
    Kind,
    Regions,
    Score,
    Sentinel,
    mean_of_regions,
)
from captioner.model.cells import Cell, CellState
from captioner.model.decoder_state import (
    DecoderState,
    Observer,
    Place,
    SearchStep,
    Unrolled,
    loss_of,
    select_rows,
)
from captioner.model.kernels.backprop_through_time import previous
from captioner.model.kernels.input_cache import WordProducts
from captioner.model.kernels.linear import Linear, linear

__all__ = ["Decoder", "DecoderState", "Place", "Unrolled", "select_rows"]


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

    With attention v is the mean of the regions, and the regions themselves are looked at, word by
    word; `captioner.model.attention` says how.

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
        attention: which state attends, if any.
        attention_size: numbers in a key of attention, A.
        attention_score: how a query and a key are compared.
        attention_gate: whether a gate weighs the context of `soft`.

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
        attention: Kind = "none",
        attention_size: int = 512,
        attention_score: Score = "dot",
        attention_gate: bool = False,
    ) -> None:
        super().__init__()
        self.place = place
        self.kind = attention
        self.residual = residual
        self.teacher = teacher
        self.feature_norm = nn.LayerNorm(feature_size)
        self.image_dropout = nn.Dropout(image_dropout)
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        inputs = [2 * embedding_size if place == "par" else embedding_size]
        inputs += [hidden_size] * (layers - 1)
        if self.waits:
            inputs[0] += hidden_size
        if attention == "top_down":
            inputs[1] += hidden_size
        self.cells = [cell(size, hidden_size) for size in inputs]
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
        if attention != "none":
            self.attention = Attention(
                feature_size, hidden_size, attention_size, attention_score, image_dropout
            )
        if attention == "adaptive":
            self.sentinel = Sentinel(inputs[-1], hidden_size, attention_size)
        self.gate = Linear(hidden_size, 1) if attention_gate else None
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
        """State before the first word: features (B, F), or of regions (B, R, F), averaged."""
        regions = self.regions(features) if self.place == "pre" else None
        if features.dim() == 3:
            features = mean_of_regions(features)
        features = self.feature_norm(features.to(self.projection.weight.dtype))
        image = torch.tanh(self.image(self.image_dropout(features)))
        n = self.n_states
        if self.place == "init":
            parts = image.chunk(len(self.cells) * n, dim=1)
            return tuple(parts[i * n : (i + 1) * n] for i in range(len(self.cells)))
        zero = image.new_zeros(len(image), self.hidden_size)
        state: DecoderState = tuple((zero,) * n for _ in self.cells)
        if self.place == "pre":
            output, state = self._advance(self.dropout(image), state, regions)
            state = state[: len(self.cells)]
            return self._feed_back(self.projection(output), state) if self._reads_output else state
        return (*state, (image,))

    def regions(self, features: Tensor) -> Regions | None:
        """What attention reads of images, features (B, R, F); None without attention."""
        return None if self.kind == "none" else self.attention.regions(features)

    def begin(self, features: Tensor) -> tuple[DecoderState, Regions | None]:
        """State before the first word, one row an image, and what attention reads, if any."""
        return self.initial_state(features), self.regions(features)

    def weights(self, state: DecoderState) -> Tensor:
        """Attention weights (M, R) of the step that gave a state."""
        return state[-1][0]

    def step(
        self,
        words: Tensor,
        state: DecoderState,
        regions: Regions | None = None,
        observe: Observer | None = None,
    ) -> tuple[Tensor, DecoderState]:
        """One word a row: words (M,) and state to logits (M, V) of the next word and new state.

        `regions` are those of B images, each with M / B rows that follow one another.
        """
        x = self.dropout(self.embedding(words))
        return self._logits_and_state(*self._advance(x, state, regions, observe))

    def search_step(self) -> SearchStep:
        """`step` in evaluation, for many captions by weights that do not change meanwhile.

        On a CPU what words contribute to the first layer is looked up (`WordProducts`), but at the
        place `par`, where the image is part of the first layer's input.
        """
        if self.embedding.weight.device.type != "cpu" or self.place == "par":
            return self.step
        first = self.cells[0]
        products = WordProducts(self.embedding.weight.detach(), first.input_product)
        of_late = self._late_weight() if self.waits else None

        def step(
            words: Tensor, state: DecoderState, regions: Regions | None = None
        ) -> tuple[Tensor, DecoderState]:
            product, weights = products(words), None
            if of_late is not None:
                late, weights = self._late(state, regions)
                product = product + linear(late, of_late)
            h, first_state = first.advance(product, state[0])
            x = self.embedding(words) if self.kind == "adaptive" else product
            return self._logits_and_state(
                *self._advance_from_first(x, h, first_state, state, regions, weights)
            )

        return step

    def unroll(
        self,
        words: Tensor,
        batch_sizes: Tensor,
        state: DecoderState,
        regions: Regions | None = None,
        rows: Tensor | None = None,
    ) -> Unrolled:
        """Whole captions, teacher forcing: packed words (W,) to what `loss` and `logits` read.

        Args:
            words: words of M captions, packed as `captioner.model.cells` says.
            batch_sizes: captions that still run at each step (T,), on the CPU.
            state: before the first word, one row a caption, in their packed order.
            regions: with attention, those of the images.
            rows: with attention, the image of each caption (M,).
        """
        sizes = batch_sizes.tolist()
        if self._reads_output or self.waits:
            if regions is not None and rows is not None:
                regions = regions.read_by(rows)
            return self._unroll_by_steps(words, sizes, state, regions)
        image = caption_of = None
        if self.place in ("par", "merge") or regions is not None:
            caption_of = torch.cat([torch.arange(n) for n in sizes]).to(words.device)
        if self.place in ("par", "merge") and caption_of is not None:
            image = state[len(self.cells)][0].index_select(0, caption_of)
        xs = self._input(self.dropout(self.embedding(words)), image)
        for i, cell in enumerate(self.cells[:-1]):
            xs = self._above(i, xs, cell.unroll(xs, batch_sizes, state[i]))
        last, top = self.cells[-1], len(self.cells) - 1
        if regions is None or rows is None or caption_of is None:
            hidden = last.unroll(xs, batch_sizes, state[top])
            return Unrolled(self._output(self._above(top, xs, hidden), image))
        regions = regions.read_by(rows[caption_of])
        if self.kind == "adaptive":
            hidden, memory = last.unroll_with_memory(xs, batch_sizes, state[top])
        else:
            hidden = memory = last.unroll(xs, batch_sizes, state[top])
        before = previous(state[top][0], hidden, sizes)
        context, weights = self._attend_after(xs, hidden, before, memory, regions)
        return Unrolled(
            self._output(self._above(top, xs, hidden) + context, image), weights=weights
        )

    def logits(self, unrolled: Unrolled) -> Tensor:
        """Scores of every word of the vocabulary (W, V)."""
        if unrolled.logits is not None:
            return unrolled.logits
        logits: Tensor = self.projection(unrolled.outputs)
        return logits

    def loss(self, unrolled: Unrolled, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy in nats: what `unroll` gave, target words (W,)."""
        return loss_of(unrolled, self.projection, targets, label_smoothing)

    def _logits_and_state(self, output: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """The end of a step: what the projection reads to logits (M, V), and the new state."""
        logits: Tensor = self.projection(output)
        return logits, self._feed_back(logits, state) if self._reads_output else state

    @property
    def _reads_output(self) -> bool:
        return self.cells[0].reads_output

    @property
    def waits(self) -> bool:
        """Whether a step's first layer reads what comes of the step before, beside its word."""
        return self.kind in ("soft", "top_down")

    def _late_weight(self) -> Tensor:
        """The first layer's weight of what `_late` gives (G * H, H)."""
        return self.cells[0].input_weight[:, -self.hidden_size :].contiguous()

    def _late(self, state: DecoderState, regions: Regions | None) -> tuple[Tensor, Tensor | None]:
        """What joins the first layer's input (M, H), and the attention weights if they are known.

        `soft`: the context; `top_down`: the state of the last layer.
        """
        h = state[len(self.cells) - 1][0]
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
        """Contexts (M, H) and weights of the last layer's states h_t, for `spatial`, `adaptive`.

        Args:
            x: inputs of the last layer.
            h: its states h_t (M, H).
            before: its states before the step (M, H).
            memory: what its cell calls so (M, H).
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
        """One step from an embedded word (M, E) to what the projection reads, and the new state."""
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
        """The rest of that step, from h_t (M, H) and the new state of the first layer.

        Args:
            below: input of the first layer, which the sentinel of a single layer reads.
            h: hidden state of the first layer (M, H).
            first: its new state.
            state: before the step.
            regions: with attention, those of the images.
            weights: of attention, where it came before the first layer.
            observe: see `Observer`.
        """
        x = self.dropout(h)
        new_state = [first]
        for i, cell in enumerate(self.cells[1:], start=1):
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
            top = len(self.cells) - 1
            memory = self.cells[top].memory(h, new_state[top])
            context, weights = self._attend_after(below, h, state[top][0], memory, regions)
            x = x + context
        image = self._image(state)
        extra = () if image is None else ((image,),)
        seen = () if weights is None else ((weights,),)
        return self._output(x, image), (*new_state, *extra, *seen)

    def _image(self, state: DecoderState) -> Tensor | None:
        """The image vector where it travels in the state."""
        return state[len(self.cells)][0] if self.place in ("par", "merge") else None

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

    def _unroll_by_steps(
        self, words: Tensor, sizes: list[int], state: DecoderState, regions: Regions | None
    ) -> Unrolled:
        """Teacher forcing where a step waits for what comes of the one before it."""
        xs = self.dropout(self.embedding(words))
        first = self.cells[0]
        products: tuple[Tensor, ...] = ()
        if self.waits:  # what words contribute is known for all steps
            caption_of = torch.cat([torch.arange(n) for n in sizes]).to(words.device)
            image = self._image(state)
            image = None if image is None else image.index_select(0, caption_of)
            products = first.input_product(self._input(xs, image)).split(sizes)
            of_late = self._late_weight()
        outputs, logits, seen = [], [], []
        for t, (word, x) in enumerate(zip(words.split(sizes), xs.split(sizes), strict=True)):
            state = tuple(tuple(tensor[: len(x)] for tensor in cell) for cell in state)
            here = None if regions is None else regions.of_first(len(x))
            if t > 0 and self._reads_output and self.teacher == "word":
                state = self._feed_back_words(word, state)
            if self.waits:
                late, weights = self._late(state, here)
                h, new = first.advance(products[t] + linear(late, of_late), state[0])
                output, state = self._advance_from_first(x, h, new, state, here, weights)
            else:
                output, state = self._advance(x, state, here)
            outputs.append(output)
            if regions is not None:
                seen.append(self.weights(state))
            if self._reads_output and self.teacher == "softmax":
                logits.append(self.projection(output))
                state = self._feed_back(logits[-1], state)
        return Unrolled(
            torch.cat(outputs),
            torch.cat(logits) if logits else None,
            torch.cat(seen) if seen else None,
        )

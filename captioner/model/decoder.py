"""The decoder: image features and the words so far to scores for the next word.

Letters: B images, M captions or hypotheses, W words, T time steps, V vocabulary, E embedding,
H hidden, F feature size, L layers.

The interface is the same for every cell and every place of the image. `begin` reads the image once.
`step` reads one word per row; search calls it. `unroll` reads whole captions (teacher forcing);
training calls it. A test holds `step` by `step` equal to `unroll`. The state is a tuple of tuples
of tensors whose first dimension is the row, so that search can select rows without knowing more.
"""

from functools import partial

import torch
from torch import Tensor

from captioner.model.attention import Regions, mean_of_regions
from captioner.model.cells import first_of
from captioner.model.decoder_layers import DecoderLayers
from captioner.model.decoder_state import (
    DecoderState,
    Observer,
    Place,
    SearchStep,
    Unrolled,
    first_rows,
    loss_of,
    select_rows,
)
from captioner.model.kernels.all_steps import one_gradient_for_all_steps
from captioner.model.kernels.backprop_through_time import previous
from captioner.model.kernels.input_cache import WordProducts
from captioner.model.kernels.linear import FixedWeights, linear, weights_fixed

__all__ = ["Decoder", "DecoderState", "Place", "Unrolled", "select_rows"]


class Decoder(DecoderLayers):
    """Recurrent decoder; the image goes in at one of four places.

        v' = tanh(W_v v + b_v)                          the image vector
        x_t = embedding of word t         (par: joined by v')
        h_t = the cells, from x_t and their state
        o_t = h_t                         (merge: joined by v'), then the layers of a deep output
        logits_t = V dropout(o_t) + c

    with v the image's features, layer-normalised. The first state is

    - `init`: v' itself, one part for each state of each layer (Xu et al. 2015);
    - `pre`: the state of the cells after v' as the first input (Vinyals et al. 2015);
    - `par`, `merge`: 0. In `par` the image is beside every input (Mao et al. 2015 and others). In
      `merge` the recurrence never sees it, and is a language model. v' is part of the state.

    With attention v is the mean of the regions, and each word looks at the regions themselves; see
    `captioner.model.attention`. Tanti et al. 2018 compare the places. The arguments are those of
    `DecoderLayers`.
    """

    def initial_state(self, features: Tensor) -> DecoderState:
        """Return the state before the first word, from features (B, F) or (B, R, F), averaged."""
        regions = self.regions(features) if self.place == "pre" else None
        if features.dim() == 3:
            features = mean_of_regions(features)
        features = self.feature_norm(features.to(self.projection.weight.dtype))
        image = torch.tanh(self.image(self.image_dropout(features)))
        n = self.n_states
        if self.place == "init":
            parts = image.chunk(len(self.cells) * n, dim=1)
            return tuple(parts[i * n : (i + 1) * n] for i in range(len(self.cells)))
        zero = image.new_zeros(image.shape[0], self.hidden_size)
        state: DecoderState = tuple((zero,) * n for _ in self.cells)
        if self.place == "pre":
            output, state = self._advance(self.dropout(image), state, regions)
            state = state[: len(self.cells)]
            return self._feed_back(self.projection(output), state) if self._reads_output else state
        return (*state, (image,))

    def begin(self, features: Tensor) -> tuple[DecoderState, Regions | None]:
        """Return the state before the first word, one row per image, and what attention reads."""
        return self.initial_state(features), self.regions(features)

    def step(
        self,
        words: Tensor,
        state: DecoderState,
        regions: Regions | None = None,
        observe: Observer | None = None,
    ) -> tuple[Tensor, DecoderState]:
        """Step from words (M,) and state to logits (M, V) of the next words and the new state.

        `regions` are those of B images, each with M / B consecutive rows.
        """
        x = self.dropout(self.embedding(words))
        return self._logits_and_state(*self._advance(x, state, regions, observe))

    def search_step(self) -> SearchStep:
        """Return `step` in evaluation, for many captions while the weights do not change.

        On a CPU weights are kept in the layouts that are fast for few rows, and the products of
        words with the first layer's weights are cached (`WordProducts`), except at the place `par`,
        where the image is part of the first layer's input.
        """
        if self.embedding.weight.device.type != "cpu":
            return self.step
        layouts: FixedWeights = {}
        step = self.step if self.place == "par" else self._step_by_words()

        def step_with_layouts(
            words: Tensor, state: DecoderState, regions: Regions | None = None
        ) -> tuple[Tensor, DecoderState]:
            with weights_fixed(layouts):
                return step(words, state, regions)

        return step_with_layouts

    def _step_by_words(self) -> SearchStep:
        """Return `step` with the products of words cached."""
        first = self.cells[0]
        of_word, of_late = self._first_weights()
        products = WordProducts(
            self.embedding.weight.detach(), partial(first.input_product, weight=of_word)
        )

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
        """Read whole captions (teacher forcing): packed words (W,) to what `loss` reads.

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
            image = state[len(self.recurrent_layers)][0].index_select(0, caption_of)
        xs = self._input(self.dropout(self.embedding(words)), image)
        *below, last = self.cells
        for i, cell in enumerate(below):
            xs = self._above(i, xs, cell.unroll(xs, batch_sizes, state[i]))
        top = len(below)
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
        """Return the scores of every word of the vocabulary (W, V)."""
        if unrolled.logits is not None:
            return unrolled.logits
        logits: Tensor = self.projection(unrolled.outputs)
        return logits

    def loss(self, unrolled: Unrolled, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy in nats of what `unroll` gave, for target words (W,)."""
        return loss_of(unrolled, self.projection, targets, label_smoothing)

    def _unroll_by_steps(
        self, words: Tensor, sizes: list[int], state: DecoderState, regions: Regions | None
    ) -> Unrolled:
        """Teacher forcing where a step needs the result of the step before."""
        image = self._image(state)
        if image is not None and self.place == "par":
            caption_of = torch.cat([torch.arange(n) for n in sizes]).to(words.device)
            image = image.index_select(0, caption_of)
        xs = self._input(self.dropout(self.embedding(words)), image)
        first = self.cells[0]
        of_word, of_late = self._first_weights()
        products = first.input_product(xs, of_word)  # of all steps at once
        steps = zip(*(rows.split(sizes) for rows in (words, xs, products)), strict=True)
        outputs, logits, seen = [], [], []
        with one_gradient_for_all_steps():
            for t, (word, x, product) in enumerate(steps):
                state = first_rows(state, len(x))
                here = None if regions is None else regions.of_first(len(x))
                if t > 0 and self._reads_output and self.teacher == "word":
                    state = self._feed_back_words(word, state)
                weights = None
                if of_late is not None:
                    late, weights = self._late(state, here)
                    product = product + linear(late, of_late)
                h, new = first.advance(product, state[0])
                output, state = self._advance_from_first(x, h, new, state, here, weights)
                outputs.append(output)
                if regions is not None:
                    seen.append(self.weights(state))
                if self._reads_output and self.teacher == "softmax":
                    logits.append(self.projection(output))
                    n = sizes[t + 1] if t + 1 < len(sizes) else 0
                    if n:  # captions that go on
                        state = self._feed_back(first_of(logits[-1], n), first_rows(state, n))
        return Unrolled(
            torch.cat(outputs),
            torch.cat(logits) if logits else None,
            torch.cat(seen) if seen else None,
        )

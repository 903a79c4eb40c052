"""What a training step minimises: a protocol, and cross-entropy of the true captions.

`CrossEntropy` is teacher forcing, with label smoothing and scheduled sampling (Bengio et al. 2015)
on request. `captioner.training.self_critical` trains on the score of drawn captions instead.

Letters: M captions, W words of all, T time steps, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from captioner.datasets.batches import Batch
from captioner.decoding.pytree import select_rows, tree_map
from captioner.inference.generator import NEVER_WRITTEN
from captioner.model.attention import Regions
from captioner.model.captioner import Captioner
from captioner.model.decoder import Decoder, DecoderState
from captioner.text.vocabulary import END

NEVER = float("-inf")


class Loss(NamedTuple):
    """What an objective makes of a batch."""

    mean: Tensor
    """The value to be minimised, averaged over words; its gradient is that of the objective."""
    words: int
    """Words that it was averaged over."""
    logged: Mapping[str, float]
    """What else is worth a column of the log."""


class Objective(Protocol):
    """What training minimises."""

    def __call__(self, captioner: Captioner, batch: Batch, *, epoch: int, step: int) -> Loss:
        """The loss of a batch.

        Args:
            captioner: the network, in training mode.
            batch: features of images, with their captions.
            epoch: counted from 0 within the stage.
            step: optimiser steps of the run so far.
        """


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of the true captions' words.

    In scheduled sampling each word that is fed, but the first, is replaced with some probability by
    a word that the decoder draws, given the words fed before. The targets stay the true words. The
    probability rises linearly over some epochs; where it is 0 this is teacher forcing to the bit.

    Attributes:
        label_smoothing: share of a target's probability spread over the vocabulary.
        attention_penalty: weight of `captioner.model.captioner.doubly_stochastic`.
        sampling_probability: the highest probability that a word is replaced.
        sampling_epochs: epochs after which it is reached; 0 has it from the first on.
    """

    label_smoothing: float = 0.0
    sampling_probability: float = 0.0
    sampling_epochs: int = 0
    attention_penalty: float = 0.0

    def __call__(self, captioner: Captioner, batch: Batch, *, epoch: int, step: int) -> Loss:
        """The loss of a batch."""
        inputs = batch.inputs
        probability = self.probability(epoch)
        if probability > 0:
            inputs = self._with_drawn_words(captioner.decoder, batch, probability)
        mean = captioner.loss(
            batch.images,
            inputs,
            batch.targets,
            torch.tensor(batch.batch_sizes, device="cpu"),
            batch.rows,
            label_smoothing=self.label_smoothing,
            attention_penalty=self.attention_penalty,
        )
        return Loss(mean, len(batch.targets) if batch.image_ids else 0, {})

    def probability(self, epoch: int) -> float:
        """Probability that a word is replaced in an epoch."""
        risen = 1.0 if epoch >= self.sampling_epochs else epoch / self.sampling_epochs
        return self.sampling_probability * risen

    @torch.no_grad()
    def _with_drawn_words(self, decoder: Decoder, batch: Batch, probability: float) -> Tensor:
        with without_dropout(decoder):
            state, regions = decoder.begin(batch.images)
            state = select_rows(state, batch.rows)
            if regions is not None:
                regions = regions.read_by(batch.rows)
            return with_drawn_words(
                decoder, state, batch.inputs, batch.batch_sizes, probability, regions
            )


@torch.no_grad()
def with_drawn_words(
    decoder: Decoder,
    state: DecoderState,
    inputs: Tensor,
    batch_sizes: Sequence[int],
    probability: float,
    regions: Regions | None = None,
) -> Tensor:
    """Packed input words (W,), some of them replaced by words drawn from the decoder.

    The words of the first step stay. The end word is not drawn: no caption is fed it.

    Args:
        decoder: gives the next word's distribution.
        state: before the first word, one row a caption, in packed order.
        inputs: words of M captions, packed.
        batch_sizes: captions that still run at each step.
        probability: that a word is replaced.
        regions: with attention, what the captions look at.
    """
    steps = inputs.split(list(batch_sizes))
    fed = [steps[0]]
    for true_words in steps[1:]:
        running = len(true_words)
        here = None if regions is None else regions.of_first(len(fed[-1]))
        logits, state = decoder.step(fed[-1], state, here)
        state = tree_map(lambda tensor, n=running: tensor[:n], state)  # type: ignore[misc]
        allowed = allowed_logits(logits[:running])
        allowed[:, END] = NEVER
        drawn = allowed.softmax(1).multinomial(1).squeeze(1)
        replaced = torch.rand(running, device=inputs.device) < probability
        fed.append(torch.where(replaced, drawn, true_words))
    return torch.cat(fed)


def allowed_logits(logits: Tensor) -> Tensor:
    """Logits (M, V) of the words that may be written; the others have probability 0."""
    never = torch.tensor(NEVER_WRITTEN.words, device=logits.device)
    return logits.index_fill(1, never, NEVER)


@contextmanager
def without_dropout(module: nn.Module) -> Iterator[None]:
    """No dropout within the block.

    The module as a whole stays in training mode: cuDNN refuses to go back through a recurrence that
    is not.
    """
    dropping = [m for m in module.modules() if isinstance(m, nn.Dropout) and m.training]
    for layer in dropping:
        layer.eval()
    try:
        yield
    finally:
        for layer in dropping:
            layer.train()

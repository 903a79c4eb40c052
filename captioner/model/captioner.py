"""Encoder and decoder joined: the whole network as one plain `nn.Module`."""

import torch
from torch import Tensor, nn

from captioner.model.attention import Regions
from captioner.model.decoder import Decoder, DecoderState, select_rows
from captioner.model.encoder import Encoder


class Captioner(nn.Module):
    """CNN + RNN captioner. Letters: B images, M captions, W words of all, T time steps.

    Args:
        encoder: photos to features.
        decoder: features and words to the next word.
        backward: whether the decoder goes through captions from the last word to the first.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, *, backward: bool = False) -> None:
        super().__init__()
        self.backward = backward
        self.encoder = encoder
        self.decoder = decoder

    def features(self, images: Tensor) -> Tensor:
        """Features of images: of photos (B, 3, S, S) uint8, or of features computed before.

        A frozen encoder's features come from the feature store and pass through unchanged.
        """
        if images.dtype != torch.uint8:
            return images
        features: Tensor = self.encoder(images)
        return features

    def initial_state(self, images: Tensor) -> DecoderState:
        """Decoder state before the first word, one row an image."""
        return self.decoder.initial_state(self.features(images))

    def begin(self, images: Tensor) -> tuple[DecoderState, Regions | None]:
        """State before the first word, one row an image, and what attention reads, if any."""
        return self.decoder.begin(self.features(images))

    def loss(
        self,
        images: Tensor,
        inputs: Tensor,
        targets: Tensor,
        batch_sizes: Tensor,
        rows: Tensor,
        *,
        label_smoothing: float = 0.0,
        attention_penalty: float = 0.0,
    ) -> Tensor:
        """Mean cross-entropy of the captions' words, in nats.

        Each image is encoded once however many captions it has, and the captions are packed: the
        projection to the vocabulary, the largest product of the network, sees words alone.

        Args:
            images: photos (B, 3, S, S) or features (B, F) or (B, R, F).
            inputs: words fed at each step (W,), each caption's start word first; packed.
            targets: words to be predicted (W,), each caption's end word last; packed.
            batch_sizes: captions that still run at each step (T,), on the CPU.
            rows: which image each caption belongs to (M,), in packed order.
            label_smoothing: share of a target's probability spread over the vocabulary.
            attention_penalty: what `doubly_stochastic` is multiplied by before it is added.
        """
        state, regions = self.begin(images)
        state = select_rows(state, rows)
        unrolled = self.decoder.unroll(inputs, batch_sizes, state, regions, rows)
        loss = self.decoder.loss(unrolled, targets, label_smoothing)
        if attention_penalty and unrolled.weights is not None and regions is not None:
            padding = None if regions.padding is None else regions.padding[rows]
            loss = loss + attention_penalty * doubly_stochastic(
                unrolled.weights, batch_sizes.tolist(), regions.keys.shape[1], padding
            )
        return loss


def doubly_stochastic(
    weights: Tensor, sizes: list[int], regions: int, padding: Tensor | None = None
) -> Tensor:
    r"""How far captions are from looking at every region once (Xu et al. 2015), per word.

        \sum_m \sum_i (1 - \sum_t alpha_{mti})^2 / W

    Args:
        weights: attention weights of packed words (W, R or more); columns beyond R count nothing.
        sizes: captions that still run at each step.
        regions: R.
        padding: where there is no region (M, R).
    """
    total = weights.new_zeros(sizes[0], regions)
    for step in weights[:, :regions].split(sizes):
        total = torch.cat((total[: len(step)] + step, total[len(step) :]))
    missing = (1 - total).square()
    if padding is not None:
        missing = missing.masked_fill(padding, 0.0)
    return missing.sum() / len(weights)

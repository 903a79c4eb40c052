"""Encoder and decoder joined: the whole network as one plain `nn.Module`."""

import torch
from torch import Tensor, nn

from captioner.model.decoder import Decoder, select_rows
from captioner.model.encoder import Encoder
from captioner.model.given_features import GivenFeatures


class Captioner(nn.Module):
    """CNN + RNN captioner. Letters: B images, M captions, W words of all, T time steps.

    Args:
        encoder: photos to features, or what stands in its place if features are given.
        decoder: features and words to the next word.
        backward: whether the decoder reads captions from the last word to the first.
    """

    def __init__(
        self, encoder: Encoder | GivenFeatures, decoder: Decoder, *, backward: bool = False
    ) -> None:
        super().__init__()
        self.backward = backward
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, photos: Tensor) -> Tensor:
        """Encode photos (B, 3, S, S) uint8 to features (B, F) or (B, R, F).

        The decoder reads features only: from here, or from a feature store.
        """
        features: Tensor = self.encoder(photos)
        return features

    def loss(
        self,
        features: Tensor,
        inputs: Tensor,
        targets: Tensor,
        batch_sizes: Tensor,
        rows: Tensor,
        *,
        label_smoothing: float = 0.0,
        attention_penalty: float = 0.0,
    ) -> Tensor:
        """Return the mean cross-entropy of the captions' words, in nats.

        The captions are packed: the projection to the vocabulary, the largest product of the
        network, sees words and no padding.

        Args:
            features: of the images, (B, F) or (B, R, F).
            inputs: words fed at each step (W,), each caption's start word first; packed.
            targets: words to be predicted (W,), each caption's end word last; packed.
            batch_sizes: captions that still run at each step (T,), on the CPU.
            rows: which image each caption belongs to (M,), in packed order.
            label_smoothing: share of a target's probability spread over the vocabulary.
            attention_penalty: weight of `doubly_stochastic`, which is added.
        """
        state, regions = self.decoder.begin(features)
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
    r"""Return how far captions are from looking at every region once (Xu et al. 2015), per word.

        \sum_m \sum_i (1 - \sum_t alpha_{mti})^2 / W

    Args:
        weights: attention weights of packed words (W, R or more); columns beyond R do not count.
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

"""Weights of a decoder for a vocabulary with further words.

A new word starts from the mean of all known words, in the embedding and in the output layer. With
these output weights its first logit is the mean of the known words' logits, so by Jensen's
inequality its probability is at most that of an average word: n new words beside V known ones take
at most n / (V + n) of the probability, and the captions of other photos hardly change (Hewitt 2021,
"Initializing New Word Embeddings for Pretrained Language Models"). Random output weights have no
such bound. Known words of a similar spelling would be a guess: "carpet" resembles "car".
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from captioner.model.decoder import Decoder


def with_new_words(
    weights: Mapping[str, Tensor], decoder: Decoder, first: int
) -> dict[str, Tensor]:
    """Return the weights of a trained decoder, extended for the larger vocabulary of another.

    Every tensor with one row or column per word is extended: the embedding, the output layer, and
    the recurrence of a Jordan cell.

    Args:
        weights: Weights of the trained decoder, by name.
        decoder: A decoder with the same settings and more words, the known ones first.
        first: Id of the first word that is not a special one.

    Returns:
        Weights that `decoder` can load, unless the two differ in more than the vocabulary.
    """
    wanted = decoder.state_dict()
    known, words = len(weights["embedding.weight"]), len(decoder.embedding.weight)
    extended = {}
    for name, tensor in weights.items():
        for dim, sizes in enumerate(zip(tensor.shape, wanted[name].shape, strict=False)):
            if sizes == (known, words) and words > known:
                tensor = _with_means(tensor, dim, first, words - known)
        extended[name] = tensor
    return extended


def _with_means(tensor: Tensor, dim: int, first: int, count: int) -> Tensor:
    """Append the mean of the words from `first` on, `count` times."""
    mean = tensor.narrow(dim, first, tensor.shape[dim] - first).mean(dim, keepdim=True)
    return torch.cat((tensor, mean.repeat_interleave(count, dim)), dim)

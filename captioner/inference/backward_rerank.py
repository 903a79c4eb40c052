r"""Captions that two networks agree on, one reading from left to right and one from right to left.

A bidirectional network (Schuster & Paliwal 1997) reads a sequence that is there. A caption that is
being written has no right-hand side yet, so to generation a second direction can only mean this:
two networks, each with its own factorisation of the same sentence,

    log p(w | v) = \sum_t log p(w_t | w_{<t}, v)  =  \sum_t log p(w_t | w_{>t}, v)

The first searches; the second, to whom the first word is the last and best informed, says how
probable it finds each of the n-best. A caption that starts well and ends in nonsense loses (Liu et
al. 2016, "Agreement on target-bidirectional neural machine translation"; Wang et al. 2016 for
captions).

Letters: B images, K captions of each, T time steps.
"""

import torch
from torch import Tensor

from captioner.datasets.batches import pack
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.length import LengthNormalisation
from captioner.decoding.options import SearchOptions
from captioner.inference.sentences import sum_of_words, word_log_probs
from captioner.model.captioner import Captioner


def log_probs(captioner: Captioner, features: Tensor, found: Hypotheses) -> Tensor:
    """Return the log-probability of captions under a captioner, whatever its direction.

    One pass of teacher forcing over all captions of all images, packed.

    Args:
        captioner: in evaluation mode, with the vocabulary that the captions are written in.
        features: of the images, (B, F) or (B, R, F).
        found: captions in reading order, (B, K, T).

    Returns:
        Natural logarithms of the captions' probabilities, the end word included, which the search
        does not count for a caption that it cut: (B, K); -inf for a caption that does not exist.
    """
    order = -1 if captioner.backward else 1
    captions = [(words[::order], i) for i, own in enumerate(found.captions()) for words in own]
    exists = found.scores.isfinite()
    scores = torch.full_like(found.log_probs, -torch.inf)
    if not captions:
        return scores
    # The place of each caption among all, in the order in which `pack` lays them side by side.
    packed = pack([(words, place) for place, (words, _) in enumerate(captions)])
    image_of = torch.tensor([image for _, image in captions])[packed.rows]
    sums = sum_of_words(packed, word_log_probs(captioner, features, packed, image_of))
    scores[exists] = sums.to(scores.dtype)
    return scores


def agreed(
    found: Hypotheses, captioner: Captioner, features: Tensor, weight: float, search: SearchOptions
) -> Hypotheses:
    """Return the best of some captions by the log-probabilities of both directions.

    The length normalisation of the search (average, penalty, word reward) applies to the mixed
    log-probability too: with a weight of 0 the ranking is that of the search.

    Args:
        found: captions of one direction, ranked by it.
        captioner: the other direction.
        features: of the images, by the encoder of `captioner`.
        weight: share of `captioner` in the score, from 0 to 1.
        search: what found the captions; its `n_best` are kept for each image.
    """
    other = log_probs(captioner, features, found)
    mixed = (1 - weight) * found.log_probs + weight * other
    predicted = (found.lengths + 1).clamp(max=search.max_length)  # with the end word, if not cut
    scores = LengthNormalisation(search, mixed.device, mixed.dtype).score(mixed, predicted)
    exists = found.scores.isfinite()  # 0 x -inf is no number
    return found.best(search.n_best, by=scores.where(exists, -torch.inf))

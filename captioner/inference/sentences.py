"""How probable captioners find sentences that are given: teacher forcing over packed captions.

Letters: B images, M captions, W words of all of them, V vocabulary.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.datasets.batches import Packed, pack
from captioner.errors import UsageError
from captioner.model.captioner import Captioner
from captioner.model.decoder import select_rows
from captioner.model.kernels.full_precision import whole_float32
from captioner.text.vocabulary import Vocabulary

MAX_WORDS = 1000
"""Words of one sentence that is scored."""

TOGETHER = 64
"""Sentences scored at once: their scores of all words take 10 MB for 2,500 words."""


def sentence_log_probs(
    captioners: Sequence[Captioner],
    features: Sequence[Tensor],
    vocabulary: Vocabulary,
    sentences: Sequence[str],
    average: str = "probability",
) -> list[float]:
    """Natural logarithms of the probabilities of sentences, the end word included.

    A word that the vocabulary lacks counts as the unknown word.

    Args:
        captioners: in evaluation mode, with one vocabulary and one direction.
        features: of one photo for each of them, (1, F) or (1, R, F).
        vocabulary: of all of them.
        sentences: the texts.
        average: how several agree, as in `captioner.decoding.ensemble.ensemble`.

    Raises:
        UsageError: a sentence has more than `MAX_WORDS` words.
    """
    order = -1 if captioners[0].backward else 1
    encoded = [vocabulary.encode(sentence)[::order] for sentence in sentences]
    for number, words in enumerate(encoded, 1):
        if len(words) > MAX_WORDS:
            raise UsageError(
                f"sentence {number}: {len(words):,} words, more than the {MAX_WORDS:,} allowed"
            )
    found: list[float] = []
    for begin in range(0, len(encoded), TOGETHER):
        packed = pack([(words, i) for i, words in enumerate(encoded[begin : begin + TOGETHER])])
        images = torch.zeros(len(packed.rows), dtype=torch.long)
        members = [
            word_log_probs(captioner, own, packed, images)
            for captioner, own in zip(captioners, features, strict=True)
        ]
        found += sum_of_words(packed, averaged(members, average)).tolist()
    return found


def word_log_probs(
    captioner: Captioner, features: Tensor, packed: Packed, image_of: Tensor
) -> Tensor:
    """Log-probabilities of all words at every step of some captions, (W, V).

    Args:
        captioner: in evaluation mode.
        features: of images, (B, F) or (B, R, F).
        packed: the captions, in the direction in which the captioner reads.
        image_of: which image each caption belongs to (M,), in packed order.
    """
    device = features.device
    with torch.inference_mode(), whole_float32():
        state, regions = captioner.decoder.begin(features)
        rows = image_of.to(device)
        sizes = torch.tensor(packed.batch_sizes)
        unrolled = captioner.decoder.unroll(
            packed.inputs.to(device), sizes, select_rows(state, rows), regions, rows
        )
        return captioner.decoder.logits(unrolled).log_softmax(1)


def averaged(members: Sequence[Tensor], average: str) -> Tensor:
    """What several captioners say together, (W, V), from what each says."""
    if len(members) == 1:
        return members[0]
    together = torch.stack(list(members))
    if average == "probability":
        return together.logsumexp(0) - math.log(len(members))
    return together.mean(0).log_softmax(1)


def sum_of_words(packed: Packed, words: Tensor) -> Tensor:
    """Log-probability of each caption (M,), in the order given to `pack`.

    Args:
        packed: the captions; row i of `pack` is caption i.
        words: log-probabilities of all words at every step, (W, V).
    """
    of_words = words.gather(1, packed.targets.to(words.device).unsqueeze(1)).squeeze(1)
    caption_of = torch.cat([packed.rows[:n] for n in packed.batch_sizes]).to(words.device)
    return of_words.new_zeros(len(packed.rows)).index_add(0, caption_of, of_words)

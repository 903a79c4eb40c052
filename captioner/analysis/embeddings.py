"""Find nearest neighbours in a decoder's word embeddings, and export the embeddings.

Letters: V vocabulary, E embedding size.
"""

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from captioner.checkpoint.file import Checkpoint
from captioner.errors import CaptionerError, suggestion
from captioner.text.vocabulary import SPECIAL_WORDS
from captioner.text.word_vectors import write_vectors


def nearest(trained: Checkpoint, word: str, count: int) -> list[tuple[str, float]]:
    """Return the words with the highest cosine similarity to a word, with the similarity.

    Raises:
        CaptionerError: The vocabulary does not contain the word; the message suggests a similar
            one.
    """
    words = trained.vocabulary.words
    if word not in trained.vocabulary:
        known = list(words[len(SPECIAL_WORDS) :])
        raise CaptionerError(
            f"--nearest: {word!r} is not one of the {len(known):,} words of the vocabulary; "
            f"{suggestion(word, known)}"
        )
    directions = F.normalize(embeddings(trained), dim=1)
    cosines = directions @ directions[words.index(word)]
    cosines[: len(SPECIAL_WORDS)] = -2.0  # exclude special words
    cosines[words.index(word)] = -2.0
    best = cosines.topk(min(count, len(words) - len(SPECIAL_WORDS) - 1))
    return [(words[i], c) for c, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


def export(trained: Checkpoint, path: Path) -> None:
    """Write the embeddings of all words except special ones in word2vec's text format."""
    first = len(SPECIAL_WORDS)
    write_vectors(path, trained.vocabulary.words[first:], embeddings(trained)[first:])


def embeddings(trained: Checkpoint) -> Tensor:
    """Return the embeddings by word id, (V, E)."""
    return trained.captioner.decoder.embedding.weight.detach()

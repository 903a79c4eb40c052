"""What a trained decoder has learned of words: neighbours of its embeddings, and a file of them.

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
    """The words whose embeddings point most nearly the way of a word's, with the cosine.

    Raises:
        CaptionerError: the word is not in the vocabulary; the message names the nearest that is.
    """
    words = trained.vocabulary.words
    if word not in trained.vocabulary:
        known = list(words[len(SPECIAL_WORDS) :])
        raise CaptionerError(
            f"--nearest: {word!r} is not among the {len(known):,} words of the vocabulary; "
            f"{suggestion(word, known)}"
        )
    directions = F.normalize(embeddings(trained), dim=1)
    cosines = directions @ directions[words.index(word)]
    cosines[: len(SPECIAL_WORDS)] = -2.0  # no neighbours: they are not words
    cosines[words.index(word)] = -2.0
    best = cosines.topk(min(count, len(words) - len(SPECIAL_WORDS) - 1))
    return [(words[i], c) for c, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


def export(trained: Checkpoint, path: Path) -> None:
    """Write the embeddings of all words but the special ones in word2vec's text format."""
    first = len(SPECIAL_WORDS)
    write_vectors(path, trained.vocabulary.words[first:], embeddings(trained)[first:])


def embeddings(trained: Checkpoint) -> Tensor:
    """Embeddings by word id (V, E)."""
    return trained.captioner.decoder.embedding.weight.detach()

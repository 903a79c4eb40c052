r"""What the scores do not say about captions: how long, how varied, how new, how well-formed.

None of these needs references. Van Miltenburg et al. 2018, "Measuring the diversity of automatic
image descriptions", has most of them; the words that a caption should not end in are those that
Rennie et al. 2017 and their followers forbid. Mean self-CIDEr (Wang and Chan 2019, "Describing like
humans: on diversity in image captioning") compares the N captions of one image: with K their
matrix of plain CIDEr similarities (1 on the diagonal) and :math:`\lambda_i` its eigenvalues,

.. math:: -\log_N \frac{\max_i \sqrt{\lambda_i}}{\sum_i \sqrt{\lambda_i}}

is 0 where all captions are the same and 1 where no two share an n-gram.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from captioner.datasets.records import ImageId
from captioner.errors import CaptionerError
from captioner.metrics.cider import CiderScorer, DocumentFrequencies
from captioner.metrics.ngrams import Tokens
from captioner.text.tokenizer import tokenize_all

# fmt: off
BAD_ENDINGS = frozenset([
    "a", "an", "and", "at", "by", "for", "from", "her", "his", "in", "into", "is", "near", "next",
    "of", "on", "or", "that", "the", "their", "this", "to", "while", "with",
])
# fmt: on
"""Words after which an English caption has not ended."""

_LONGEST_REPEAT = 4  # words


@dataclass(frozen=True)
class Description:
    """Captions described. Shares are from 0 to 1.

    Attributes:
        n_captions: How many.
        mean_length: Words in a caption.
        distinct_1: Different words, as a share of all words.
        distinct_2: Different pairs of neighbouring words, as a share of all such pairs.
        words_used: How many different words.
        vocabulary_used: ``words_used`` as a share of the vocabulary; None without one.
        distinct_captions: Different captions, as a share of all captions.
        seen: Captions that stand word for word in the training set, as a share; None without one.
        novel: The other captions, as a share; None without a training set.
        bad_endings: Captions that end in a word of `BAD_ENDINGS`, as a share.
        repetitions: Captions in which one to four words are at once said again, as a share.
    """

    n_captions: int
    mean_length: float
    distinct_1: float
    distinct_2: float
    words_used: int
    vocabulary_used: float | None
    distinct_captions: float
    seen: float | None
    novel: float | None
    bad_endings: float
    repetitions: float


def describe(
    captions: Iterable[str],
    *,
    training: Iterable[str] | None = None,
    vocabulary: Collection[str] | None = None,
) -> Description:
    """Describes captions without references.

    Args:
        captions: The captions of a system, one for each image.
        training: Captions it was trained on.
        vocabulary: Words it could have used.

    Raises:
        CaptionerError: If there are no captions.

    Example:
        >>> found = describe(["A dog runs.", "a dog on a", "a a kite"], training=["a dog runs"])
        >>> found.seen, found.bad_endings, found.repetitions
        (0.3333333333333333, 0.3333333333333333, 0.3333333333333333)
    """
    tokens = tokenize_all(captions)
    if not tokens:
        raise CaptionerError("no captions to describe")
    n_captions = len(tokens)
    words = [word for caption in tokens for word in caption]
    pairs = [pair for caption in tokens for pair in pairwise(caption)]
    used = set(words)
    seen = None
    if training is not None:
        known = {" ".join(caption) for caption in tokenize_all(training)}
        seen = sum(" ".join(caption) in known for caption in tokens) / n_captions
    return Description(
        n_captions=n_captions,
        mean_length=len(words) / n_captions,
        distinct_1=len(used) / max(len(words), 1),
        distinct_2=len(set(pairs)) / max(len(pairs), 1),
        words_used=len(used),
        vocabulary_used=len(used.intersection(vocabulary)) / len(vocabulary)
        if vocabulary
        else None,
        distinct_captions=len({" ".join(caption) for caption in tokens}) / n_captions,
        seen=seen,
        novel=None if seen is None else 1 - seen,
        bad_endings=sum(caption[-1] in BAD_ENDINGS for caption in tokens if caption) / n_captions,
        repetitions=sum(map(repeats_itself, tokens)) / n_captions,
    )


def repeats_itself(tokens: Tokens) -> bool:
    """Whether one to four words are at once said again ("a man and a man and a dog")."""
    return any(
        tokens[at : at + n] == tokens[at + n : at + 2 * n]
        for n in range(1, _LONGEST_REPEAT + 1)
        for at in range(len(tokens) - 2 * n + 1)
    )


def mean_self_cider(
    captions: Mapping[ImageId, Sequence[str]], frequencies: DocumentFrequencies | None = None
) -> float:
    """Mean over images of the self-CIDEr of each image's captions, from 0 (alike) to 1.

    Args:
        captions: Two or more captions for each image: an n-best list, or samples.
        frequencies: Document frequencies; None: those of ``captions`` themselves.

    Raises:
        CaptionerError: If an image has fewer than two captions.
    """
    few = [image for image, group in captions.items() if len(group) < 2]
    if few or not captions:
        raise CaptionerError(
            f"self-CIDEr compares the captions of an image: {len(few)} of {len(captions)} images "
            "have fewer than two"
        )
    groups = [tokenize_all(group) for group in captions.values()]
    if frequencies is None:
        frequencies = DocumentFrequencies.of(groups)
    # Every caption is the one reference of an "image" of its own: each pair gets its similarity.
    flat = [tokens for group in groups for tokens in group]
    scorer = CiderScorer({at: [tokens] for at, tokens in enumerate(flat)}, frequencies)
    scores = []
    begin = 0
    for group in groups:
        size = len(group)
        columns = [begin + column for _ in group for column in range(size)]
        rows = [tokens for tokens in group for _ in range(size)]
        similarity = scorer.score(columns, rows, variant="CIDEr").reshape(size, size)
        scores.append(_spread(similarity, group))
        begin += size
    return float(np.mean(scores))


def _spread(similarity: np.ndarray, captions: Sequence[Tokens]) -> float:
    """How evenly the eigenvalues of a matrix of similarities are spread, from 0 to 1."""
    # Captions of fewer than four words are not wholly similar to themselves, and those made of
    # words that every image has not at all: like captions are set to 1.
    scale = np.sqrt(np.diagonal(similarity))
    scale[scale == 0] = 1
    similarity = similarity / np.outer(scale, scale)
    similarity[[[one == other for other in captions] for one in captions]] = 1
    roots = np.sqrt(np.clip(np.linalg.eigvalsh(similarity), 0, None))
    return float(-np.log(roots.max() / roots.sum()) / np.log(len(roots)))

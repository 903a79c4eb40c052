r"""Length, diversity, novelty and well-formedness of captions, measured without references.

Most measures are from Van Miltenburg et al. 2018, "Measuring the diversity of automatic image
descriptions". The bad endings are the words that Rennie et al. 2017 and later work forbid at the
end of a caption. Mean self-CIDEr (Wang and Chan 2019, "Describing like humans: on diversity in
image captioning") compares the N captions of one image. Let K be their matrix of plain CIDEr
similarities (1 on the diagonal) and :math:`\lambda_i` its eigenvalues. Then

.. math:: -\log_N \frac{\max_i \sqrt{\lambda_i}}{\sum_i \sqrt{\lambda_i}}

is 0 if all captions are equal and 1 if no two captions share an n-gram.
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
"""Words with which a complete English caption does not end."""

_LONGEST_REPEAT = 4  # words


@dataclass(frozen=True)
class Description:
    """Properties of a set of captions. Shares are from 0 to 1.

    Attributes:
        n_captions: Number of captions.
        mean_length: Mean number of words per caption.
        distinct_1: Distinct words as a share of all words.
        distinct_2: Distinct bigrams as a share of all bigrams.
        words_used: Number of distinct words.
        vocabulary_used: Share of the vocabulary that is used; None without a vocabulary.
        distinct_captions: Distinct captions as a share of all captions.
        seen: Share of captions that occur verbatim in the training set; None without one.
        novel: Share of captions that do not; None without a training set.
        bad_endings: Share of captions that end with a word of `BAD_ENDINGS`.
        repetitions: Share of captions in which one to four words are immediately repeated.
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
    """Describe captions without references.

    Args:
        captions: The captions of a system, one per image.
        training: Captions that the system was trained on.
        vocabulary: Words that the system could have used.

    Raises:
        CaptionerError: There are no captions.

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
        bad_endings=sum(map(ends_badly, tokens)) / n_captions,
        repetitions=sum(map(repeats_itself, tokens)) / n_captions,
    )


def ends_badly(tokens: Tokens) -> bool:
    """Return whether a caption ends with a word of `BAD_ENDINGS`."""
    return bool(tokens) and tokens[-1] in BAD_ENDINGS


def repeats_itself(tokens: Tokens) -> bool:
    """Return whether one to four words are immediately repeated ("a man and a man and a dog")."""
    return any(
        tokens[at : at + n] == tokens[at + n : at + 2 * n]
        for n in range(1, _LONGEST_REPEAT + 1)
        for at in range(len(tokens) - 2 * n + 1)
    )


def mean_self_cider(
    captions: Mapping[ImageId, Sequence[str]], frequencies: DocumentFrequencies | None = None
) -> float:
    """Compute the mean self-CIDEr over images, from 0 (all captions equal) to 1.

    Args:
        captions: Two or more captions per image, from an n-best list or from sampling.
        frequencies: Document frequencies. Default: those of `captions`.

    Raises:
        CaptionerError: An image has fewer than two captions.

    Example:
        >>> alike, varied = ["a dog", "a dog"], ["a dog runs", "two red kites fly"]
        >>> round(mean_self_cider({1: varied, 2: ["a cat", "one bird"]}), 2)
        1.0
    """
    few = [image for image, group in captions.items() if len(group) < 2]
    if few or not captions:
        raise CaptionerError(
            f"self-CIDEr: {len(few)} of {len(captions)} images have fewer than two captions; "
            "at least two per image are required"
        )
    groups = [tokenize_all(group) for group in captions.values()]
    if frequencies is None:
        frequencies = DocumentFrequencies.of(groups)
    # Make every caption the only reference of its own "image", to get each pair's similarity.
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
    """Return how evenly the eigenvalues of a similarity matrix are spread, from 0 to 1."""
    # CIDEr of a caption with itself is below 1 if it has fewer than four words, and 0 if all its
    # words occur in every image. So rescale, and set equal captions to 1.
    scale = np.sqrt(np.diagonal(similarity))
    scale[scale == 0] = 1
    similarity = similarity / np.outer(scale, scale)
    similarity[[[one == other for other in captions] for one in captions]] = 1
    roots = np.sqrt(np.clip(np.linalg.eigvalsh(similarity), 0, None))
    return float(-np.log(roots.max() / roots.sum()) / np.log(len(roots)))

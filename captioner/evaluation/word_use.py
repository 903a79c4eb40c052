r"""Words that a system uses more or less often than people do.

For each word, let :math:`a` of :math:`n` captions contain it, and :math:`b` of :math:`m`
references. The words are ranked by the log-likelihood ratio of Dunning 1993 ("Accurate methods for
the statistics of surprise and coincidence"),

.. math:: G^2 = 2 \sum_{k} O_k \ln (O_k / E_k),

over the four cells of the table (with and without the word, captions and references), where
:math:`E_k` are the counts expected if both contained it equally often. Unlike a ratio of
frequencies, it is small for rare words, whose counts are accidental.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from captioner.metrics.ngrams import Tokens


@dataclass(frozen=True)
class WordUse:
    """How often captions and references contain a word.

    Attributes:
        word: The word.
        captions: Share of captions that contain it.
        references: Share of references that contain it.
        evidence: G², negative if the captions contain it less often than the references.
    """

    word: str
    captions: float
    references: float
    evidence: float


def word_use(captions: Sequence[Tokens], references: Sequence[Tokens]) -> list[WordUse]:
    """Compare the words of captions and references, most over-used word first.

    Args:
        captions: Words of each caption.
        references: Words of each reference, of any image.

    Example:
        >>> found = word_use([["a", "dog"]] * 20, [["a", "dog"], ["a", "cat"]] * 20)
        >>> [use.word for use in found]
        ['dog', 'a', 'cat']
    """
    if not captions or not references:
        return []
    ours, theirs = _containing(captions), _containing(references)
    words = sorted(ours.keys() | theirs.keys())
    with_word = np.array([(ours[word], theirs[word]) for word in words], dtype=float).reshape(-1, 2)
    totals = np.array([len(captions), len(references)], dtype=float)
    shares = with_word / totals
    evidence = _log_likelihood_ratio(with_word, totals)
    signed = np.where(shares[:, 0] >= shares[:, 1], evidence, -evidence)
    return [
        WordUse(words[at], float(shares[at, 0]), float(shares[at, 1]), float(signed[at]))
        for at in np.argsort(-signed, kind="stable")
    ]


def _containing(texts: Iterable[Tokens]) -> Counter[str]:
    return Counter(word for tokens in texts for word in set(tokens))


def _log_likelihood_ratio(with_word: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return G² of each word, (words,), from counts (words, 2) of so many texts (2,)."""
    observed = np.stack([with_word, totals - with_word], axis=1)
    expected = observed.sum(axis=2, keepdims=True) * totals / totals.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(observed > 0, observed * np.log(observed / expected), 0.0)
    return 2 * terms.sum(axis=(1, 2))

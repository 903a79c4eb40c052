r"""CIDEr-D, which the official tool prints as "CIDEr", and plain CIDEr.

Vedantam et al. 2015, "CIDEr: consensus-based image description evaluation". An n-gram that occurs
h times in a caption has the tf-idf weight :math:`g = h \ln(N / \max(1, d))`, where d of N images
have it in their references. Let :math:`g^n(c)` be the weights of all n-grams of order n in a
candidate, and s_1 … s_M its references:

.. math::
    \text{CIDEr}(c) = \frac{10}{4 M} \sum_{n=1}^{4} \sum_{j=1}^{M}
        \frac{g^n(c) \cdot g^n(s_j)}{\|g^n(c)\| \, \|g^n(s_j)\|}

CIDEr-D replaces g(c) in the product (not in the norm) by min(g(c), g(s_j)) and multiplies each
cosine by :math:`e^{-(l(c) - l(s_j))^2 / 2 \sigma^2}` with sigma = 6.

This module follows the official tool where it differs from the paper: words are not stemmed, plain
CIDEr is multiplied by 10 like CIDEr-D, and the length l is the number of bigrams, which is one less
than the number of words except for the empty caption. With a single image, N = d = 1, so all
weights are ln 1 = 0 and all scores are 0. Use document frequencies from a larger set in that case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from captioner.datasets.records import ImageId
from captioner.errors import CaptionerError
from captioner.files.atomic import whole_file
from captioner.metrics.checks import check_captions, check_references
from captioner.metrics.ngrams import MAX_ORDER, NgramCounts, NgramIndex, Tokens

SIGMA = 6.0

VARIANTS = ("CIDEr-D", "CIDEr")


@dataclass(frozen=True)
class DocumentFrequencies:
    """The number of images in whose references each n-gram occurs.

    Attributes:
        n_images: Number of images counted.
        index: The n-grams.
        counts: Number of images per n-gram, (n-grams,) for each order.
        source: Where the references come from, for the recipe of a score.

    Example:
        >>> found = DocumentFrequencies.of([[["a", "dog"]], [["a", "cat"], ["a", "kitten"]]])
        >>> found.n_images, found.counts[0][found.index.vocabulary["a"]].item()
        (2, 2)
    """

    n_images: int
    index: NgramIndex
    counts: list[np.ndarray]
    source: str = "references"

    @classmethod
    def of(
        cls, references: Sequence[Sequence[Tokens]], source: str = "references"
    ) -> DocumentFrequencies:
        """Count the n-grams in the references of each image.

        Args:
            references: Tokenised references of each image.
            source: Where they come from, for the recipe of a score.

        Raises:
            CaptionerError: A string was passed instead of a list.
        """
        check_references(references)
        index, counts = NgramIndex.of([tokens for group in references for tokens in group])
        image_of = np.repeat(np.arange(len(references)), [len(group) for group in references])
        in_images = [_images_with(entries.most_in_group(image_of)) for entries in counts]
        return cls(len(references), index, in_images, source)

    def save(self, path: Path | str) -> None:
        """Write the frequencies to an `.npz` file (about 40 MB for the COCO training images)."""
        words = "\n".join(self.index.vocabulary).encode()
        arrays = {
            "n_images": np.array(self.n_images),
            "source": np.array(self.source),
            "words": np.frombuffer(words, dtype=np.uint8),
        }
        arrays |= {f"keys{order}": keys for order, keys in enumerate(self.index.keys, start=2)}
        arrays |= {f"counts{order}": counts for order, counts in enumerate(self.counts, start=1)}
        with whole_file(Path(path)) as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path | str) -> DocumentFrequencies:
        """Read a file written by `save`.

        Raises:
            CaptionerError: The file does not exist or was not written by `save`.
        """
        try:
            with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                words = file["words"].tobytes().decode().split("\n")
                keys = [file[f"keys{order}"] for order in range(2, MAX_ORDER + 1)]
                counts = [file[f"counts{order}"] for order in range(1, MAX_ORDER + 1)]
                n_images, source = int(file["n_images"]), str(file["source"])
        except FileNotFoundError as error:
            raise CaptionerError(f"{path}: no such file") from error
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, AttributeError) as error:
            raise CaptionerError(
                f"{path}: not a document frequency file; write one with DocumentFrequencies.save"
            ) from error
        vocabulary = {word: number for number, word in enumerate(words) if word}
        return cls(n_images, NgramIndex(vocabulary, keys), counts, source)


class CiderScorer:
    """Compute CIDEr for any captions of a fixed set of images.

    After construction, it scores a batch of sampled captions in milliseconds, fast enough for a
    training reward.

    Args:
        references: Tokenised references of each image.
        frequencies: Document frequencies. Default: those of `references`.

    Attributes:
        index: Ids of all n-grams of the references and of `frequencies`.
        image_counts: For each order, the maximum count of each n-gram over the references of an
            image.
        n_images: Number of images behind the document frequencies.

    Raises:
        CaptionerError: A string was passed instead of a list.

    Example:
        >>> references = {1: [["a", "dog", "runs", "on"]], 2: [["a", "red", "kite", "flies"]]}
        >>> scorer = CiderScorer(references)
        >>> captions = [["a", "dog", "runs", "on"], ["a", "red", "kite", "flies"], ["a"]]
        >>> scorer.score([1, 2, 2], captions).round(2)
        array([10., 10.,  0.])
    """

    def __init__(
        self,
        references: Mapping[ImageId, Sequence[Tokens]],
        frequencies: DocumentFrequencies | None = None,
    ):
        groups = list(references.values())
        check_references(groups)
        flat = [tokens for group in groups for tokens in group]
        self._row = {image: row for row, image in enumerate(references)}
        self._n_references = np.array([len(group) for group in groups], dtype=np.int64)
        self._first_reference = np.cumsum(self._n_references) - self._n_references
        self._n_bigrams = np.array([max(len(tokens) - 1, 0) for tokens in flat], dtype=np.int64)
        image_of = np.repeat(np.arange(len(groups)), self._n_references)
        if frequencies is None:
            self.n_images = len(groups)
            self.index, self._counts = NgramIndex.of(flat)
        else:
            self.n_images = frequencies.n_images
            self.index, moved, self._counts = frequencies.index.extended(flat)
        self.image_counts = [counts.most_in_group(image_of) for counts in self._counts]
        if frequencies is None:
            in_images = [_images_with(counts) for counts in self.image_counts]
        else:
            in_images = [np.zeros(self.index.size(order + 1)) for order in range(MAX_ORDER)]
            for counts, places, old in zip(in_images, moved, frequencies.counts, strict=True):
                counts[places] = old
        self._rarity = [
            np.log(self.n_images) - np.log(np.maximum(1.0, counts)) for counts in in_images
        ]
        # Of each order: where each reference's entries begin, how many there are, its norm.
        self._entries = [_entries(counts.caption, len(flat)) for counts in self._counts]
        self._norms = [
            _norms(counts, self._weights(order, counts), len(flat))
            for order, counts in enumerate(self._counts)
        ]

    @property
    def is_weightless(self) -> bool:
        """Whether every n-gram of the references has weight 0, so that every score is 0."""
        return not any(
            np.any(rarity[counts.ngram] != 0)
            for rarity, counts in zip(self._rarity, self._counts, strict=True)
        )

    def _weights(self, order: int, counts: NgramCounts) -> np.ndarray:
        """Return the tf-idf weight of each entry; an unseen n-gram counts as seen in one image."""
        rarity = np.append(self._rarity[order], np.log(self.n_images))
        return np.asarray(counts.count * rarity[np.minimum(counts.ngram, counts.known)])

    def score(
        self,
        images: Sequence[ImageId],
        captions: Sequence[Tokens],
        *,
        counts: Sequence[NgramCounts] | None = None,
        variant: str = "CIDEr-D",
    ) -> np.ndarray:
        """Score captions against the references of their images.

        Args:
            images: The image of each caption. An image may occur several times.
            captions: Tokenised captions.
            counts: N-gram counts of the captions from `index.count`, if already computed.
            variant: `"CIDEr-D"` or `"CIDEr"`.

        Returns:
            Scores from 0 to 10, (captions,).

        Raises:
            ValueError: The variant is unknown.
            CaptionerError: An image has no references.
        """
        if variant not in VARIANTS:
            raise ValueError(f"variant must be CIDEr-D or CIDEr, not {variant!r}")
        clipped = variant == "CIDEr-D"
        check_captions(captions)
        if counts is None:
            counts = self.index.count(captions)
        try:
            rows = np.array([self._row[image] for image in images], dtype=np.int64)
        except KeyError as error:
            raise CaptionerError(f"no references for image {error.args[0]!r}") from error
        # A pair is one caption and one reference of its image.
        n_pairs = self._n_references[rows]
        caption, reference = _slices(self._first_reference[rows], n_pairs)
        similarity = np.zeros(len(caption))
        for order, ours in enumerate(counts):
            theirs = self._counts[order]
            begin, length = (values[reference] for values in self._entries[order])
            pair, entry = _slices(begin, length)
            found, at = ours.find(caption[pair], theirs.ngram[entry])
            pair, entry = pair[found], entry[found]
            their_count, our_count = theirs.count[entry], ours.count[at]
            rarity = self._rarity[order][theirs.ngram[entry]]
            if clipped:
                our_count = np.minimum(our_count, their_count)
            product = np.bincount(
                pair, weights=our_count * their_count * rarity**2, minlength=len(caption)
            )
            norm = _norms(ours, self._weights(order, ours), len(captions))
            norm = norm[caption] * self._norms[order][reference]
            # bincount returns integers if there is nothing to count, so pass `out` explicitly.
            similarity += np.divide(product, norm, out=np.zeros_like(norm), where=norm > 0)
        if clipped:
            n_bigrams = np.array([max(len(tokens) - 1, 0) for tokens in captions], dtype=np.int64)
            difference = n_bigrams[caption] - self._n_bigrams[reference]
            similarity *= np.exp(-(difference**2) / (2 * SIGMA**2))
        total = np.bincount(caption, weights=similarity, minlength=len(captions))
        return np.asarray(10 * total / MAX_ORDER / n_pairs)


def _images_with(image_counts: NgramCounts) -> np.ndarray:
    """Return the number of images in whose references each n-gram of one order occurs, (known,)."""
    return np.bincount(image_counts.ngram, minlength=image_counts.known)


def _entries(caption: np.ndarray, n_captions: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first entry and the number of entries of each caption, both (captions,)."""
    length = np.bincount(caption, minlength=n_captions)
    return np.cumsum(length) - length, length


def _norms(counts: NgramCounts, weights: np.ndarray, n_captions: int) -> np.ndarray:
    """Return the norm of each caption's vector of tf-idf weights, (captions,)."""
    return np.sqrt(np.bincount(counts.caption, weights=weights**2, minlength=n_captions))


def _slices(begin: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate the ranges begin[i] … begin[i] + length[i]; return owner i and index of each."""
    owner = np.repeat(np.arange(len(length)), length)
    place = np.arange(len(owner)) + (begin - np.cumsum(length) + length)[owner]
    return owner, place

"""The result of captioning a photo: captions as text, with the numbers that ranked them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioner.photos.regions import PhotoRegions
from captioner.photos.transform import Box
from captioner.text.vocabulary import END, Vocabulary

if TYPE_CHECKING:
    from captioner.decoding.hypotheses import Hypotheses


@dataclass(frozen=True)
class Candidate:
    """One of several captions of a photo.

    Attributes:
        caption: its text.
        log_prob: natural logarithm of its probability under the model, the end word included.
        score: the number that ranked it: `log_prob`, length-normalised on request, or the score of
            the re-ranking.
        words: its tokens ("man", "'s"), the end word last unless it was cut.
        word_log_probs: the log-probability of each of `words`; they sum to `log_prob`.
    """

    caption: str
    log_prob: float
    score: float
    words: tuple[str, ...]
    word_log_probs: tuple[float, ...]


@dataclass(frozen=True)
class PhotoCaptions:
    """The result of captioning one photo: captions, best first, or the reason for none.

    Attributes:
        path: the photo.
        candidates: its captions, best first, or, if drawn and not re-ranked, in the order drawn;
            empty if there is none.
        error: why there is none.
        attention: the attention of each candidate's words, on request.
        preview: (height, width, 3) uint8, a small copy of the upright photo, if asked for.
    """

    path: Path
    candidates: tuple[Candidate, ...] = ()
    error: str | None = None
    attention: "AttentionMap | None" = None
    preview: np.ndarray | None = None

    @property
    def caption(self) -> str | None:
        """The best caption."""
        return self.candidates[0].caption if self.candidates else None


Captioned = PhotoCaptions
"""Name in version 0.1; version 0.3 removes it."""


@dataclass(frozen=True)
class AttentionMap:
    """Attention of a photo's captions: K captions, T words of the longest, R regions.

    Attributes:
        weights: (K, T, R) float32, in the order of each candidate's `words`; 0 beyond its last.
            A word's weights sum to 1, or to 1 less the sentinel's.
        grid: rows and columns of the regions, row by row, if they form a square; else
            (1, R).
        sentinel: (K, T) float32, the weight that a word gave the sentence instead of the photo;
            None if the network has no sentinel.
        size: width and height of the upright photo, in pixels; None where it is not known.
        boxes: (R, 4) float32, left, top, right and bottom edge of each region in pixels of the
            photo, if a detector found them; they take the place of `grid` and `box`.
        box: the part of that photo that the grid covers: left, top, right and bottom edge, in its
            pixels, as `Transform.box` gives it. The cell in row r and column c of a grid of
            `grid[0]` rows and `grid[1]` columns is the cell of equal size there. None where the
            members of an ensemble see different parts.
    """

    weights: np.ndarray
    grid: tuple[int, int]
    sentinel: np.ndarray | None = None
    size: tuple[int, int] | None = None
    box: Box | None = None
    boxes: np.ndarray | None = None

    def of_regions(self, regions: PhotoRegions, size: tuple[int, int]) -> "AttentionMap":
        """Return the attention to a photo's own regions; a batch pads them to the most.

        Args:
            regions: the photo's regions.
            size: width and height of the photo where the region file does not say; (0, 0) if
                unknown.
        """
        count = len(regions.features)
        return replace(
            self,
            weights=self.weights[..., :count],
            grid=(1, count),
            size=regions.size or (size if min(size) > 0 else None),
            boxes=regions.boxes,
        )


def grid_of(regions: int) -> tuple[int, int]:
    """Rows and columns of so many regions: a square where that is possible, else one row."""
    side = math.isqrt(regions)
    return (side, side) if side * side == regions else (1, regions)


def attention_maps(found: "Hypotheses", *, sentinel: bool = False) -> list[AttentionMap]:
    """Return the attention of each image's captions, which `found` must carry.

    Args:
        found: captions with attention (B, K, T + 1, R or more).
        sentinel: whether the last column is the sentinel's.
    """
    assert found.attention is not None
    longest = found.words.shape[2]
    weights = found.attention.float().cpu().numpy()
    lengths = (found.lengths + 1).clamp(max=longest)  # with the end word, if not cut
    maps = []
    for of_image, own in zip(weights, lengths.tolist(), strict=True):
        of_words = of_image[:, : max(own)]
        of_regions = of_words[..., :-1] if sentinel else of_words
        regions = of_regions.shape[2]
        of_sentinel = of_words[..., -1] if sentinel else None
        maps.append(AttentionMap(of_regions, grid_of(regions), of_sentinel))
    return maps


def candidates(found: "Hypotheses", vocabulary: Vocabulary) -> list[tuple[Candidate, ...]]:
    """Return the captions of each image as text, in the order found."""
    longest = found.words.shape[2]
    columns = zip(
        found.captions(),
        found.log_probs.tolist(),
        found.scores.tolist(),
        found.word_log_probs.tolist(),
        strict=True,
    )
    return [
        tuple(
            candidate(ids, log_prob, score, parts, vocabulary, longest)
            for ids, log_prob, score, parts in zip(captions, *numbers, strict=False)
        )
        for captions, *numbers in columns
    ]


def candidate(
    ids: Sequence[int],
    log_prob: float,
    score: float,
    word_log_probs: Sequence[float],
    vocabulary: Vocabulary,
    longest: int,
) -> Candidate:
    """Return one caption as text.

    Args:
        ids: its words, without the end word.
        log_prob: as in `Candidate`.
        score: as in `Candidate`.
        word_log_probs: of its words and the end word; more are ignored.
        vocabulary: the words by id.
        longest: words after which a caption was cut, and has no end word.
    """
    written = [*ids, END] if len(ids) < longest else ids
    words = tuple(vocabulary.words[i] for i in written)
    parts = tuple(word_log_probs[: len(written)])
    return Candidate(vocabulary.decode(ids), log_prob, score, words, parts)

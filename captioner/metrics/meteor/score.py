r"""METEOR 1.5 for English without Java; scores equal the Java program's to the last digit.

Denkowski and Lavie 2014, "Meteor Universal: language specific translation evaluation for any target
language", with the parameters of the official COCO evaluation (options `-l en -norm`). `matches`
and `alignment` align candidate and reference. Let :math:`m_{s,c}` and :math:`m_{s,f}` be the
content and function words of the candidate matched by stage s, :math:`n_c` and :math:`n_f` all its
content and function words, w the stage weights and :math:`\delta` the weight of content words. Then
precision is

.. math::
    P = \frac{\sum_s w_s (\delta\, m_{s,c} + (1 - \delta)\, m_{s,f})}
             {\delta\, n_c + (1 - \delta)\, n_f}

and recall R is the same for the reference. With ch chunks, and m the mean of the words matched in
candidate and reference,

.. math::
    \text{METEOR} = \Bigl(1 - \gamma (ch / m)^\beta\Bigr) \frac{P R}{\alpha P + (1 - \alpha) R}

Of several references, the one with the highest score counts. The corpus score is computed from
counts summed over images. An image whose caption equals its reference adds no chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from captioner.metrics.checks import check_captions, check_references
from captioner.metrics.meteor.alignment import align
from captioner.metrics.meteor.data import MeteorData
from captioner.metrics.meteor.matches import Captions, Matches, find_matches
from captioner.metrics.meteor.normalizer import normalize
from captioner.metrics.ngrams import Tokens

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
STAGE_WEIGHTS = (1.0, 0.6, 0.8, 0.6)  # exact, stem, synonym, paraphrase

N_STAGES = len(STAGE_WEIGHTS)
N_STATISTICS = 4 + 4 * N_STAGES + 1

# Word pairs (candidate word, reference word) per batch: about 500 images with captions of usual
# length. This bounds the memory; larger batches are hardly faster.
_WORD_PAIRS = 300_000


def meteor_statistics(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], data: MeteorData
) -> np.ndarray:
    """Compute the counts of each image from which METEOR follows; sum them for a corpus.

    Args:
        candidates: One tokenised caption per image.
        references: One or more tokenised references per image.
        data: METEOR's word lists and paraphrase table.

    Returns:
        Whole numbers as float64, (images, 21): words of candidate and reference; function words of
        candidate and reference; for each stage, matched content words of candidate and reference
        and matched function words of candidate and reference; chunks.

    Raises:
        CaptionerError: A string was passed instead of a list, or the data files are unreadable.
    """
    check_captions(candidates)
    check_references(references)
    rows = [
        _statistics(candidates[some], references[some], data)
        for some in _batches(candidates, references)
    ]
    return np.concatenate(rows)


def _batches(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> Iterator[slice]:
    begin, work = 0, 0
    for at, (candidate, group) in enumerate(zip(candidates, references, strict=True)):
        more = len(candidate) * sum(map(len, group))
        if at > begin and work + more > _WORD_PAIRS:
            yield slice(begin, at)
            begin, work = at, 0
        work += more
    yield slice(begin, len(candidates))


def _statistics(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], data: MeteorData
) -> np.ndarray:
    n_references = np.array([len(group) for group in references])
    texts = [*candidates, *(tokens for group in references for tokens in group)]
    captions = Captions([normalize(" ".join(tokens), data.abbreviations) for tokens in texts])
    candidate_of = np.repeat(np.arange(len(candidates)), n_references)
    reference_of = len(candidates) + np.arange(len(candidate_of))
    matches = find_matches(captions, candidate_of, reference_of, data)

    is_function = [word in data.function_words for word in captions.vocabulary]
    function_words = np.append(0, np.cumsum(np.array(is_function, dtype=bool)[captions.words]))
    contents = _contents(matches, captions, candidate_of, reference_of, function_words)
    lengths = captions.lengths()
    counts, chunks = align(matches, lengths[reference_of], lengths[candidate_of], contents)

    n_function = np.diff(function_words[captions.begin])
    statistics = np.empty((len(candidate_of), N_STATISTICS))
    for column, (values, caption) in enumerate(
        (values, caption)
        for values in (lengths, n_function)
        for caption in (candidate_of, reference_of)
    ):
        statistics[:, column] = values[caption]
    statistics[:, 4:-1] = counts
    statistics[:, -1] = chunks
    statistics = leave_out_whole(statistics)
    return statistics[_best_reference(meteor_from_statistics(statistics)[:, 0], n_references)]


def _contents(
    matches: Matches,
    captions: Captions,
    candidate_of: np.ndarray,
    reference_of: np.ndarray,
    function_words: np.ndarray,
) -> np.ndarray:
    """Count the content and function words of each match by stage and side, (matches, 16)."""
    contents = np.zeros((len(matches.pair), N_STAGES, 2, 2), dtype=np.int32)
    row = np.arange(len(matches.pair))
    for side, (caption, start, length) in enumerate(
        [
            (candidate_of, matches.other_start, matches.other_length),
            (reference_of, matches.start, matches.length),
        ]
    ):
        begin = captions.begin[caption[matches.pair]] + start
        n_function = function_words[begin + length] - function_words[begin]
        contents[row, matches.stage, 0, side] = length - n_function
        contents[row, matches.stage, 1, side] = n_function
    return contents.reshape(len(row), 4 * N_STAGES)


def _stage_counts(statistics: np.ndarray) -> np.ndarray:
    """Return the matched words by stage, kind (content, function) and side, (..., 4, 2, 2)."""
    return statistics[..., 4:-1].reshape(*statistics.shape[:-1], N_STAGES, 2, 2)


def leave_out_whole(statistics: np.ndarray) -> np.ndarray:
    """Set the number of chunks to 0 where a single chunk covers both captions completely."""
    matched = _stage_counts(statistics).sum(axis=(-3, -2))
    whole = (matched == statistics[..., :2]).all(axis=-1) & (statistics[..., -1] == 1)
    out = statistics.copy()
    out[whole, -1] = 0
    return out


def _best_reference(scores: np.ndarray, n_references: np.ndarray) -> np.ndarray:
    """Return the row of each image's first reference with the highest score, (images,)."""
    image = np.repeat(np.arange(len(n_references)), n_references)
    order = np.lexsort((-scores, image))
    return order[np.cumsum(n_references) - n_references]


def meteor_from_statistics(statistics: np.ndarray) -> np.ndarray:
    """Compute METEOR from the statistics of one image or from a sum of them.

    Args:
        statistics: As returned by `meteor_statistics`, (..., 21).

    Returns:
        Scores from 0 to 1, (..., 1).

    Example:
        Two of three content words match exactly, in one chunk.

        >>> statistics = np.zeros(21)
        >>> statistics[[0, 1, 4, 5, 20]] = [3, 3, 2, 2, 1]
        >>> meteor_from_statistics(statistics).round(2)
        array([0.32])
    """
    counts = _stage_counts(statistics)
    words, function_words = statistics[..., 0:2], statistics[..., 2:4]
    length = DELTA * (words - function_words) + (1 - DELTA) * function_words
    # Sum in the Java program's order, for equal rounding: content words by stage, then function
    # words.
    weighted = np.zeros(length.shape)
    for kind, share in enumerate((DELTA, 1 - DELTA)):
        for stage, weight in enumerate(STAGE_WEIGHTS):
            weighted += counts[..., stage, kind, :] * weight * share
    matched = counts.sum(axis=(-3, -2, -1))
    some = matched > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = np.moveaxis(weighted / length, -1, 0)
        mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        penalty = GAMMA * (statistics[..., -1] / (matched / 2)) ** BETA
        score = np.maximum(mean * (1 - penalty), 0)
    return np.where(some, score, 0.0)[..., np.newaxis]

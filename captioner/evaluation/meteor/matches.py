"""Which words and phrases of a candidate may be aligned with which of a reference.

Four stages propose matches: the same word (exact), different words with the same stem (stem),
different words in one of WordNet's synonym sets (synonym), and phrases that the paraphrase table
has as paraphrases, in either direction (paraphrase). All pairs of candidate and reference are
treated at once: a match is a row of arrays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, permutations

import numpy as np

from captioner.evaluation.meteor.data import MeteorData
from captioner.evaluation.meteor.paraphrases import ParaphraseTable, expand
from captioner.evaluation.meteor.phrase_hash import HashedText
from captioner.evaluation.meteor.stemmer import stem

EXACT, STEM, SYNONYM, PARAPHRASE = range(4)


@dataclass(frozen=True)
class Spans:
    """Stretches of captions that are the same thing (word or phrase) where they bear one number."""

    caption: np.ndarray
    number: np.ndarray
    start: np.ndarray
    length: np.ndarray


class Captions:
    """Captions as one array of word numbers.

    Attributes:
        vocabulary: The words.
        words: Numbers of all words, caption by caption, (words,).
        begin: Where each caption begins, and where the last one ends, (captions + 1,).
    """

    def __init__(self, captions: Sequence[Sequence[str]]):
        numbers = {word: at for at, word in enumerate(sorted(set(chain.from_iterable(captions))))}
        self.vocabulary = list(numbers)
        self.words = np.array(
            [numbers[word] for word in chain.from_iterable(captions)], dtype=np.int64
        )
        self.begin = np.cumsum([0, *map(len, captions)])

    def __len__(self) -> int:
        return len(self.begin) - 1

    def lengths(self) -> np.ndarray:
        """Words of each caption, (captions,)."""
        return np.diff(self.begin)

    def caption_of(self) -> np.ndarray:
        """The caption of each word, (words,)."""
        return np.repeat(np.arange(len(self)), self.lengths())

    def word_spans(self) -> Spans:
        """Each word as a stretch of its own."""
        caption = self.caption_of()
        start = np.arange(len(self.words)) - self.begin[caption]
        return Spans(caption, self.words, start, np.ones_like(start))

    def equal(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Whether the captions of each pair have the same words, (pairs,)."""
        lengths = self.lengths()
        same = lengths[first] == lengths[second]
        candidates = np.flatnonzero(same)
        count = lengths[first[candidates]]
        ours = self.words[expand(self.begin[first[candidates]], count)]
        theirs = self.words[expand(self.begin[second[candidates]], count)]
        different = np.repeat(candidates, count)[ours != theirs]
        same[different] = False
        return same


@dataclass(frozen=True)
class Matches:
    """Possible matches, ordered by pair and place in the reference; in one place, by stage.

    Among those of one place the order decides which of two equally good alignments is found, so it
    is that of METEOR's Java program. All attributes are (matches,).

    Attributes:
        pair: Index of the pair of candidate and reference.
        start: First word in the reference.
        length: Words in the reference.
        other_start: First word in the candidate.
        other_length: Words in the candidate.
        stage: EXACT to PARAPHRASE.
    """

    pair: np.ndarray
    start: np.ndarray
    length: np.ndarray
    other_start: np.ndarray
    other_length: np.ndarray
    stage: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Matches:
        return Matches(*(column[rows] for column in vars(self).values()))


Relation = tuple[np.ndarray, np.ndarray, np.ndarray]
"""What may be matched with what: numbers in the reference (sorted), numbers in the candidate, and
a rank among those of one number; (rows,) each."""


def find_matches(
    captions: Captions, candidate_of: np.ndarray, reference_of: np.ndarray, data: MeteorData
) -> Matches:
    """All matches that the four stages propose.

    Args:
        captions: Candidates and references.
        candidate_of: Index of the candidate of each pair, (pairs,).
        reference_of: Index of the reference of each pair, (pairs,); a reference is in one pair.
        data: What is known of the language.
    """
    partner = np.full(len(captions), -1)
    partner[reference_of] = candidate_of
    pair_of = np.empty(len(captions), dtype=np.int64)
    pair_of[reference_of] = np.arange(len(reference_of))
    words = captions.word_spans()
    phrases, paraphrases = _phrase_spans(captions, data.paraphrases)
    itself = np.arange(len(captions.vocabulary))
    found = []
    for rank, (stage, spans, relation) in enumerate(
        [
            (EXACT, words, (itself, itself, itself)),
            (STEM, words, _sharing([stem(word)] for word in captions.vocabulary)),
            (SYNONYM, words, _sharing(map(data.sets_of, captions.vocabulary))),
            (PARAPHRASE, phrases, paraphrases),
            (PARAPHRASE, phrases, _inverse(paraphrases)),
        ]
    ):
        reference, candidate, row = _join(spans, relation, partner)
        start, length = spans.start[reference], spans.length[reference]
        other_start, other_length = spans.start[candidate], spans.length[candidate]
        first, second, third = other_start, other_length, row
        if rank == 3:  # paraphrases of the reference's phrases are looked for in the candidate
            first, second, third = length, row, other_start
        stages, ranks = np.full_like(start, stage), np.full_like(start, rank)
        match = (pair_of[spans.caption[reference]], start, length, other_start, other_length)
        found.append((*match, stages, ranks, first, second, third))
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    pair, start, stages, *order_in_place = columns[0], columns[1], columns[5], *columns[6:]
    order = np.lexsort((*reversed(order_in_place), start, pair))
    # Of equal captions the Java program considers exact matches alone.
    equal = captions.equal(candidate_of, reference_of)
    order = order[(stages == EXACT)[order] | ~equal[pair[order]]]
    return Matches(*(column[order] for column in columns[:6]))


def _sharing(keys_of: Iterable[Iterable[str]]) -> Relation:
    """Relates different words that have a key in common.

    Args:
        keys_of: The keys of each word of the vocabulary.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for number, keys in enumerate(keys_of):
        for key in keys:
            members[key].append(number)
    pairs = {pair for group in members.values() for pair in permutations(group, 2)}
    both = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1], both[:, 1]


def _inverse(relation: Relation) -> Relation:
    order = np.argsort(relation[1], kind="stable")
    return relation[1][order], relation[0][order], relation[2][order]


def _phrase_spans(captions: Captions, table: ParaphraseTable) -> tuple[Spans, Relation]:
    """The phrases of captions, and which are paraphrases of which."""
    letters = np.array([len(word.encode()) for word in captions.vocabulary], dtype=np.int64)
    ends = np.cumsum(letters[captions.words] + 1) - 1
    begins = ends - letters[captions.words]
    vocabulary = captions.vocabulary
    text = HashedText(" ".join([vocabulary[word] for word in captions.words]).encode())
    room = np.repeat(captions.begin[1:], np.diff(captions.begin)) - np.arange(len(ends))
    starts = [np.flatnonzero(room >= n) for n in range(1, table.longest + 1)]
    hashes = [text.hashes(begins[at], ends[at + n]) for n, at in enumerate(starts)]
    known, number = np.unique(np.concatenate(hashes), return_inverse=True)
    phrase, paraphrase = table.among(known)
    useful = np.zeros(len(known), dtype=bool)
    useful[phrase] = useful[paraphrase] = True
    kept = useful[number]
    start = np.concatenate(starts)[kept]
    length = np.repeat(np.arange(1, table.longest + 1), list(map(len, starts)))[kept]
    caption = captions.caption_of()[start]
    spans = Spans(caption, number[kept], start - captions.begin[caption], length)
    return spans, (phrase, paraphrase, np.arange(len(phrase)))


def _join(
    spans: Spans, relation: Relation, partner: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All related spans of references and their candidates.

    Returns:
        Index of the reference's span, index of the candidate's span, rank in the relation; (found,)
        each.
    """
    in_reference = partner[spans.caption] >= 0
    ours, theirs = np.flatnonzero(in_reference), np.flatnonzero(~in_reference)
    low = np.searchsorted(relation[0], spans.number[ours])
    count = np.searchsorted(relation[0], spans.number[ours], side="right") - low
    row = expand(low, count)
    ours = np.repeat(ours, count)

    n_numbers = 1 + max(spans.number.max(initial=0), relation[1].max(initial=0))
    keys = spans.caption[theirs] * n_numbers + spans.number[theirs]
    order = np.argsort(keys, kind="stable")
    keys, theirs = keys[order], theirs[order]
    wanted = partner[spans.caption[ours]] * n_numbers + relation[1][row]
    low = np.searchsorted(keys, wanted)
    count = np.searchsorted(keys, wanted, side="right") - low
    rank = relation[2][np.repeat(row, count)]
    return np.repeat(ours, count), theirs[expand(low, count)], rank

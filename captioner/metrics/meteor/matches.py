"""Possible matches between the words and phrases of candidates and references.

Four stages propose matches: equal words (exact), different words with the same stem (stem),
different words that share a WordNet synonym set (synonym), and phrases that the paraphrase table
lists in either direction (paraphrase). All pairs of candidate and reference are processed at once;
a match is a row of arrays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, permutations

import numpy as np

from captioner.metrics.meteor.data import MeteorData
from captioner.metrics.meteor.paraphrases import ParaphraseTable
from captioner.metrics.meteor.phrase_hash import HashedText
from captioner.metrics.meteor.ragged import expand
from captioner.metrics.meteor.stemmer import stem

EXACT, STEM, SYNONYM, PARAPHRASE = range(4)

_NO_PARTNER = -1


@dataclass(frozen=True)
class Spans:
    """Spans of captions: words or phrases. All attributes are (spans,).

    Attributes:
        caption: Index of the caption.
        number: Id of the text: equal words, and equal phrases, have the same id.
        start: Index of the first word in the caption.
        length: Number of words.
    """

    caption: np.ndarray
    number: np.ndarray
    start: np.ndarray
    length: np.ndarray


class Captions:
    """Captions as one array of word ids.

    Attributes:
        vocabulary: The distinct words, by id.
        words: Ids of all words, caption by caption, (words,).
        begin: First word of each caption, then the end of the last, (captions + 1,).
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
        """Return the number of words of each caption, (captions,)."""
        return np.diff(self.begin)

    def caption_of(self) -> np.ndarray:
        """Return the caption of each word, (words,)."""
        return np.repeat(np.arange(len(self)), self.lengths())

    def word_spans(self) -> Spans:
        """Return each word as a span."""
        caption = self.caption_of()
        start = np.arange(len(self.words)) - self.begin[caption]
        return Spans(caption, self.words, start, np.ones_like(start))

    def equal(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return whether the captions of each pair have the same words, (pairs,)."""
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
    """Possible matches, sorted by pair, position in the reference and stage.

    At one position, the order decides which of two equally good alignments is found. So it follows
    METEOR's Java program. All attributes are (matches,).

    Attributes:
        pair: Index of the pair of candidate and reference.
        start: First word in the reference.
        length: Number of words in the reference.
        other_start: First word in the candidate.
        other_length: Number of words in the candidate.
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


@dataclass(frozen=True)
class Relation:
    """Pairs of words or phrases that match. All attributes are (rows,).

    Attributes:
        reference: Ids of words or phrases in a reference, sorted.
        candidate: Ids of their matches in the candidate.
        rank: Position of each row in the data file.
    """

    reference: np.ndarray
    candidate: np.ndarray
    rank: np.ndarray

    def turned(self) -> Relation:
        """Swap reference and candidate."""
        order = np.argsort(self.candidate, kind="stable")
        return Relation(self.candidate[order], self.reference[order], self.rank[order])


def find_matches(
    captions: Captions, candidate_of: np.ndarray, reference_of: np.ndarray, data: MeteorData
) -> Matches:
    """Return all matches that the four stages propose.

    Args:
        captions: Candidates and references.
        candidate_of: Index of the candidate of each pair, (pairs,).
        reference_of: Index of the reference of each pair, (pairs,). A reference is in one pair.
        data: Word lists and tables of the language.
    """
    partner = np.full(len(captions), _NO_PARTNER)
    partner[reference_of] = candidate_of
    pair_of = np.empty(len(captions), dtype=np.int64)
    pair_of[reference_of] = np.arange(len(reference_of))
    words, vocabulary = captions.word_spans(), captions.vocabulary
    phrases, paraphrases = _phrases(captions, data.paraphrases)
    itself = np.arange(len(vocabulary))
    # Stage, spans, relation, and the iteration order of the Java program: over the reference's
    # phrases (True) or over the candidate's words or phrases (False).
    passes = [
        (EXACT, words, Relation(itself, itself, itself), False),
        (STEM, words, _sharing([stem(word)] for word in vocabulary), False),
        (SYNONYM, words, _sharing(map(data.sets_of, vocabulary)), False),
        (PARAPHRASE, phrases, paraphrases, True),
        (PARAPHRASE, phrases, paraphrases.turned(), False),
    ]
    found, orders = [], []
    for at, (stage, spans, relation, by_reference) in enumerate(passes):
        reference, candidate, rank = _join(spans, relation, partner)
        pair = pair_of[spans.caption[reference]]
        start, length = spans.start[reference], spans.length[reference]
        other_start, other_length = spans.start[candidate], spans.length[candidate]
        stages = np.full_like(start, stage)
        found.append((pair, start, length, other_start, other_length, stages))
        in_pass = (length, rank, other_start) if by_reference else (other_start, other_length, rank)
        orders.append((pair, start, np.full_like(start, at), *in_pass))
    matches = Matches(*map(np.concatenate, zip(*found, strict=True)))
    # lexsort takes the primary key last.
    order = np.lexsort([np.concatenate(key) for key in zip(*orders, strict=True)][::-1])
    # For equal captions, the Java program considers exact matches only.
    equal = captions.equal(candidate_of, reference_of)
    return matches[order[(matches.stage == EXACT)[order] | ~equal[matches.pair[order]]]]


def _sharing(keys_of: Iterable[Iterable[str]]) -> Relation:
    """Relate different words that share a key.

    Args:
        keys_of: The keys of each word of the vocabulary.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for number, keys in enumerate(keys_of):
        for key in keys:
            members[key].append(number)
    pairs = {pair for group in members.values() for pair in permutations(group, 2)}
    both = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return Relation(both[:, 0], both[:, 1], np.arange(len(both)))


def _phrases(captions: Captions, table: ParaphraseTable) -> tuple[Spans, Relation]:
    """Return the phrases of the captions that paraphrase each other, and their relation."""
    vocabulary, words = captions.vocabulary, captions.words
    text = HashedText(" ".join([vocabulary[word] for word in words]).encode())
    letters = np.array([len(word.encode()) for word in vocabulary], dtype=np.int64)[words]
    ends = np.cumsum(letters + 1) - 1
    caption_of = captions.caption_of()
    room = captions.begin[caption_of + 1] - np.arange(len(words))
    orders = range(1, table.longest + 1)
    starts = [np.flatnonzero(room >= n) for n in orders]
    hashes = [
        text.hashes((ends - letters)[at], ends[at + n - 1])
        for n, at in zip(orders, starts, strict=True)
    ]
    known, number = np.unique(np.concatenate(hashes), return_inverse=True)
    phrase, paraphrase = table.among(known)

    related = np.zeros(len(known), dtype=bool)
    related[phrase] = related[paraphrase] = True
    kept = related[number]
    first = np.concatenate(starts)[kept]
    length = np.repeat(orders, [len(at) for at in starts])[kept]
    caption = caption_of[first]
    spans = Spans(caption, number[kept], first - captions.begin[caption], length)
    return spans, Relation(phrase, paraphrase, np.arange(len(phrase)))


def _join(
    spans: Spans, relation: Relation, partner: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all related spans of references and their candidates.

    Args:
        spans: Spans of references and candidates.
        relation: The ids that are related.
        partner: The candidate of each reference, and _NO_PARTNER for candidates, (captions,).

    Returns:
        Index of the reference's span, index of the candidate's span and rank in the relation,
        (found,) each.
    """
    in_reference = partner[spans.caption] != _NO_PARTNER
    ours, theirs = np.flatnonzero(in_reference), np.flatnonzero(~in_reference)
    row, count = _look_up(relation.reference, spans.number[ours])
    ours = np.repeat(ours, count)

    # Pack caption and id into one key.
    n_numbers = 1 + max(spans.number.max(initial=0), relation.candidate.max(initial=0))
    keys = spans.caption[theirs] * n_numbers + spans.number[theirs]
    order = np.argsort(keys, kind="stable")
    wanted = partner[spans.caption[ours]] * n_numbers + relation.candidate[row]
    place, count = _look_up(keys[order], wanted)
    return np.repeat(ours, count), theirs[order[place]], relation.rank[np.repeat(row, count)]


def _look_up(sorted_keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the keys equal to each wanted value in turn, and their counts."""
    begin = np.searchsorted(sorted_keys, wanted)
    count = np.searchsorted(sorted_keys, wanted, side="right") - begin
    return expand(begin, count), count

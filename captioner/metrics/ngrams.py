"""N-gram counts of many captions as arrays.

BLEU and CIDEr both need the count of each n-gram in each caption. Each distinct n-gram of the
references gets an id. A set of captions becomes one list of (caption, n-gram, count) per order n.
The key of an n-gram is the pair (id of its first n - 1 words, id of its last word) packed into 64
bits, so that all look-ups are one vectorised binary search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

Tokens = Sequence[str]
Ints = np.ndarray

MAX_ORDER = 4
"""Highest n-gram order of BLEU-4 and CIDEr."""

_KEY_BITS = 32
_LOW = (1 << _KEY_BITS) - 1


@dataclass(frozen=True)
class NgramCounts:
    """Counts of the n-grams of one order in each caption, sorted by caption, then n-gram.

    Attributes:
        caption: Index of the caption, (entries,).
        ngram: Id of the n-gram, (entries,). Ids from `known` up are n-grams not in the index.
        count: Occurrences, (entries,); at least 1.
        known: Number of n-grams of this order in the index.
    """

    caption: Ints
    ngram: Ints
    count: Ints
    known: int

    def most_in_group(self, group_of: Ints) -> NgramCounts:
        """Return the maximum count of each n-gram over the captions of each group.

        Args:
            group_of: Index of the group of each caption, (captions,).

        Returns:
            Counts in which `caption` is the index of a group.
        """
        keys = (group_of[self.caption] << _KEY_BITS) | self.ngram
        order = np.argsort(keys)
        keys, first = _distinct(keys[order])
        most = np.maximum.reduceat(self.count[order], first) if len(first) else self.count
        return NgramCounts(keys >> _KEY_BITS, keys & _LOW, most, self.known)

    def find(self, caption: Ints, ngram: Ints) -> tuple[Ints, Ints]:
        """Look up (caption, n-gram) pairs.

        Args:
            caption: Index of the caption of each pair, (wanted,).
            ngram: Id of the n-gram of each pair, (wanted,).

        Returns:
            Indices of the pairs that exist, and the entry of each of them, (found,) both.
        """
        # Most n-grams of higher order occur in no caption here. Exclude them before the search.
        present = np.zeros(self.known + 1, dtype=bool)
        present[np.minimum(self.ngram, self.known)] = True
        present[-1] = False
        possible = np.flatnonzero(present[np.minimum(ngram, self.known)])
        wanted = (caption[possible] << _KEY_BITS) | ngram[possible]
        keys = (self.caption << _KEY_BITS) | self.ngram
        entry = np.searchsorted(keys, wanted)
        entry[entry == len(keys)] = 0
        hit = keys[entry] == wanted if len(keys) else np.zeros(0, dtype=bool)
        return possible[hit], entry[hit]


class NgramIndex:
    """Ids of n-grams of 1 to 4 words.

    Attributes:
        vocabulary: The id of each word, which is an n-gram of order 1.
        keys: Sorted keys for orders 2, 3 and 4; an n-gram's id is the index of its key. Takes
            8 bytes per distinct n-gram.

    Example:
        >>> index, counts = NgramIndex.of([["a", "dog"], ["a", "cat", "a", "dog"]])
        >>> [index.size(order) for order in (1, 2, 3, 4)]
        [3, 3, 2, 1]
        >>> counts[0].count.tolist()  # "a" and "dog"; "a", "cat" and "dog"
        [1, 1, 2, 1, 1]
    """

    def __init__(self, vocabulary: dict[str, int], keys: list[Ints]):
        self.vocabulary = vocabulary
        self.keys = keys

    @classmethod
    def of(cls, captions: Sequence[Tokens]) -> tuple[NgramIndex, list[NgramCounts]]:
        """Index the n-grams of token lists and count them, one entry per order from 1 to 4."""
        nothing = cls({}, [np.empty(0, dtype=np.int64)] * (MAX_ORDER - 1))
        index, _, counts = nothing.extended(captions)
        return index, counts

    def size(self, order: int) -> int:
        """Return the number of distinct n-grams of `order` words."""
        return len(self.vocabulary) if order == 1 else len(self.keys[order - 2])

    def extended(
        self, captions: Sequence[Tokens]
    ) -> tuple[NgramIndex, list[Ints], list[NgramCounts]]:
        """Return an index that also contains the n-grams of `captions`.

        Returns:
            The new index; for each order, the new ids of the n-grams of this index; the counts of
            `captions`.
        """
        vocabulary = _with_words(self.vocabulary, captions)
        words, caption_of, ends = _flatten(captions, vocabulary)
        ids, starts = words, np.arange(len(words))
        moved = [np.arange(len(self.vocabulary))]
        counts = [_tally(caption_of, ids, len(vocabulary))]
        all_keys = []
        for order, old in enumerate(self.keys, start=2):
            starts, keys = _keys(starts, ids, words, ends, order)
            old = (moved[-1][old >> _KEY_BITS] << _KEY_BITS) | (old & _LOW)
            known, places = _number(np.concatenate([old, keys]))
            moved.append(places[: len(old)])
            ids = places[len(old) :]
            all_keys.append(known)
            counts.append(_tally(caption_of[starts], ids, len(known)))
        return NgramIndex(vocabulary, all_keys), moved, counts

    def count(self, captions: Sequence[Tokens]) -> list[NgramCounts]:
        """Count the n-grams of each caption; return one entry per order from 1 to 4."""
        words, caption_of, ends = _flatten(captions, _with_words(self.vocabulary, captions))
        ids, starts = words, np.arange(len(words))
        out = [_tally(caption_of, ids, len(self.vocabulary))]
        for order, known in enumerate(self.keys, start=2):
            starts, keys = _keys(starts, ids, words, ends, order)
            ids = _look_up(known, keys)
            out.append(_tally(caption_of[starts], ids, len(known)))
        return out


def _with_words(vocabulary: dict[str, int], captions: Sequence[Tokens]) -> dict[str, int]:
    """Return the vocabulary extended by the new words of `captions`."""
    strange = set(chain.from_iterable(captions)).difference(vocabulary)
    if not strange:
        return vocabulary
    return vocabulary | {word: len(vocabulary) + at for at, word in enumerate(sorted(strange))}


def _flatten(captions: Sequence[Tokens], vocabulary: dict[str, int]) -> tuple[Ints, Ints, Ints]:
    """Return the id of each word, its caption and the end of that caption, (words,) each."""
    words = np.fromiter(map(vocabulary.__getitem__, chain.from_iterable(captions)), dtype=np.int64)
    lengths = np.fromiter(map(len, captions), dtype=np.int64, count=len(captions))
    caption_of = np.repeat(np.arange(len(captions)), lengths)
    return words, caption_of, np.cumsum(lengths)[caption_of]


def _keys(starts: Ints, ids: Ints, words: Ints, ends: Ints, order: int) -> tuple[Ints, Ints]:
    """Return starts and keys of the n-grams, given the ids of the (n-1)-grams at `starts`."""
    fits = starts + order <= ends[starts]
    starts = starts[fits]
    return starts, (ids[fits] << _KEY_BITS) | words[starts + order - 1]


def _distinct(keys: Ints) -> tuple[Ints, Ints]:
    """Return the distinct values of sorted keys and the first index of each."""
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[first], first


def _number(keys: Ints) -> tuple[Ints, Ints]:
    """Return the distinct keys in order, and the index of each key among them.

    `numpy.unique` does the same at half the speed.
    """
    order = np.argsort(keys)
    in_order = keys[order]
    new = np.diff(in_order, prepend=-1) != 0
    places = np.empty(len(keys), dtype=np.int64)
    places[order] = np.cumsum(new) - 1
    return in_order[new], places


def _look_up(known: Ints, keys: Ints) -> Ints:
    """Return the index of each key in the sorted `known`; new keys get ids from its length up."""
    ids = np.searchsorted(known, keys)
    strange = np.ones(len(keys), dtype=bool)
    inside = ids < len(known)
    strange[inside] = known[ids[inside]] != keys[inside]
    ids[strange] = len(known) + _number(keys[strange])[1]
    return ids


def _tally(caption: Ints, ngram: Ints, known: int) -> NgramCounts:
    keys, first = _distinct(np.sort((caption << _KEY_BITS) | ngram))
    count = np.diff(first, append=len(caption))
    return NgramCounts(keys >> _KEY_BITS, keys & _LOW, count, known)

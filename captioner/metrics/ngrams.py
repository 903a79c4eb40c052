"""Counts of the n-grams of many captions, as arrays.

BLEU and CIDEr both ask how often which n-gram stands in which caption. Here each distinct n-gram
of the references gets a number, and a set of captions becomes one list of (caption, n-gram, count)
for each order n. An n-gram is numbered by the pair (number of its first n - 1 words, number of its
last word), so that a look-up is a binary search among 64-bit keys, for all captions at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

Tokens = Sequence[str]
Ints = np.ndarray

MAX_ORDER = 4
"""BLEU-4 and CIDEr both go up to four words."""

_KEY_BITS = 32
_LOW = (1 << _KEY_BITS) - 1


@dataclass(frozen=True)
class NgramCounts:
    """How often each n-gram of one order stands in each caption, ordered by caption, then n-gram.

    Attributes:
        caption: Index of the caption, (entries,).
        ngram: Number of the n-gram; from ``known`` on: n-grams that the index does not hold.
        count: Occurrences, at least 1.
        known: How many n-grams of this order the index holds.
    """

    caption: Ints
    ngram: Ints
    count: Ints
    known: int

    def most_in_group(self, group_of: Ints) -> NgramCounts:
        """The same for groups of captions: how often the caption with most of an n-gram has it.

        Args:
            group_of: Index of the group of each caption, (captions,).

        Returns:
            Counts whose ``caption`` is a group.
        """
        keys = (group_of[self.caption] << _KEY_BITS) | self.ngram
        order = np.argsort(keys)
        keys, first = _distinct(keys[order])
        most = np.maximum.reduceat(self.count[order], first) if len(first) else self.count
        return NgramCounts(keys >> _KEY_BITS, keys & _LOW, most, self.known)

    def find(self, caption: Ints, ngram: Ints) -> tuple[Ints, Ints]:
        """Looks for n-grams in captions.

        Args:
            caption: Where to look, (wanted,).
            ngram: What to look for, (wanted,).

        Returns:
            Which of the wanted pairs there are, and the entry of each of these, (found,) both.
        """
        # Most n-grams of higher order stand in no caption here: sort these out cheaply.
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
    """Numbers for n-grams of 1 to 4 words.

    Attributes:
        vocabulary: The number of each word; these are the n-grams of order 1.
        keys: For the orders 2, 3, 4 the sorted keys; an n-gram's number is the place of its key.
            8 bytes for each distinct n-gram.
    """

    def __init__(self, vocabulary: dict[str, int], keys: list[Ints]):
        self.vocabulary = vocabulary
        self.keys = keys

    @classmethod
    def of(cls, captions: Sequence[Tokens]) -> tuple[NgramIndex, list[NgramCounts]]:
        """The n-grams of token lists, and their counts, one entry for each order from 1 to 4."""
        nothing = cls({}, [np.empty(0, dtype=np.int64)] * (MAX_ORDER - 1))
        index, _, counts = nothing.extended(captions)
        return index, counts

    def size(self, order: int) -> int:
        """How many distinct n-grams of ``order`` words there are."""
        return len(self.vocabulary) if order == 1 else len(self.keys[order - 2])

    def extended(
        self, captions: Sequence[Tokens]
    ) -> tuple[NgramIndex, list[Ints], list[NgramCounts]]:
        """An index that also holds the n-grams of ``captions``.

        Returns:
            The new index; for each order the new numbers of the n-grams held before; the counts of
            ``captions``.
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
        """Counts the n-grams of each caption; one entry of the list for each order from 1 to 4."""
        words, caption_of, ends = _flatten(captions, _with_words(self.vocabulary, captions))
        ids, starts = words, np.arange(len(words))
        out = [_tally(caption_of, ids, len(self.vocabulary))]
        for order, known in enumerate(self.keys, start=2):
            starts, keys = _keys(starts, ids, words, ends, order)
            ids = _look_up(known, keys)
            out.append(_tally(caption_of[starts], ids, len(known)))
        return out


def _with_words(vocabulary: dict[str, int], captions: Sequence[Tokens]) -> dict[str, int]:
    """The vocabulary with the words of ``captions`` numbered on from its end."""
    strange = set(chain.from_iterable(captions)).difference(vocabulary)
    if not strange:
        return vocabulary
    return vocabulary | {word: len(vocabulary) + at for at, word in enumerate(sorted(strange))}


def _flatten(captions: Sequence[Tokens], vocabulary: dict[str, int]) -> tuple[Ints, Ints, Ints]:
    """All words as numbers, and for each its caption and where that ends, (words,) each."""
    words = np.fromiter(map(vocabulary.__getitem__, chain.from_iterable(captions)), dtype=np.int64)
    lengths = np.fromiter(map(len, captions), dtype=np.int64, count=len(captions))
    caption_of = np.repeat(np.arange(len(captions)), lengths)
    return words, caption_of, np.cumsum(lengths)[caption_of]


def _keys(starts: Ints, ids: Ints, words: Ints, ends: Ints, order: int) -> tuple[Ints, Ints]:
    """From the numbers of the (n-1)-grams at ``starts`` to the keys of the n-grams that fit."""
    fits = starts + order <= ends[starts]
    starts = starts[fits]
    return starts, (ids[fits] << _KEY_BITS) | words[starts + order - 1]


def _distinct(keys: Ints) -> tuple[Ints, Ints]:
    """The distinct values of sorted keys, and where each begins."""
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[first], first


def _number(keys: Ints) -> tuple[Ints, Ints]:
    """The distinct keys in order, and for each key its place among them.

    (`numpy.unique` does the same at half the speed.)
    """
    order = np.argsort(keys)
    in_order = keys[order]
    new = np.diff(in_order, prepend=-1) != 0
    places = np.empty(len(keys), dtype=np.int64)
    places[order] = np.cumsum(new) - 1
    return in_order[new], places


def _look_up(known: Ints, keys: Ints) -> Ints:
    """The place of each key in the sorted ``known``; strangers are numbered from its length on."""
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

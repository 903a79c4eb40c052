"""The alignment of candidate and reference: which of the possible matches are taken together.

No word may be covered twice. Denkowski and Lavie 2014, "Meteor Universal", ask for the alignment
that covers most words, then has the fewest chunks (runs of matches that stand side by side in both
captions), then the shortest distances between matched words. The Java program looks for it with a
beam of 40 partial alignments that read the reference from left to right, and so does this module,
for all pairs at once; a partial alignment is a row of arrays.

What the program does differs from the paper in ways that decide about scores, and that are
followed here:

- "most words" counts an exact match once for each word on each side, any other match half of that,
  rounded down on each side: a single word with the same stem counts nothing;
- the distance of a match is added to all alternatives to it that come later in the same place, and
  not to the alignment that takes it;
- a match whose words nothing else could cover is taken at once, before the search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from captioner.metrics.meteor.matches import EXACT, Matches
from captioner.metrics.meteor.ragged import expand, rank_in_list, sum_before

BEAM_SIZE = 40

_NONE = -1  # no match was taken just before
_MASK_BITS = 62  # of a signed 64-bit number


@dataclass
class _Paths:
    """Partial alignments, those of one pair together. All attributes but two are (paths,).

    Attributes:
        pair: Which pair of captions.
        place: Next word of the reference.
        last_end: End of the last match in the candidate, or _NONE.
        covered: Words covered as the program counts them.
        chunks: Those that are closed.
        distance: As the program counts it.
        used: Words of the candidate that are covered, as bits, (paths, masks).
        taken: Sum of the contents of the matches taken, (paths, kinds).
    """

    pair: np.ndarray
    place: np.ndarray
    last_end: np.ndarray
    covered: np.ndarray
    chunks: np.ndarray
    distance: np.ndarray
    used: np.ndarray
    taken: np.ndarray

    @classmethod
    def empty(cls, n_pairs: int, n_masks: int, n_kinds: int) -> _Paths:
        """One path for each pair, before its first word."""
        place, covered, chunks, distance = np.zeros((4, n_pairs), dtype=np.int64)
        last_end = np.full(n_pairs, _NONE)
        used = np.zeros((n_pairs, n_masks), dtype=np.int64)
        taken = np.zeros((n_pairs, n_kinds), dtype=np.int32)
        return cls(np.arange(n_pairs), place, last_end, covered, chunks, distance, used, taken)

    def __getitem__(self, rows: np.ndarray) -> _Paths:
        return _Paths(*(column[rows] for column in vars(self).values()))

    def best(self, n: int) -> _Paths:
        """The n best of each pair, in order; of equally good ones the first remains the first."""
        order = np.lexsort((self.distance, self.chunks, -self.covered, self.pair))
        return self[order[rank_in_list(self.pair[order]) < n]]

    def close_chunk(self, rows: np.ndarray) -> None:
        """Ends the chunk of some paths, if one is open."""
        self.chunks[rows] += self.last_end[rows] != _NONE
        self.last_end[rows] = _NONE

    def take(self, rows: np.ndarray, matches: Matches) -> None:
        """Goes behind one match for each of some paths."""
        last_end = self.last_end[rows]
        self.chunks[rows] += (last_end != _NONE) & (last_end != matches.other_start)
        self.last_end[rows] = matches.other_start + matches.other_length
        self.place[rows] = matches.start + matches.length


def align(
    matches: Matches, lengths: np.ndarray, other_lengths: np.ndarray, contents: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses among possible matches.

    Args:
        matches: All of them.
        lengths: Words of the reference of each pair, (pairs,).
        other_lengths: Words of the candidate of each pair, (pairs,).
        contents: What is to be counted of each match, (matches, kinds).

    Returns:
        The counts of the matches chosen, (pairs, kinds), and the number of chunks, (pairs,).
    """
    # Each word of each reference has a slot; the matches that begin there are its options.
    first_slot = np.cumsum(lengths) - lengths
    slot = first_slot[matches.pair] + matches.start
    n_slots = int(lengths.sum())
    certain = _certain(matches, slot, other_lengths)
    certain_at = np.full(n_slots, _NONE)
    certain_at[slot[certain]] = np.flatnonzero(certain)
    options = matches[~certain]
    n_options = np.bincount(slot[~certain], minlength=n_slots)
    first_option = np.cumsum(n_options) - n_options
    masks = _masks(options, int(other_lengths.max(initial=1)))
    search = _Search(options, masks, _worth(options), contents[~certain])

    paths = _Paths.empty(len(lengths), masks.shape[1], contents.shape[1])
    finished = []
    for place in range(int(lengths.max(initial=0)) + 1):
        paths = paths.best(BEAM_SIZE)
        ended = lengths[paths.pair] == place
        finished.append(paths[ended])
        paths = paths[~ended]
        here = first_slot[paths.pair] + place
        ready = paths.place == place  # the others stand within a longer match
        match = np.where(ready, certain_at[here], _NONE)
        rows = np.flatnonzero(match != _NONE)
        paths.take(rows, matches[match[rows]])
        open_rows = np.flatnonzero(ready & (match == _NONE))
        at = here[open_rows]
        paths = search.branch(paths, open_rows, first_option[at], n_options[at])

    paths = _concatenate(finished)
    paths.close_chunk(np.arange(len(paths.pair)))
    paths = paths.best(1)
    np.add.at(paths.taken, matches.pair[certain], contents[certain])
    return paths.taken, paths.chunks


@dataclass(frozen=True)
class _Search:
    """What may be chosen between; attributes are (options, …)."""

    options: Matches
    masks: np.ndarray
    worth: np.ndarray
    contents: np.ndarray

    def branch(
        self, paths: _Paths, rows: np.ndarray, first_option: np.ndarray, n_options: np.ndarray
    ) -> _Paths:
        """Lets some paths take each match that is open to them, or none.

        Args:
            paths: All paths; changed.
            rows: Those at a word with options, (rows,).
            first_option: First match at the word of each, (rows,).
            n_options: Matches there, (rows,).

        Returns:
            All paths, before each the new ones that sprang from it.
        """
        parent = np.repeat(rows, n_options)
        option = expand(first_option, n_options)
        fits = ~(paths.used[parent] & self.masks[option]).any(axis=1)
        parent, option = parent[fits], option[fits]
        taken = self.options[option]

        new = paths[parent]
        new.used |= self.masks[option]
        new.covered += self.worth[option]
        new.taken += self.contents[option]
        new.take(np.arange(len(parent)), taken)
        distance = np.abs(taken.start - taken.other_start)
        new.distance += sum_before(distance, parent)

        paths.distance += np.bincount(parent, distance, len(paths.pair)).astype(np.int64)
        paths.close_chunk(rows)
        paths.place[rows] += 1
        family = np.concatenate([parent, np.arange(len(paths.pair))])
        return _concatenate([new, paths])[np.argsort(family, kind="stable")]


def _concatenate(parts: list[_Paths]) -> _Paths:
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return _Paths(*(np.concatenate(column) for column in columns))


def _certain(matches: Matches, slot: np.ndarray, other_lengths: np.ndarray) -> np.ndarray:
    """Whether a match covers no word that another one covers too, (matches,)."""
    other_slot = (np.cumsum(other_lengths) - other_lengths)[matches.pair] + matches.other_start
    certain = np.ones(len(slot), dtype=bool)
    for begin, length in ((slot, matches.length), (other_slot, matches.other_length)):
        coverage = np.bincount(expand(begin, length))
        total = np.cumsum(np.append(0, coverage))
        certain &= total[begin + length] - total[begin] == length
    return certain


def _worth(matches: Matches) -> np.ndarray:
    halves = matches.length // 2 + matches.other_length // 2
    return np.where(matches.stage == EXACT, matches.length + matches.other_length, halves)


def _masks(matches: Matches, longest: int) -> np.ndarray:
    """The words that each match covers in its candidate, as bits, (matches, masks)."""
    first = np.arange(0, longest, _MASK_BITS)
    begin = np.clip(matches.other_start[:, np.newaxis] - first, 0, _MASK_BITS)
    end = matches.other_start + matches.other_length
    return (1 << np.clip(end[:, np.newaxis] - first, 0, _MASK_BITS)) - (1 << begin)

"""The alignment of candidate and reference: the set of matches that covers each word at most once.

Denkowski and Lavie 2014, "Meteor Universal", define the best alignment as the one that covers the
most words, then has the fewest chunks (runs of matches adjacent in both captions), then the
shortest distances between matched words. Like the Java program, this module searches for it with a
beam of 40 partial alignments from left to right through the reference. It processes all pairs at
once; a partial alignment is a row of arrays.

The Java program differs from the paper in ways that affect scores. This module follows it:

- An exact match covers one word per word and side. Any other match covers half of its words,
  rounded down on each side, so a single word with the same stem covers none.
- The distance of a match is added to all later alternatives at the same position, and not to the
  alignment that contains the match.
- A match whose words no other match could cover is taken before the search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from captioner.metrics.meteor.matches import EXACT, Matches
from captioner.metrics.meteor.ragged import expand, rank_in_list, sum_before

BEAM_SIZE = 40

_NONE = -1  # the previous word has no match
_MASK_BITS = 62  # of a signed 64-bit number


@dataclass
class _Paths:
    """Partial alignments, grouped by pair. All attributes but the last two are (paths,).

    Attributes:
        pair: Index of the pair of captions.
        place: Next word of the reference.
        last_end: End of the last match in the candidate, or _NONE.
        covered: Words covered, counted as in the Java program.
        chunks: Number of closed chunks.
        distance: Total distance, counted as in the Java program.
        used: Bit masks of the candidate's covered words, (paths, masks).
        taken: Summed contents of the matches taken, (paths, kinds).
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
        """Return one empty path per pair."""
        place, covered, chunks, distance = np.zeros((4, n_pairs), dtype=np.int64)
        last_end = np.full(n_pairs, _NONE)
        used = np.zeros((n_pairs, n_masks), dtype=np.int64)
        taken = np.zeros((n_pairs, n_kinds), dtype=np.int32)
        return cls(np.arange(n_pairs), place, last_end, covered, chunks, distance, used, taken)

    def __getitem__(self, rows: np.ndarray) -> _Paths:
        return _Paths(*(column[rows] for column in vars(self).values()))

    def best(self, n: int) -> _Paths:
        """Return the n best paths of each pair, sorted; the sort is stable."""
        order = np.lexsort((self.distance, self.chunks, -self.covered, self.pair))
        return self[order[rank_in_list(self.pair[order]) < n]]

    def close_chunk(self, rows: np.ndarray) -> None:
        """Close the open chunk, if any, of the given paths."""
        self.chunks[rows] += self.last_end[rows] != _NONE
        self.last_end[rows] = _NONE

    def take(self, rows: np.ndarray, matches: Matches) -> None:
        """Advance the given paths past one match each."""
        last_end = self.last_end[rows]
        self.chunks[rows] += (last_end != _NONE) & (last_end != matches.other_start)
        self.last_end[rows] = matches.other_start + matches.other_length
        self.place[rows] = matches.start + matches.length


def align(
    matches: Matches, lengths: np.ndarray, other_lengths: np.ndarray, contents: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the best alignment of each pair.

    Args:
        matches: All possible matches.
        lengths: Number of words of the reference of each pair, (pairs,).
        other_lengths: Number of words of the candidate of each pair, (pairs,).
        contents: Counts to sum over the chosen matches, (matches, kinds).

    Returns:
        The summed counts of the chosen matches, (pairs, kinds), and the number of chunks, (pairs,).
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
        ready = paths.place == place  # the others are inside a longer match
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
    """The matches to choose from. Attributes are (options, …)."""

    options: Matches
    masks: np.ndarray
    worth: np.ndarray
    contents: np.ndarray

    def branch(
        self, paths: _Paths, rows: np.ndarray, first_option: np.ndarray, n_options: np.ndarray
    ) -> _Paths:
        """Branch paths into one child per match that fits, and one that takes none.

        Args:
            paths: All paths; changed in place.
            rows: Indices of the paths at a word with options, (rows,).
            first_option: First match at the word of each, (rows,).
            n_options: Number of matches there, (rows,).

        Returns:
            All paths, each preceded by its children.
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
    """Return whether each match covers only words that no other match covers, (matches,)."""
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
    """Return bit masks of the candidate's words covered by each match, (matches, masks)."""
    first = np.arange(0, longest, _MASK_BITS)
    begin = np.clip(matches.other_start[:, np.newaxis] - first, 0, _MASK_BITS)
    end = matches.other_start + matches.other_length
    return (1 << np.clip(end[:, np.newaxis] - first, 0, _MASK_BITS)) - (1 << begin)

"""METEOR's paraphrase table as sorted arrays of hashes: 49 MB instead of 272 MB of text.

The file is gzipped text with three lines per row: a probability (not used by METEOR 1.5), a phrase
and its paraphrase. Reading five million rows takes a few seconds. So the arrays are cached in the
user's cache folder, under a name that contains the digest of the source file.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from captioner.errors import CaptionerError
from captioner.files.atomic import whole_file
from captioner.files.lock import take_lock
from captioner.metrics.meteor.phrase_hash import HashedText
from captioner.metrics.meteor.ragged import expand

_FORMAT = 1  # of the cached file; changing it invalidates old files
# Bytes of text read at a time. Together with an incomplete last row this stays below a power of
# two, so that all blocks share one table of powers (`phrase_hash`).
_BLOCK = (1 << 19) - (1 << 14)


@dataclass(frozen=True)
class ParaphraseTable:
    """The paraphrases of each phrase.

    Attributes:
        phrases: Sorted hashes of the phrases that have paraphrases, (phrases,) uint64.
        begin: First row of each phrase, then the end of the last, (phrases + 1,).
        paraphrases: Hashes of the paraphrases, in file order within a phrase, (rows,) uint64.
        longest: Number of words of the longest phrase or paraphrase.
    """

    phrases: np.ndarray
    begin: np.ndarray
    paraphrases: np.ndarray
    longest: int

    def among(self, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows whose phrase and paraphrase are both in `known`.

        Args:
            known: Sorted, distinct hashes, (known,).

        Returns:
            Index of the phrase and of its paraphrase in `known`, (found,) both, sorted by phrase,
            then in file order.
        """
        phrase, at = _find(self.phrases, known)
        count = self.begin[at + 1] - self.begin[at]
        row = expand(self.begin[at], count)
        wanted, paraphrase = _find(known, self.paraphrases[row])
        return np.repeat(phrase, count)[wanted], paraphrase


def _find(sorted_keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the wanted keys that exist, and their positions, (found,) both."""
    place = np.searchsorted(sorted_keys, wanted)
    place[place == len(sorted_keys)] = 0
    found = np.flatnonzero(sorted_keys[place] == wanted) if len(sorted_keys) else place[:0]
    return found, place[found]


def load_table(path: Path) -> ParaphraseTable:
    """Return the table of a gzipped file, from the cache if possible.

    Raises:
        OSError, EOFError, ValueError: As in `read_table`.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "blake2b").hexdigest()[:16]
    folder = _cache_folder()
    if folder is None:
        return read_table(path)
    kept = folder / f"paraphrases-{_FORMAT}-{digest}.npz"
    table = _kept(kept)
    if table is None:
        table = read_table(path)
        with suppress(OSError, CaptionerError):  # an unwritable cache only costs time
            _keep(table, kept)
    return table


def _kept(path: Path) -> ParaphraseTable | None:
    """Return the cached table, or None if there is no valid one."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return ParaphraseTable(
                arrays["phrases"], arrays["begin"], arrays["paraphrases"], int(arrays["longest"])
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _keep(table: ParaphraseTable, path: Path) -> None:
    """Write the table atomically, unless another process is writing it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / "lock").open("ab") as lock:
        if not take_lock(lock):
            return
        with whole_file(path) as file:
            np.savez(
                file,
                phrases=table.phrases,
                begin=table.begin,
                paraphrases=table.paraphrases,
                longest=np.array(table.longest),
            )


def _cache_folder() -> Path | None:
    """Return the user's cache folder, or None for a user without a home folder."""
    if root := os.environ.get("XDG_CACHE_HOME"):
        return Path(root) / "captioner"
    try:
        return Path.home() / ".cache" / "captioner"
    except RuntimeError:
        return None


def read_table(path: Path) -> ParaphraseTable:
    """Read the table from a gzipped file, block by block.

    Raises:
        OSError: There is no such file, or it is not gzipped.
        EOFError: The file is truncated.
        ValueError: The file has no rows.
    """
    pieces = [_hash_rows(block) for block in _blocks(path)]
    phrases = np.concatenate([piece[0] for piece in pieces])
    paraphrases = np.concatenate([piece[1] for piece in pieces])
    longest = max(piece[2] for piece in pieces)
    pieces.clear()
    # The rows of a phrase are adjacent, so sort runs instead of rows.
    run = np.flatnonzero(np.append(True, phrases[1:] != phrases[:-1]))
    count = np.diff(run, append=len(phrases))
    phrases = phrases[run]
    order = np.argsort(phrases, kind="stable")
    phrases, run, count = phrases[order], run[order], count[order]
    paraphrases = paraphrases[expand(run, count)]
    new = np.append(True, phrases[1:] != phrases[:-1])
    begin = np.append((np.cumsum(count) - count)[new], len(paraphrases))
    return ParaphraseTable(phrases[new], begin, paraphrases, longest)


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield blocks of complete rows."""
    rest = b""
    with gzip.open(path) as file:
        while piece := file.read(_BLOCK):
            rest += piece
            surplus = rest.count(b"\n") % 3
            end = len(rest)
            for _ in range(surplus + 1):
                end = rest.rfind(b"\n", 0, end)
            if end >= 0:
                yield rest[: end + 1]
                rest = rest[end + 1 :]


def _hash_rows(block: bytes) -> tuple[np.ndarray, np.ndarray, int]:
    """Hash phrases and paraphrases, (rows,) each; return also the word count of the longest."""
    letters = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(letters == ord("\n")).reshape(-1, 3)
    text = HashedText(block)
    phrases = text.hashes(ends[:, 0] + 1, ends[:, 1])
    paraphrases = text.hashes(ends[:, 1] + 1, ends[:, 2])
    blanks = np.searchsorted(np.flatnonzero(letters == ord(" ")), ends)
    return phrases, paraphrases, int(np.diff(blanks, axis=1).max()) + 1

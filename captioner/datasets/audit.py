"""Audit of a data set across entries: leaks between splits, and untidy data.

A leak inflates scores: a photo both trained on and scored, or a vocabulary built from held-out
captions. All other findings lose data or distort scores slightly. Equal captions in two splits are
not a leak by themselves, because people describe similar photos alike and templates repeat. But
photos with all captions in common should be inspected.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from captioner.datasets.records import Kind, Problem, Record
from captioner.photos.near_duplicates import (
    Fingerprint,
    difference_hash,
    like_hashes,
    same_colours,
)
from captioner.text.vocabulary import SPECIAL_WORDS
from captioner.text.word_tokenizers import tokenize_by


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        what: What was checked for.
        leak: Whether it inflates scores.
        where: Where it was found, one line each; empty if it was not found.
        unchecked: Why the check was skipped; None if it was done.
    """

    what: str
    leak: bool
    where: tuple[str, ...]
    unchecked: str | None = None


def audit_captions(records: Sequence[Record], tokenizer: str = "ptb") -> list[Finding]:
    """Find captions shared by photos of two splits, or repeated for one photo.

    Args:
        records: Records of all splits.
        tokenizer: Name of the tokenizer by whose words captions are compared.
    """
    texts = _texts(records, tokenizer)
    heard: dict[str, dict[str, Record]] = defaultdict(dict)  # caption -> split -> a photo
    whole: dict[frozenset[str], dict[str, Record]] = defaultdict(dict)
    doubled = []
    for record, captions in zip(records, texts, strict=True):
        for caption in captions:
            heard[caption].setdefault(record.split, record)
        if len(set(captions)) > 1:  # a single caption may describe two photos
            whole[frozenset(captions)].setdefault(record.split, record)
        often = [caption for caption, count in Counter(captions).items() if count > 1]
        doubled += [f"{record.path.name} ({record.split}): {caption}" for caption in often]
    alike = [f"all captions of {_places(found)}" for found in whole.values() if len(found) > 1]
    trained = [
        f"{caption}: {_places({'train': heard[caption]['train'], record.split: record})}"
        for record, captions in zip(records, texts, strict=True)
        if record.split != "train"
        for caption in captions
        if caption and "train" in heard[caption]
    ]
    return [
        Finding("photos with the same captions as a photo in another split", False, tuple(alike)),
        Finding("held-out captions that also occur in the training split", False, tuple(trained)),
        Finding("captions repeated for one photo", False, tuple(doubled)),
    ]


def audit_vocabulary(
    records: Sequence[Record],
    words: Collection[str] | None,
    unchecked: str | None = None,
    *,
    tokenizer: str = "ptb",
) -> Finding:
    """Find words of a vocabulary that occur only in held-out captions.

    Args:
        records: Records of all splits.
        words: The vocabulary; None to skip the check.
        unchecked: Why the check is skipped.
        tokenizer: Name of the vocabulary's tokenizer.
    """
    what = "words of the vocabulary that occur only in held-out captions"
    if words is None:
        return Finding(what, True, (), unchecked)
    trained: set[str] = set()
    held_out: set[str] = set()
    for record in records:
        known = trained if record.split == "train" else held_out
        for caption in tokenize_by(tokenizer, record.captions):
            known.update(caption)
    leaked = sorted((held_out - trained).intersection(words).difference(SPECIAL_WORDS))
    return Finding(what, True, tuple(leaked))


def audit_photos(
    records: Sequence[Record], fingerprints: Sequence[Fingerprint], radius: int
) -> list[Finding]:
    """Find photos that occur under different names in two splits, or twice in one.

    Args:
        records: Records of all splits.
        fingerprints: Fingerprints of their photos.
        radius: Maximum number of differing bits in the hashes of similar photos.
    """
    by_digest: dict[bytes, list[Record]] = defaultdict(list)
    for record, fingerprint in zip(records, fingerprints, strict=True):
        by_digest[fingerprint.digest].append(record)
    shared, doubled = [], []
    for group in by_digest.values():
        if len({record.split for record in group}) > 1:
            shared.append(_named(group))
        elif len(group) > 1:
            doubled.append(_named(group))
    alike = [
        f"{_named([records[one], records[other]])}, {bits} bits apart"
        for one, other, bits in _look_alikes(fingerprints, radius)
        if records[one].split != records[other].split
        and fingerprints[one].digest != fingerprints[other].digest
    ]
    return [
        Finding("files with the same bytes in two splits", True, tuple(shared)),
        Finding(f"photos that look alike in two splits (radius {radius})", True, tuple(alike)),
        Finding("files with the same bytes in one split", False, tuple(doubled)),
    ]


def audit_problems(problems: Sequence[Problem], unreadable: Mapping[str, str]) -> list[Finding]:
    """Return the problems found while reading the data set.

    Args:
        problems: Problems of the source.
        unreadable: Photos that cannot be decoded, with the reason.
    """
    by_kind: dict[Kind, list[str]] = {kind: [] for kind in Kind}
    for problem in problems:
        by_kind[problem.kind].append(str(problem))
    findings = [
        Finding(kind.value, kind is Kind.IN_TWO_SPLITS, tuple(where))
        for kind, where in by_kind.items()
    ]
    bad = tuple(f"{path}: {reason}" for path, reason in unreadable.items())
    return [*findings, Finding("photos that cannot be read", False, bad)]


def _look_alikes(
    fingerprints: Sequence[Fingerprint], radius: int
) -> Iterator[tuple[int, int, int]]:
    """Yield pairs of similar photos and the number of differing bits of their hashes."""
    if not fingerprints:
        return
    thumbnails = np.stack([fingerprint.thumbnail for fingerprint in fingerprints])
    bits = difference_hash(thumbnails)
    first, second = like_hashes(bits, radius)
    alike = same_colours(thumbnails, first, second)
    for one, other in zip(first[alike].tolist(), second[alike].tolist(), strict=True):
        yield one, other, int((bits[one] != bits[other]).sum())


def _texts(records: Sequence[Record], tokenizer: str) -> list[list[str]]:
    """Return the captions of each record in lower case without punctuation, for comparison."""
    captions = [caption for record in records for caption in record.captions]
    flat = iter(tokenize_by(tokenizer, captions))
    return [[" ".join(next(flat)) for _ in record.captions] for record in records]


def _places(found: Mapping[str, Record]) -> str:
    return _named(list(found.values()))


def _named(records: Sequence[Record]) -> str:
    return " = ".join(f"{record.path.name} ({record.split})" for record in records)

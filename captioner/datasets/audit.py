"""What is wrong with a data set that no single entry shows: leaks between splits, and untidiness.

A leak makes scores too good: a photo that is trained on and scored, or a vocabulary that has seen
held-out captions. Everything else found here costs data or makes scores a little odd. Captions that
stand under photos of two splits are no leak by themselves: people say the same of like photos, and
sentences made by a template repeat. Where all captions of two photos are the same, look at them.
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
from captioner.text.tokenizer import tokenize_all
from captioner.text.vocabulary import SPECIAL_WORDS


@dataclass(frozen=True)
class Finding:
    """One kind of thing that was looked for.

    Attributes:
        what: What that is.
        leak: Whether it makes scores too good.
        where: Where it was found, a line each; empty if it was not.
        unchecked: Why it was not looked for; None if it was.
    """

    what: str
    leak: bool
    where: tuple[str, ...]
    unchecked: str | None = None


def audit_captions(records: Sequence[Record]) -> list[Finding]:
    """Return captions that stand under several photos, or twice under one."""
    texts = _texts(records)
    heard: dict[str, dict[str, Record]] = defaultdict(dict)  # text to a photo of each split
    whole: dict[frozenset[str], dict[str, Record]] = defaultdict(dict)
    doubled = []
    for record, captions in zip(records, texts, strict=True):
        for caption in captions:
            heard[caption].setdefault(record.split, record)
        if len(set(captions)) > 1:  # one sentence alone may well be said of two photos
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
        Finding(
            "photos whose captions are all those of a photo in another split", False, tuple(alike)
        ),
        Finding("held-out captions that stand in the training split too", False, tuple(trained)),
        Finding("captions that stand twice under one photo", False, tuple(doubled)),
    ]


def audit_vocabulary(
    records: Sequence[Record], words: Collection[str] | None, unchecked: str | None = None
) -> Finding:
    """Return words that a vocabulary can only have from held-out captions.

    Args:
        records: Of all splits.
        words: The vocabulary; None if there is none.
        unchecked: Then: why not.
    """
    what = "words of the vocabulary that only held-out captions have"
    if words is None:
        return Finding(what, True, (), unchecked)
    trained: set[str] = set()
    held_out: set[str] = set()
    for record in records:
        known = trained if record.split == "train" else held_out
        for caption in tokenize_all(list(record.captions)):
            known.update(caption)
    leaked = sorted((held_out - trained).intersection(words).difference(SPECIAL_WORDS))
    return Finding(what, True, tuple(leaked))


def audit_photos(
    records: Sequence[Record], fingerprints: Sequence[Fingerprint], radius: int
) -> list[Finding]:
    """Return photos that stand in two splits, or twice in one, under different names.

    Args:
        records: Of all splits.
        fingerprints: Of their photos.
        radius: Bits in which the hashes of photos that look alike may differ.
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
    """Return what reading the data set has shown.

    Args:
        problems: Of the source.
        unreadable: Photos that are no photos, with the reason.
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
    """Yield pairs of photos that look alike, and the bits in which their hashes differ."""
    if not fingerprints:
        return
    thumbnails = np.stack([fingerprint.thumbnail for fingerprint in fingerprints])
    bits = difference_hash(thumbnails)
    first, second = like_hashes(bits, radius)
    alike = same_colours(thumbnails, first, second)
    for one, other in zip(first[alike].tolist(), second[alike].tolist(), strict=True):
        yield one, other, int((bits[one] != bits[other]).sum())


def _texts(records: Sequence[Record]) -> list[list[str]]:
    """The captions of each record as the words that are compared: lower case, no punctuation."""
    flat = iter(tokenize_all([caption for record in records for caption in record.captions]))
    return [[" ".join(next(flat)) for _ in record.captions] for record in records]


def _places(found: Mapping[str, Record]) -> str:
    return _named(list(found.values()))


def _named(records: Sequence[Record]) -> str:
    return " = ".join(f"{record.path.name} ({record.split})" for record in records)

"""Photos divided into splits by a seeded hash of their names, where a source gives no splits.

A photo's split depends on its name and the seed alone, so it needs no file, holds on every machine,
and stays when photos are added.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from captioner.datasets.records import SPLITS, UNDIVIDED, Loaded, Record
from captioner.errors import UsageError, shown


def parse_shares(text: str) -> tuple[float, float, float]:
    """Share of train, val and test, which sum to 1, from `80/10/10`; two leave test empty.

    Raises:
        UsageError: It is not of this form.

    Example:
        >>> parse_shares("80/10/10")
        (0.8, 0.1, 0.1)
        >>> parse_shares("9/1")
        (0.9, 0.1, 0.0)
    """
    try:
        parts = [float(part) for part in text.split("/")]
    except ValueError:
        parts = []
    if len(parts) == 2:
        parts.append(0.0)
    finite = all(0 <= part < 1e9 for part in parts)  # (not a number compares as false)
    if len(parts) != 3 or not finite or parts[0] <= 0:
        raise UsageError(
            f"data.split: {shown(text)}: write the shares of train, val and test, as 80/10/10"
        )
    train, val, test = (part / sum(parts) for part in parts)
    return train, val, test


def position(name: str, seed: int) -> float:
    """Return where a photo stands from 0 up to 1, evenly spread over names.

    Args:
        name: Its name, in any Unicode form.
        seed: Another one gives another order.
    """
    text = f"{seed}/{unicodedata.normalize('NFC', name)}"
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=7).digest()
    return int.from_bytes(digest) / 2**56


def split_of(name: str, shares: Sequence[float], seed: int = 0) -> str:
    """Return the split of a photo by its name.

    Args:
        name: Its name.
        shares: Of train, val and test; they sum to 1.
        seed: Another one divides the photos otherwise.

    Example:
        >>> split_of("holiday/beach.jpg", (1.0, 0.0, 0.0))
        'train'
    """
    at = position(name, seed)
    ends = list(accumulate(shares))
    return next((split for split, end in zip(SPLITS, ends, strict=True) if at < end), "train")


def divide(loaded: Loaded, shares: Sequence[float], seed: int = 0) -> Loaded:
    """Return records without a split with one each; a note says how many each split has got.

    In a small set a split may get no photo by chance; it then takes one from the training split.

    Args:
        loaded: What a source held.
        shares: Of train, val and test; they sum to 1.
        seed: Another one divides the photos otherwise.
    """
    undivided = [record for record in loaded.records if record.split == UNDIVIDED]
    if not undivided:
        return loaded
    splits = {record.path: split_of(str(record.image_id), shares, seed) for record in undivided}
    trained = sorted(
        (record for record in undivided if splits[record.path] == "train"),
        key=lambda record: position(str(record.image_id), seed),
    )
    for split, share in zip(SPLITS, shares, strict=True):
        if share > 0 and split not in splits.values() and len(trained) > 1:
            splits[trained.pop().path] = split
    records: list[Record] = [
        replace(record, split=splits[record.path]) if record.split == UNDIVIDED else record
        for record in loaded.records
    ]
    counts = [list(splits.values()).count(split) for split in SPLITS]
    told = ", ".join(f"{count:,} {split}" for count, split in zip(counts, SPLITS, strict=True))
    note = f"{len(undivided):,} photos without a split divided by their names (seed {seed}): {told}"
    return replace(loaded, records=records, notes=[*loaded.notes, note])

"""Division of photos into splits by a seeded hash of their names, for sources without splits.

The split of a photo depends only on its name and the seed. So it needs no file, is the same on
every machine, and does not change when photos are added.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate

from captioner.datasets.records import SPLITS, UNDIVIDED, Loaded, Record
from captioner.errors import UsageError, shown
from captioner.files.csv_rows import text_of


def parse_shares(text: str) -> tuple[float, float, float]:
    """Parse shares of train, val and test such as `80/10/10` and normalise them to sum to 1.

    Two shares leave the test split empty.

    Raises:
        UsageError: The text does not have this form.

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
            f"data.split: {shown(text)}; expected shares of train, val and test such as 80/10/10"
        )
    train, val, test = (part / sum(parts) for part in parts)
    return train, val, test


def position(name: str, seed: int) -> float:
    """Hash a photo's name to a number in [0, 1), uniformly distributed over names.

    Args:
        name: Name of the photo, in any Unicode normalisation form.
        seed: Seed of the hash.
    """
    text = f"{seed}/{unicodedata.normalize('NFC', name)}"
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=7).digest()
    return int.from_bytes(digest) / 2**56


def split_of(name: str, shares: Sequence[float], seed: int = 0) -> str:
    """Return the split of a photo by its name.

    Args:
        name: Name of the photo.
        shares: Shares of train, val and test, which sum to 1.
        seed: Seed of the division.

    Example:
        >>> split_of("holiday/beach.jpg", (1.0, 0.0, 0.0))
        'train'
    """
    at = position(name, seed)
    ends = list(accumulate(shares))
    return next((split for split, end in zip(SPLITS, ends, strict=True) if at < end), "train")


def divide(loaded: Loaded, shares: Sequence[float], seed: int = 0) -> Loaded:
    """Assign a split to each record without one, and add a note with the counts.

    If a split of a small set gets no photo by chance, it takes one from the training split.

    Args:
        loaded: The content of a source.
        shares: Shares of train, val and test, which sum to 1.
        seed: Seed of the division.
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


def splits_table(records: Iterable[Record]) -> str:
    r"""Return a CSV table of the split of each photo, sorted by image id.

    Example:
        >>> from pathlib import Path
        >>> splits_table([Record("a.jpg", Path("a.jpg"), ("a dog",), "val")])
        'image,split\r\na.jpg,val\r\n'
    """
    rows = sorted((str(record.image_id), record.split) for record in records)
    return text_of([("image", "split"), *rows])

"""Audit a data set for leakage between splits and for damaged data."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

from captioner.build import read_records
from captioner.config.schema import DataConfig
from captioner.console import Progress
from captioner.datasets.audit import (
    Finding,
    audit_captions,
    audit_photos,
    audit_problems,
    audit_vocabulary,
)
from captioner.datasets.records import SPLITS, Record, by_split
from captioner.photos.decode import PhotoError
from captioner.photos.near_duplicates import Fingerprint
from captioner.tables import Table
from captioner.text.vocabulary import Vocabulary

_READERS = 4
_AHEAD = 1000  # photos submitted to the readers at a time
_EXAMPLES = 2  # examples per table row; JSON holds all
_WIDTH = 120
_LEFT = frozenset({0, 1, 3})


@dataclass(frozen=True)
class Audit:
    """Result of an audit.

    Attributes:
        photos: Number of photos of each split.
        findings: All findings, leakage first.
        notes: Notes of the data source.
    """

    photos: dict[str, int]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def leaks(self) -> int:
        """Number of leaks between splits."""
        return sum(len(finding.where) for finding in self.findings if finding.leak)

    def tables(self) -> list[Table]:
        """Return a table of all checks, with the number of findings and the first examples."""
        rows = [
            (
                "leak" if finding.leak else "note",
                finding.what,
                "?" if finding.unchecked else f"{len(finding.where):,}",
                finding.unchecked or shorten("; ".join(finding.where[:_EXAMPLES]), _WIDTH),
            )
            for finding in self.findings
        ]
        return [Table(("", "looked for", "found", "for example"), tuple(rows), left=_LEFT)]

    def summary(self) -> list[str]:
        """Return the lines below the table."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.photos.items())
        verdict = "no leak" if not self.leaks else f"{self.leaks:,} leak{'s' * (self.leaks > 1)}"
        return [*self.notes, f"{counts} photos with captions; {verdict}"]

    def content(self) -> dict[str, Any]:
        """Return all findings as JSON values."""
        return {
            "photos": self.photos,
            "leaks": self.leaks,
            "findings": [
                {
                    "what": finding.what,
                    "leak": finding.leak,
                    "checked": finding.unchecked is None,
                    "count": len(finding.where),
                    "where": list(finding.where),
                }
                for finding in self.findings
            ],
            "notes": list(self.notes),
        }


def audit(data: DataConfig, vocabulary: Path, *, radius: int, tokenizer: str = "ptb") -> Audit:
    """Audit a data set; every photo is decoded once.

    Args:
        data: Configuration of the data set.
        vocabulary: Vocabulary file to check, if it exists.
        radius: Maximum number of differing bits, of 128, between hashes of photos that look alike.
        tokenizer: Name of the tokenizer that the vocabulary and the captions need.

    Raises:
        CaptionerError: The data set has no usable record.
    """
    loaded = read_records(replace(data, on_problem="skip"))
    records = loaded.records
    fingerprints, unreadable = read_fingerprints(records)
    readable = [record for record in records if str(record.path) not in unreadable]
    findings = [
        *audit_problems(loaded.problems, unreadable),
        *audit_photos(readable, fingerprints, radius),
        *audit_captions(records, tokenizer),
        _check_vocabulary(vocabulary, records, tokenizer),
    ]
    return Audit(
        {split: len(by_split(records, split)) for split in SPLITS},
        tuple(sorted(findings, key=lambda finding: not finding.leak)),
        tuple(loaded.notes),
    )


def read_fingerprints(records: Sequence[Record]) -> tuple[list[Fingerprint], dict[str, str]]:
    """Return the fingerprints of readable photos, in order, and why the others are unreadable."""
    fingerprints = []
    unreadable = {}
    with ThreadPoolExecutor(_READERS) as readers, Progress("photos", len(records)) as bar:
        for begin in range(0, len(records), _AHEAD):
            some = records[begin : begin + _AHEAD]
            for record, found in zip(some, readers.map(_read, some), strict=True):
                if isinstance(found, str):
                    unreadable[str(record.path)] = found
                else:
                    fingerprints.append(found)
                bar.update()
    return fingerprints, unreadable


def _read(record: Record) -> Fingerprint | str:
    try:
        return Fingerprint.of(record.path)
    except PhotoError as error:
        return str(error)


def _check_vocabulary(path: Path, records: Sequence[Record], tokenizer: str) -> Finding:
    if path.is_file():
        words = Vocabulary.load(path, tokenizer).words
        return audit_vocabulary(records, words, tokenizer=tokenizer)
    return audit_vocabulary(records, None, f"no {path}: `captioner prepare` writes it")

"""A data set searched for leaks between splits and for broken entries, as tables or JSON."""

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
_AHEAD = 1000  # photos handed to the readers at a time
_EXAMPLES = 2  # in the table, and letters of them; JSON holds all
_WIDTH = 120
_LEFT = frozenset({0, 1, 3})


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        photos: How many each split has.
        findings: Leaks first.
        notes: What the source says of itself.
    """

    photos: dict[str, int]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def leaks(self) -> int:
        """How many leaks there are."""
        return sum(len(finding.where) for finding in self.findings if finding.leak)

    def tables(self) -> list[Table]:
        """For a person: each kind of thing looked for, with its number and first examples."""
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
        """What stands below the table."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.photos.items())
        verdict = "no leak" if not self.leaks else f"{self.leaks:,} leak{'s' * (self.leaks > 1)}"
        return [*self.notes, f"{counts} photos with captions; {verdict}"]

    def content(self) -> dict[str, Any]:
        """For a program: everything found."""
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


def audit(data: DataConfig, vocabulary: Path, *, radius: int) -> Audit:
    """Looks through a data set; every photo is decoded once.

    Args:
        data: The data set.
        vocabulary: File of a vocabulary to be checked, if it is there.
        radius: Bits of 128 in which the hashes of photos that look alike may differ.

    Raises:
        CaptionerError: Nothing of the data set can be used.
    """
    loaded = read_records(replace(data, on_problem="skip"))
    records = loaded.records
    fingerprints, unreadable = read_fingerprints(records)
    readable = [record for record in records if str(record.path) not in unreadable]
    findings = [
        *audit_problems(loaded.problems, unreadable),
        *audit_photos(readable, fingerprints, radius),
        *audit_captions(records),
        _check_vocabulary(vocabulary, records),
    ]
    return Audit(
        {split: len(by_split(records, split)) for split in SPLITS},
        tuple(sorted(findings, key=lambda finding: not finding.leak)),
        tuple(loaded.notes),
    )


def read_fingerprints(records: Sequence[Record]) -> tuple[list[Fingerprint], dict[str, str]]:
    """The fingerprints of the photos that can be read, in order, and why the others cannot."""
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


def _check_vocabulary(path: Path, records: Sequence[Record]) -> Finding:
    if path.is_file():
        return audit_vocabulary(records, Vocabulary.load(path).words)
    return audit_vocabulary(records, None, f"no {path}: `captioner prepare` writes it")

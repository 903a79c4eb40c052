r"""Captions as text, JSON Lines, CSV or a COCO result file.

A record of JSON Lines ::

    {"image": path, "caption": text, "log_prob": number}
    {"image": path, "error": reason}

and, where several captions per photo were asked for, ``"candidates"``: for each, best first (or in
the order drawn), ``caption``, ``log_prob``, ``score``, ``words`` and ``word_log_probs``. Logarithms
are natural; ``word_log_probs`` are those of ``words``, the end word included, and sum to
``log_prob``; ``score`` is what ranked the caption. Where attention was asked for, ``"attention"``
of the caption, and of each candidate: ``grid`` (rows and columns of the regions), ``words``,
``weights`` (a row of region weights for each word) and, of a network with a sentinel, ``sentinel``;
``boxes`` (left, top, right and bottom edge in pixels) where a detector found the regions.

Whatever file names and captions hold, every record is one line of valid UTF-8. JSON keeps names
exactly; text and CSV show control characters, line ends and bytes that are not UTF-8 as escapes
(``\n``, ``\xff``), and a CSV cell never starts a formula (see `captioner.display`).
"""

import csv
import io
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from captioner.display import csv_cell, json_line, one_line
from captioner.files.atomic import named_output
from captioner.photos.paths import image_of_photo

if TYPE_CHECKING:
    from captioner.inference.result import Candidate, PhotoCaptions

FORMATS = ("text", "jsonl", "csv", "coco")


class RecordWriter:
    """Writes one record per photo.

    Args:
        file: where to.
        form: one of `FORMATS`.
        candidates: whether the records of JSON Lines list all captions of a photo.

    Attributes:
        renamed: photos of a COCO file whose ``image_id`` is their path, because another photo has
            their name.
        repeated: photos that were named again; a COCO file holds each once.
    """

    def __init__(self, file: IO[str], form: str, *, candidates: bool = False) -> None:
        self.file = file
        self.form = form
        self.candidates = candidates
        self.renamed = self.repeated = 0
        self._ids: set[int | str] = set()
        self._paths: set[str] = set()
        self._csv = csv.writer(file, lineterminator="\n")
        if form == "csv":
            self._csv.writerow(("image", "caption", "error"))

    def write(self, result: "PhotoCaptions") -> None:
        """Write one record and flush it."""
        self.write_record(record_of(result, candidates=self.candidates))
        self.file.flush()

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write one record, as `record_of` makes it."""
        path, caption, error = record["image"], record.get("caption", ""), record.get("error")
        if self.form == "text":
            text = caption if error is None else f"error: {error}"
            self.file.write(f"{one_line(path)}\t{one_line(text)}\n")
        elif self.form == "csv":
            self._csv.writerow(map(csv_cell, (path, caption, error or "")))
        elif self.form == "jsonl":
            self.file.write(json_line(record) + "\n")
        elif error is None:  # a COCO result file has no place for errors
            self._write_coco(path, caption)

    def finish(self) -> None:
        """Write the end of the file."""
        if self.form == "coco":
            self.file.write("\n]\n" if self._ids else "[]\n")
        self.file.flush()

    def _write_coco(self, path: str, caption: str) -> None:
        usual = image_of_photo(Path(path))
        # A folder's dog.jpg and another's: the second one's id is its path.
        free = [one for one in (usual, path, str(Path(path).absolute())) if one not in self._ids]
        if path in self._paths or not free:
            self.repeated += 1
            return
        self.renamed += free[0] != usual
        self.file.write(",\n" if self._ids else "[\n")
        self.file.write(json_line({"image_id": free[0], "caption": caption}))
        self._ids.add(free[0])
        self._paths.add(path)


def record_of(result: "PhotoCaptions", *, candidates: bool = False) -> dict[str, Any]:
    """Return the result of a photo as plain values: a record of JSON Lines."""
    record: dict[str, Any] = {"image": str(result.path)}
    if result.error is not None:
        record["error"] = result.error
    else:
        record["caption"] = result.caption
        record["log_prob"] = _rounded(result.candidates[0].log_prob)
        if result.attention is not None:
            record["attention"] = attention_record(result, 0)
        if candidates:
            record["candidates"] = [candidate_record(one) for one in result.candidates]
        if candidates and result.attention is not None:
            for i, one in enumerate(record["candidates"]):
                one["attention"] = attention_record(result, i)
    return record


def candidate_record(candidate: "Candidate") -> dict[str, Any]:
    """Return one of several captions as plain values."""
    return {
        "caption": candidate.caption,
        "log_prob": _rounded(candidate.log_prob),
        "score": _rounded(candidate.score),
        "words": list(candidate.words),
        "word_log_probs": [_rounded(value) for value in candidate.word_log_probs],
    }


def attention_record(result: "PhotoCaptions", place: int) -> dict[str, Any]:
    """Return the attention of one candidate's words as plain values."""
    attention = result.attention
    assert attention is not None
    words = result.candidates[place].words
    rows = attention.weights[place, : len(words)].tolist()
    record = {
        "grid": list(attention.grid),
        "words": list(words),
        "weights": [[_rounded(weight) for weight in row] for row in rows],
    }
    if attention.boxes is not None:
        record["boxes"] = [[_rounded(edge) for edge in box] for box in attention.boxes.tolist()]
    if attention.sentinel is not None:
        own = attention.sentinel[place, : len(words)].tolist()
        record["sentinel"] = [_rounded(weight) for weight in own]
    return record


@contextmanager
def standard_output() -> Iterator[IO[str]]:
    """Open standard output for records, as UTF-8 whatever the locale."""
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    yield sys.stdout


@contextmanager
def output_stream(name: str) -> Iterator[IO[str]]:
    """Open a device, FIFO or file descriptor, to which records are written one by one."""
    with named_output(name) as file, as_text(file) as text:
        yield text


@contextmanager
def as_text(file: BinaryIO) -> Iterator[IO[str]]:
    """Wrap a binary file as UTF-8 text; it stays open."""
    text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
    try:
        yield text
    finally:
        text.detach()


def _rounded(value: float) -> float | None:
    """Round a number to six digits; None, null in JSON, if it is infinite or not a number."""
    return round(value, 6) if math.isfinite(value) else None

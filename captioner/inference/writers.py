"""Captions as text, JSON Lines, CSV or a COCO result file.

A record of JSON Lines ::

    {"image": path, "caption": text, "log_prob": number}
    {"image": path, "error": reason}

and, where several captions a photo were asked for, ``"candidates"``: for each, best first (or in
the order drawn), ``caption``, ``log_prob``, ``score``, ``words`` and ``word_log_probs``. Logarithms
are natural; ``word_log_probs`` are those of ``words``, the end word included, and sum to
``log_prob``; ``score`` is what ranked the caption. Where attention was asked for, ``"attention"``
of the caption, and of each candidate: ``grid`` (rows and columns of the regions), ``words``,
``weights`` (a row of region weights for each word) and, of a network with a sentinel, ``sentinel``.
"""

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from captioner.files.atomic import check_folder
from captioner.photos.paths import image_of_photo

if TYPE_CHECKING:
    from captioner.inference.result import Candidate, Captioned

FORMATS = ("text", "jsonl", "csv", "coco")


class RecordWriter:
    """Writes one record a photo.

    Args:
        file: where to.
        form: one of `FORMATS`.
        candidates: whether the records of JSON Lines list all captions of a photo.
    """

    def __init__(self, file: IO[str], form: str, *, candidates: bool = False) -> None:
        self.file = file
        self.form = form
        self.candidates = candidates
        self.started = False
        self.csv = csv.writer(file, lineterminator="\n")
        if form == "csv":
            self.csv.writerow(("image", "caption", "error"))

    def write(self, captioned: "Captioned") -> None:
        """Write one record and let it be read at once."""
        path, caption, error = str(captioned.path), captioned.caption, captioned.error
        if self.form == "text":
            self.file.write(f"{path}\t{caption if error is None else f'error: {error}'}\n")
        elif self.form == "csv":
            self.csv.writerow((path, caption or "", error or ""))
        elif self.form == "jsonl":
            self.file.write(self._json(captioned) + "\n")
        elif error is None:  # a COCO result file has no place for errors
            record = {"image_id": image_of_photo(captioned.path), "caption": caption}
            self.file.write(",\n" if self.started else "[\n")
            self.file.write(json.dumps(record, ensure_ascii=False))
            self.started = True
        self.file.flush()

    def finish(self) -> None:
        """Write what closes the file."""
        if self.form == "coco":
            self.file.write("\n]\n" if self.started else "[]\n")

    def _json(self, captioned: "Captioned") -> str:
        record: dict[str, Any] = {"image": str(captioned.path)}
        if captioned.error is not None:
            record["error"] = captioned.error
        else:
            record["caption"] = captioned.caption
            record["log_prob"] = round(captioned.candidates[0].log_prob, 6)
            if captioned.attention is not None:
                record["attention"] = attention_record(captioned, 0)
            if self.candidates:
                record["candidates"] = [candidate_record(one) for one in captioned.candidates]
            if self.candidates and captioned.attention is not None:
                for i, one in enumerate(record["candidates"]):
                    one["attention"] = attention_record(captioned, i)
        # A file name that is not valid UTF-8 arrives with lone surrogates; escaped, it is JSON.
        try:
            text = json.dumps(record, ensure_ascii=False)
            text.encode()
        except UnicodeEncodeError:
            text = json.dumps(record)
        return text


def candidate_record(candidate: "Candidate") -> dict[str, Any]:
    """One of several captions as plain values."""
    return {
        "caption": candidate.caption,
        "log_prob": round(candidate.log_prob, 6),
        "score": round(candidate.score, 6),
        "words": list(candidate.words),
        "word_log_probs": [round(value, 6) for value in candidate.word_log_probs],
    }


def attention_record(captioned: "Captioned", place: int) -> dict[str, Any]:
    """Where the words of one candidate looked, as plain values."""
    attention = captioned.attention
    assert attention is not None
    words = captioned.candidates[place].words
    rows = attention.weights[place, : len(words)].tolist()
    record = {
        "grid": list(attention.grid),
        "words": list(words),
        "weights": [[round(weight, 6) for weight in row] for row in rows],
    }
    if attention.sentinel is not None:
        own = attention.sentinel[place, : len(words)].tolist()
        record["sentinel"] = [round(weight, 6) for weight in own]
    return record


@contextmanager
def destination(name: str | None) -> Iterator[IO[str]]:
    """Standard output, or a file that appears under its name only when it is whole."""
    if name is None:
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
        yield sys.stdout
        return
    check_folder(name, "--output")
    path = Path(name)
    draft = path.with_name(path.name + ".part")
    try:
        with draft.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)

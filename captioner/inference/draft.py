"""The draft of a caption file: captions are kept at once, and the same command resumes.

The draft of ``F`` is ``F.part``, JSON Lines that only grow: first what the captions depend on, then
``[stamp, record]`` for each photo. Ctrl-C, SIGTERM, SIGKILL or a full disk lose at most the batch
that was being captioned. When all photos are done, ``F`` is written in its own format, whole, and
the draft is removed. A lock on the draft keeps a second run with the same output away.
"""

import contextlib
import json
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from captioner.errors import CaptionerError, UsageError
from captioner.files.atomic import cannot_be_written, open_unfollowed, target_of, whole_file
from captioner.files.lock import take_lock
from captioner.inference.shards import differing
from captioner.inference.writers import RecordWriter, as_text, record_of

if TYPE_CHECKING:
    from captioner.inference.result import PhotoCaptions
    from captioner.photos.inputs import PhotoInput
    from captioner.photos.source import PhotoSource

FORMAT = 1
"""Version of the draft; other versions are refused."""

MAX_LINE = 2**25
"""Most bytes of a line; a command line has at most 2 MiB, which JSON may lengthen."""


class Draft:
    """The draft of one output, locked until the block ends; an empty draft is removed.

    Args:
        output: the file that is to be written; of a link its target is.
        recipe: all that the captions depend on, as plain values.
        batch_size: photos captioned at once. Batches begin anew at a multiple of it, so that a
            resumed run writes what an undisturbed one writes, to the last digit.

    Attributes:
        path: the draft.
        count: photos that are done.
        errors: how many of those have no caption.

    Raises:
        UsageError: the draft was begun with another recipe, or is no draft.
        CaptionerError: another process is writing the same output; the draft cannot be written.
    """

    def __init__(self, output: Path, recipe: Mapping[str, Any], *, batch_size: int) -> None:
        self.output = target_of(output)
        self.path = self.output.with_name(self.output.name + ".part")
        self.count = self.errors = 0
        self._finished = False
        self._anew = f"to start anew, remove {self.path}"
        with cannot_be_written(self.path):
            self._file = self._locked()
        try:
            self._begin(recipe, batch_size)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Draft":
        return self

    def __exit__(self, *error: object) -> None:
        if self.count == 0 and not self._finished:
            self.path.unlink(missing_ok=True)
        self._file.close()

    def caption(
        self,
        photos: Iterable["PhotoInput"],
        caption: Callable[[Iterator["PhotoSource"]], Iterator["PhotoCaptions"]],
        *,
        candidates: bool,
    ) -> Iterator["PhotoCaptions"]:
        """Caption the photos that are not done yet, and keep each result at once.

        Args:
            photos: all of them, in order.
            caption: photos to what became of them, in order.
            candidates: as for `RecordWriter`.

        Raises:
            CaptionerError: the photos are not those of the draft; the draft cannot be written.
        """
        stamps: deque[str] = deque()

        def left() -> Iterator["PhotoSource"]:
            rest = iter(photos)
            for number, (stamp, _) in enumerate(self._entries(), 1):
                photo = next(rest, None)
                if photo is None or photo.stamp != stamp:
                    raise CaptionerError(
                        f"{self.path}: photo {number:,} of the inputs is not the one captioned "
                        f"there; give the same inputs, or {self._anew}"
                    )
            for photo in rest:
                stamps.append(photo.stamp)
                yield photo.source()

        for result in caption(left()):
            entry = [stamps.popleft(), record_of(result, candidates=candidates)]
            self._write(json.dumps(entry).encode() + b"\n")
            self.count += 1
            self.errors += result.error is not None
            yield result

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the record of each photo that is done, in order."""
        for _, record in self._entries():
            yield record

    def finish(self, form: str) -> RecordWriter:
        """Write the output in one of `FORMATS` and remove the draft; returns its writer.

        Raises:
            CaptionerError: it cannot be written; the draft stays.
        """
        with whole_file(self.output) as file, as_text(file) as text:
            writer = RecordWriter(text, form)
            for _, record in self._entries():
                writer.write_record(record)
            writer.finish()
        self.path.unlink(missing_ok=True)
        self._finished = True
        return writer

    def _locked(self) -> BinaryIO:
        """Open or create the draft, and take its lock."""
        if self.path.is_symlink():
            raise UsageError(
                f"--output: {self.path} is a symbolic link, and a draft is never written through "
                "one; remove it"
            )
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NONBLOCK", 0)
        while True:
            file = os.fdopen(open_unfollowed(self.path, flags), "rb")
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                file.close()
                raise UsageError(f"--output: {self.path} is no draft of a caption run; remove it")
            if not take_lock(file):
                file.close()
                raise CaptionerError(f"{self.output}: another `captioner caption` is writing it")
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(self.path.lstat(), status):
                    return file
            file.close()  # of a run that has just finished and removed it

    def _begin(self, recipe: Mapping[str, Any], batch_size: int) -> None:
        """Write the first line, or check that of an earlier run and keep its whole batches."""
        wanted = json.loads(json.dumps({"captioner_draft": FORMAT, **recipe}))
        header = json.dumps(wanted).encode() + b"\n"
        found = self._file.readline(MAX_LINE)
        if found != header and header.startswith(found):  # new, or cut short by a full disk
            self._cut(0)
            self._write(header)
            found = header
        self._check(found, wanted)
        self._start = end = len(found)
        errors = 0
        for count, (_, record) in enumerate(self._entries(), 1):
            errors += "error" in record
            if count % batch_size == 0:
                self.count, self.errors, end = count, errors, self._file.tell()
        self._cut(end)

    def _check(self, found: bytes, wanted: Mapping[str, Any]) -> None:
        values = _parsed(found)
        if not isinstance(values, dict) or "captioner_draft" not in values:
            raise UsageError(f"--output: {self.path} is no draft of a caption run; remove it")
        other = differing(values, wanted)
        if other:
            raise UsageError(
                f"--output: {self.path} was begun with other {', '.join(other)}; rerun that "
                f"command to resume, or {self._anew}"
            )

    def _entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield stamp and record of each photo that is done, up to the first broken line."""
        self._file.seek(self._start)
        while line := self._file.readline(MAX_LINE):
            entry = _parsed(line)
            if not (isinstance(entry, list) and len(entry) == 2):  # a pair
                return
            stamp, record = entry
            if not (isinstance(stamp, str) and isinstance(record, dict)):
                return
            texts = [record[name] for name in ("image", "caption", "error") if name in record]
            if "image" not in record or list(map(type, texts)) != [str, str]:
                return
            yield stamp, record

    def _write(self, data: bytes) -> None:
        with cannot_be_written(self.path):
            while data:  # a disk that is filling up takes a part
                data = data[os.write(self._file.fileno(), data) :]

    def _cut(self, size: int) -> None:
        with cannot_be_written(self.path):
            os.truncate(self._file.fileno(), size)


def _parsed(line: bytes) -> Any:
    """Parse a complete line of JSON; None for any other."""
    if not line.endswith(b"\n"):
        return None
    try:
        return json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None

"""Captions of many photos as a folder of JSON Lines files, with a manifest to resume from.

Photo number i, from 0 and in the order of the inputs, is a line of ``captions-<i // size>.jsonl``.
Batches begin anew with each file, so that restarts and devices change not even a last digit.
A file appears when it is whole, and then ``manifest.json`` says so: of a run killed at any moment
those files stay, and the same command writes the others. Who writes which file does not matter.

    {"format": 1, "inputs": […], "options": {…}, "checkpoints": […], "shard_size": 10000,
     "complete": true, "count": …, "shards": {"0": {"file", "count", "errors", "inputs", "digest"}}}

Digests are blake2b-128: ``digest`` of the file, ``inputs`` of the names (and the sizes of a tar's
members) of the photos in it, by which inputs that have changed since are found out.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from captioner import __version__
from captioner.display import json_line
from captioner.errors import CaptionerError, UsageError
from captioner.files.atomic import whole_file, write_whole
from captioner.files.json_file import MAX_SMALL_BYTES, read_json
from captioner.files.lock import take_lock
from captioner.inference.writers import record_of

if TYPE_CHECKING:
    from captioner.inference.result import PhotoCaptions
    from captioner.photos.inputs import PhotoInput
    from captioner.photos.source import PhotoSource

FORMAT = 1
"""Version of the manifest; other versions are refused."""


@dataclass(frozen=True)
class Shard:
    """A file that is complete.

    Attributes:
        file: its name in the folder.
        count: records in it.
        errors: how many of them say why there is no caption.
        inputs: digest of its photos' names.
        digest: of the file.
    """

    file: str
    count: int
    errors: int
    inputs: str
    digest: str

    @classmethod
    def checked(cls, values: Any) -> "Shard":
        """Read a shard from its description in the manifest.

        Raises:
            TypeError: A value is missing, unknown or of another type.
            ValueError: A number is out of its range.
        """
        shard = cls(**values)
        for f in fields(cls):
            if type(getattr(shard, f.name)) is not f.type:
                raise TypeError(f"{f.name} is not {f.type}")
        if not 0 <= shard.errors <= shard.count < 2**63:
            raise ValueError("more errors than records")
        return shard


@dataclass
class Manifest:
    """``manifest.json``: the recipe of the captions, and the files that are complete.

    Attributes:
        folder: where it lies.
        recipe: all that the captions depend on, as plain values.
        shard_size: photos a file.
        shards: the files that are whole, by number.
        count: photos in all, once that is known.
        name: of the file; a share has a manifest of its own (`captioner.inference.shares`).
    """

    folder: Path
    recipe: dict[str, Any]
    shard_size: int
    shards: dict[int, Shard] = field(default_factory=dict)
    count: int | None = None
    name: str = "manifest.json"

    @classmethod
    def begin(
        cls, folder: Path, recipe: Mapping[str, Any], shard_size: int, name: str = "manifest.json"
    ) -> "Manifest":
        """Read the manifest of a folder, or begin one; damaged files do not count as complete.

        Raises:
            UsageError: it was begun with other options, checkpoints, inputs or size of shards.
            CaptionerError: it cannot be read.
        """
        manifest = cls(folder, json.loads(json.dumps(dict(recipe))), shard_size, name=name)
        path = folder / name
        if not path.exists():
            if name == "manifest.json" and any(folder.glob("manifest-*-of-*.json")):
                raise UsageError(
                    f"--output: {folder} holds captions of shares; run `captioner merge {folder}`, "
                    "or name another folder"
                )
            if any(folder.glob("captions-*.jsonl")) and not any(folder.glob("manifest-*.json")):
                raise UsageError(
                    f"--output: {folder} holds captions without a manifest; name another folder"
                )
            manifest.save()
            return manifest
        try:
            values: Any = read_json(path, MAX_SMALL_BYTES)
            found = {name: values[name] for name in (*manifest.recipe, "shard_size", "format")}
            shards = {int(i): Shard.checked(shard) for i, shard in values["shards"].items()}
        except (CaptionerError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CaptionerError(
                f"{path}: damaged ({type(error).__name__}); remove the folder, or name another"
            ) from error
        wanted = manifest.recipe | {"shard_size": shard_size, "format": FORMAT}
        other = differing(found, wanted)
        if other:
            raise UsageError(
                f"--output: {folder} was begun with other {', '.join(other)}; give the same "
                "command, or name another folder"
            )
        for index, shard in shards.items():
            named = folder / _file_name(index)
            if shard.file == named.name and _digest(named) == shard.digest:
                manifest.shards[index] = shard
        return manifest

    def add(self, index: int, shard: Shard) -> None:
        """Record that a file is complete."""
        self.shards[index] = shard
        self.save()

    def complete(self, count: int) -> None:
        """Record that all files are complete."""
        self.count = count
        self.save()

    def save(self) -> None:
        """Write the file."""
        values = {
            "format": FORMAT,
            "program_version": __version__,
            **self.recipe,
            "shard_size": self.shard_size,
            "complete": self.count is not None,
            "count": self.count,
            "shards": {str(i): asdict(self.shards[i]) for i in sorted(self.shards)},
        }
        write_whole(self.folder / self.name, json.dumps(values, indent=1) + "\n")


def differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return what differs in a recipe that was found, by the names of flags for options."""
    return [
        detail
        for name, value in wanted.items()
        if found.get(name) != value
        for detail in _differing(name, found.get(name), value)
    ]


def _differing(name: str, old: object, new: object) -> list[str]:
    if name == "options" and isinstance(old, dict) and isinstance(new, dict):
        return [f"--{key.replace('_', '-')}" for key in new if old.get(key) != new[key]] or [name]
    return [name.replace("shard_size", "--shard-size")]


def lock_folder(folder: Path, name: str = "lock", *, shared: bool = False) -> BinaryIO:
    """Create a folder of captions and lock it against other writers, until the file is closed.

    Raises:
        UsageError: its own folder is not there, or it is a file.
        CaptionerError: another process is writing there.
    """
    if not folder.parent.is_dir():
        raise UsageError(f"--output: no folder {folder.parent}")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output: {folder} is a file; name a folder")
    folder.mkdir(exist_ok=True)
    lock = (folder / name).open("ab")
    if not take_lock(lock, shared=shared):
        lock.close()
        raise CaptionerError(f"{folder}: another `captioner caption` is writing there")
    return lock


def write_shards(
    photos: Iterable["PhotoInput"],
    caption: Callable[[Iterator["PhotoSource"]], Iterator["PhotoCaptions"]],
    manifest: Manifest,
    *,
    mine: Callable[[int], bool],
    candidates: bool,
    finished: Callable[[int, Shard], None],
) -> int:
    """Caption the photos of the files that are not complete yet, in one stream.

    Args:
        photos: all of them, in order; only those of files to be written are read.
        caption: photos to what became of them, in order.
        manifest: what is done; not changed here.
        mine: whether a file, by its number, is to be written here.
        candidates: as for `RecordWriter`.
        finished: told of each file that is whole.

    Returns:
        How many photos there are in all.

    Raises:
        CaptionerError: the inputs are not those of the files that are done; the disk is full.
    """
    handed: deque[tuple[int, str]] = deque()  # number of the file and stamp, not captioned yet
    counted = 0

    def wanted() -> Iterator["PhotoSource"]:
        nonlocal counted
        names, done = _new_digest(), 0
        for counted, photo in enumerate(photos, 1):
            index = (counted - 1) // manifest.shard_size
            if index in manifest.shards:
                names.update(_line(photo.stamp))
                done += 1
                if done == manifest.shard_size:
                    _compare(manifest, index, names.hexdigest())
                    names, done = _new_digest(), 0
            elif mine(index):
                handed.append((index, photo.stamp))
                last = counted % manifest.shard_size == 0
                yield replace(photo.source(), ends_batch=last)
        if done:
            _compare(manifest, (counted - 1) // manifest.shard_size, names.hexdigest())
        behind = [i for i in manifest.shards if i * manifest.shard_size >= counted]
        if behind:
            _compare(manifest, behind[0], "")

    entries = (
        (*handed.popleft(), record_of(result, candidates=candidates))
        for result in caption(wanted())
    )
    for index, group in groupby(entries, itemgetter(0)):
        finished(index, _write_shard(manifest.folder, index, group))
    return counted


def _write_shard(
    folder: Path, index: int, entries: Iterable[tuple[int, str, Mapping[str, Any]]]
) -> Shard:
    """Write one file from its number, stamp and record for each photo."""
    path = folder / _file_name(index)
    count = errors = 0
    names, digest = _new_digest(), _new_digest()
    with whole_file(path) as file:
        for _, stamp, record in entries:
            line = json_line(record).encode() + b"\n"
            file.write(line)
            digest.update(line)
            names.update(_line(stamp))
            count += 1
            errors += "error" in record
    return Shard(path.name, count, errors, names.hexdigest(), digest.hexdigest())


def _file_name(index: int) -> str:
    return f"captions-{index:05d}.jsonl"


def _compare(manifest: Manifest, index: int, names: str) -> None:
    if manifest.shards[index].inputs != names:
        raise CaptionerError(
            f"{manifest.folder}: the inputs are not those of {_file_name(index)}, which is done; "
            "give the same inputs, or name another folder"
        )


def _line(stamp: str) -> bytes:
    return stamp.encode(errors="surrogateescape") + b"\n"


def _new_digest() -> "hashlib.blake2b":
    return hashlib.blake2b(digest_size=16)


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, _new_digest).hexdigest()
    except OSError:
        return None

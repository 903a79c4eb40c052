"""Shares of one folder of captions, written by processes that do not know of each other.

Share I of N writes every N-th file, starting at the I-th, and a manifest of its own,
`manifest-I-of-N.json`. `merge_shares` verifies all files and writes `manifest.json`, as one process
writes it.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from captioner.errors import CaptionerError, UsageError
from captioner.files.json_file import MAX_SMALL_BYTES, read_json
from captioner.files.lock import take_lock
from captioner.inference.shards import Manifest, lock_folder

_NAME = re.compile(r"manifest-([1-9][0-9]*)-of-([1-9][0-9]*)\.json")

_OWN = ("format", "program_version", "shard_size", "complete", "count", "shards")
"""Entries of a manifest that are not part of its recipe."""


def manifest_name(part: int, parts: int) -> str:
    """Return the name of a share's manifest; shares count from 1."""
    return f"manifest-{part}-of-{parts}.json"


@contextmanager
def locked_share(folder: Path, part: int, parts: int) -> Iterator[None]:
    """Lock one share of a folder: other shares may be written at the same time.

    Raises:
        UsageError: The folder was begun in another number of shares, or without shares.
        CaptionerError: Another process is writing this share, or the whole folder.
    """
    with lock_folder(folder, shared=True), (folder / f"lock-{part}").open("ab") as own:
        if not take_lock(own):
            raise CaptionerError(f"{folder}: another process is writing share {part} of {parts}")
        others = {parts_of(path) for path in _manifests(folder)} - {parts}
        if others:
            raise UsageError(
                f"--share: {folder} was begun in {min(others)} shares, not {parts}; give the same "
                "shares, or name another folder"
            )
        if (folder / "manifest.json").exists():
            raise UsageError(
                f"--share: {folder} was begun without shares, or merged; name another folder"
            )
        yield


def merge_shares(folder: Path) -> Manifest:
    """Verify the shares of a folder and write its manifest; the shares' own are removed.

    Raises:
        UsageError: The folder holds no shares.
        CaptionerError: A share is missing or not finished, a file is damaged, or the shares differ
            in options or inputs. The message names the command that remedies it.
    """
    if not folder.is_dir():
        raise UsageError(f"merge: no folder {folder}")
    with lock_folder(folder):
        paths = _manifests(folder)
        if not paths:
            return _merged(folder)
        parts = max(map(parts_of, paths))
        first: dict[str, Any] | None = None
        merged: Manifest | None = None
        for part in range(1, parts + 1):
            own, values = _finished(folder, part, parts)
            if first is None or merged is None:
                first, merged = values, own
                continue
            if {**first, "shards": 0} != {**values, "shards": 0}:
                differing = next(name for name in first if first[name] != values.get(name))
                raise CaptionerError(
                    f"{folder}: shares 1 and {part} of {parts} differ in {differing}; remove "
                    f"{manifest_name(part, parts)} and write that share again"
                )
            merged.shards |= own.shards
        assert merged is not None
        _check_complete(merged, parts)
        merged.name = "manifest.json"
        merged.save()
        for path in paths:
            path.unlink()
        for path in folder.glob("lock-*"):
            path.unlink()
    return merged


def parts_of(manifest: Path) -> int:
    """Return the number of shares that a manifest's name states."""
    found = _NAME.fullmatch(manifest.name)
    return int(found[2]) if found else 0


def _manifests(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("manifest-*.json") if _NAME.fullmatch(path.name))


def _merged(folder: Path) -> Manifest:
    """Return the manifest of a folder without shares, if it is complete."""
    path = folder / "manifest.json"
    if not path.exists():
        raise UsageError(f"merge: {folder} holds no captions of `captioner caption --share I/N`")
    manifest = _read(folder, path.name)[0]
    if manifest.count is None:
        raise UsageError(f"merge: {folder} was begun without --share; rerun its command to resume")
    _check_complete(manifest, 1)
    return manifest


def _finished(folder: Path, part: int, parts: int) -> tuple[Manifest, dict[str, Any]]:
    name = manifest_name(part, parts)
    again = f"rerun `captioner caption` with --share {part}/{parts}"
    if not (folder / name).exists():
        raise CaptionerError(f"{folder}: share {part} of {parts} is missing; {again}")
    manifest, values = _read(folder, name)
    if manifest.count is None:
        raise CaptionerError(f"{folder}: share {part} of {parts} is not finished; {again}")
    return manifest, values


def _read(folder: Path, name: str) -> tuple[Manifest, dict[str, Any]]:
    """Read a manifest whose recipe is not known, and verify the digests of its files."""
    path = folder / name
    values: Any = read_json(path, MAX_SMALL_BYTES)
    try:
        recipe = {key: value for key, value in values.items() if key not in _OWN}
        manifest = Manifest.begin(folder, recipe, values["shard_size"], name)
        complete, count = values["complete"], values["count"]
        if complete and type(count) is int:
            manifest.count = count
        return manifest, json.loads(json.dumps(values))
    except (AttributeError, KeyError, TypeError) as error:
        raise CaptionerError(f"{path}: damaged; remove it and write that share again") from error


def _check_complete(manifest: Manifest, parts: int) -> None:
    """Check that each file is there.

    Raises:
        CaptionerError: One is missing or damaged.
    """
    count = manifest.count or 0
    for index in range(-(-count // manifest.shard_size)):
        if index not in manifest.shards:
            part = index % parts + 1
            share = f" with --share {part}/{parts}" if parts > 1 else ""
            raise CaptionerError(
                f"{manifest.folder}: file {index} is missing or damaged; rerun `captioner caption`"
                f"{share}"
            )

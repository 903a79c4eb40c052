"""A data set finds its store, wherever it lies and whatever ids other data sets have."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from captioner.features import store as feature_store
from captioner.features.find import folder_of, open_store
from captioner.features.header import StoreError
from captioner.features.journal import Entry
from captioner.features.store import folder_name
from captioner.features.writer import FeatureWriter

KEY = {"encoder": "toy", "size": 224}
Photos = list[tuple[object, Path]]


def make(root: Path, contents: list[bytes], time: int | None = None) -> Photos:
    root.mkdir()
    for i, content in enumerate(contents):
        (root / f"{i}.jpg").write_bytes(content)
        if time is not None:
            os.utime(root / f"{i}.jpg", ns=(time, time))
    return of(root)


def of(root: Path) -> Photos:
    return [(path.name, path) for path in sorted(root.iterdir(), key=lambda p: int(p.stem))]


def numbers(first: int, count: int = 40) -> list[bytes]:
    return [b"%05d" % i for i in range(first, first + count)]


def prepare(cache: Path, photos: Photos, share: tuple[int, int] | None = None) -> int:
    """Store each photo's number as its feature; return how many were computed."""
    part, parts = share or (1, 1)
    folder = folder_of(cache, KEY, photos)
    with FeatureWriter(folder, KEY, (1,), "float32", share=share and part) as writer:
        stale = set(writer.stale(photos[part - 1 :: parts]))
        todo = [(image_id, path) for image_id, path in photos if image_id in stale]
        rows = np.array([[float(path.read_bytes())] for _, path in todo]).reshape(-1, 1)
        writer.append([Entry.of(i, path, path.parent) for i, path in todo], rows)
    return len(todo)


def check(cache: Path, photos: Photos) -> None:
    store = open_store(cache, KEY, photos)
    assert store.stale(photos) == []
    wanted = [[float(path.read_bytes())] for _, path in photos]
    assert store.read([image_id for image_id, _ in photos]).tolist() == wanted


def test_a_moved_data_set_is_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    assert prepare(cache, make(tmp_path / "here", numbers(0))) == 40
    shutil.move(tmp_path / "here", tmp_path / "there")
    there = of(tmp_path / "there")
    read = []
    digest = feature_store.file_digest
    monkeypatch.setattr(
        feature_store, "file_digest", lambda path: read.append(path) or digest(path)
    )
    monkeypatch.setattr("captioner.features.journal.file_digest", None)  # none but the sample's
    check(cache, there)
    assert 0 < len(read) <= 16
    assert prepare(cache, there) == 0
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("shares", [1, 3])
def test_copies_with_other_times_are_read_once(tmp_path: Path, shares: int) -> None:
    cache = tmp_path / "cache"
    here = make(tmp_path / "here", numbers(0), time=10**18)
    if shares == 1:
        prepare(cache, here)
    else:
        assert sum(prepare(cache, here, (i + 1, shares)) for i in range(shares)) == 40
    there = make(tmp_path / "there", numbers(0), time=2 * 10**18)
    store = open_store(cache, KEY, there)
    assert store.stale(there) == []
    assert store.touched == 40
    assert prepare(cache, there) == 0  # records the new times, also those of all shares
    check(cache, there)
    store = open_store(cache, KEY, there)
    assert store.stale(there) == []
    assert store.touched == 0
    assert store.verify() == []
    assert store.damage() == []


@pytest.mark.parametrize("time", [None, 0])
def test_two_data_sets_with_the_same_ids(tmp_path: Path, time: int | None) -> None:
    """Their sizes are equal too; some archives even unpack equal times."""
    cache = tmp_path / "cache"
    one = make(tmp_path / "one", numbers(0), time)
    two = make(tmp_path / "two", numbers(100), time)
    assert [prepare(cache, one), prepare(cache, two)] == [40, 40]
    for _ in range(2):
        assert [prepare(cache, one), prepare(cache, two)] == [0, 0]
        check(cache, one)
        check(cache, two)
    shutil.move(tmp_path / "one", tmp_path / "three")
    check(cache, of(tmp_path / "three"))
    assert sorted(path.name for path in cache.iterdir()) == [
        folder_name(KEY), f"{folder_name(KEY)}-2"]  # fmt: skip


def test_a_data_set_may_grow_and_change(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    root = tmp_path / "set"
    assert prepare(cache, make(root, numbers(0, 5))) == 5
    for i in range(5, 60):
        (root / f"{i}.jpg").write_bytes(b"%05d" % i)
    assert prepare(cache, of(root)) == 55
    (root / "0.jpg").write_bytes(b"000007")
    assert prepare(cache, of(root)) == 1
    check(cache, of(root))
    assert len(list(cache.iterdir())) == 1


def test_photos_replaced_in_place_by_others_of_the_same_size_and_time(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    prepare(cache, make(tmp_path / "set", numbers(0), time=0))
    shutil.rmtree(tmp_path / "set")
    others = make(tmp_path / "set", numbers(100), time=0)
    with pytest.raises(StoreError, match="no feature store here; run captioner prepare"):
        open_store(cache, KEY, others)
    assert prepare(cache, others) == 40
    check(cache, others)


def test_the_store_of_an_earlier_version_is_used(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    photos = make(tmp_path / "set", numbers(0))
    prepare(cache, photos)
    store = cache / folder_name(KEY)
    header = json.loads((store / "store.json").read_text())
    header["key"]["data"] = ["jsonl", "/where/it/was"]
    (store / "store.json").write_text(json.dumps(header))
    store.rename(cache / folder_name(header["key"]))
    check(cache, photos)
    assert prepare(cache, photos) == 0
    assert len(list(cache.iterdir())) == 1


def test_the_fullest_of_several_stores_is_used(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    photos = make(tmp_path / "set", numbers(0))
    prepare(cache, photos)
    (cache / folder_name(KEY)).rename(cache / "toy-was-elsewhere")
    (tmp_path / "empty").mkdir()
    prepare(cache, of(tmp_path / "empty"))  # killed before the first photo, say
    assert (cache / folder_name(KEY)).is_dir()
    check(cache, photos)


def test_damaged_headers(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    photos = make(tmp_path / "set", numbers(0))
    prepare(cache, photos)
    (cache / "toy-0123").mkdir()
    (cache / "toy-0123" / "store.json").write_text("not one of ours")
    check(cache, photos)
    (cache / folder_name(KEY) / "store.json").write_text("ours")
    for find in (open_store, folder_of):
        with pytest.raises(StoreError, match=r"store\.json: damaged"):
            find(cache, KEY, photos)

"""A photo that kills its process while features are computed."""

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_photo
from torch import Tensor

from captioner.datasets.records import Record
from captioner.features.extract import (
    LOST,
    Computed,
    Photos,
    ReaderLostError,
    _batches,
    _careful_batches,
)
from captioner.features.journal import Entry, file_digest
from captioner.features.store import FeatureStore
from captioner.features.views import ViewTransform
from captioner.features.writer import FeatureWriter
from captioner.photos.transform import Transform


class Mean(torch.nn.Module):
    """An encoder: the mean of each colour."""

    def encode(self, photos: Tensor) -> Tensor:
        return photos.float().mean((2, 3))


class Deadly(ViewTransform):
    """A transform that kills its process at some photos."""

    def load(self, record: Record) -> Tensor:
        if "kills" in record.path.name:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().load(record)


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    names = ["a.png", "b.png", "kills.png", "c.png"]
    records = [
        Record(i, make_photo(tmp_path / name, i), ("a dog",), "train")
        for i, name in enumerate(names)
    ]
    return Photos(records, Deadly(Transform(size=8)), tmp_path)


def test_a_killed_reader_is_one_line(photos: Photos) -> None:
    with pytest.raises(ReaderLostError, match=r"was killed .*try fewer encoder\.workers"):
        list(_batches(photos, Mean(), torch.device("cpu"), 2, 1))


def test_a_death_does_not_interrupt_the_work_on_another_batch(photos: Photos) -> None:
    batches = _batches(photos, Mean(), torch.device("cpu"), 1, 1)
    assert [one.record.image_id for one in next(batches)] == [0]
    for child in multiprocessing.active_children():
        child.kill()
    time.sleep(0.5)  # here torch's own handler would raise
    with pytest.raises(ReaderLostError, match="was killed"):
        list(batches)


def test_a_photo_that_is_lost_has_a_reason_and_the_others_their_features(photos: Photos) -> None:
    def careful(ids: Sequence[str], do, lost) -> list[Computed]:
        if "2" not in ids:
            return list(do(range(len(ids))))
        return [lost(i) if one == "2" else do([i])[0] for i, one in enumerate(ids)]

    batches = list(_careful_batches(photos, Mean(), torch.device("cpu"), 2, careful))
    assert [len(batch) for batch in batches] == [2, 2]
    found = [one for batch in batches for one in batch]
    assert [one.record.image_id for one in found] == [0, 1, 2, 3]
    assert found[2].features == LOST
    assert all(isinstance(one.features, np.ndarray) for one in found if one is not found[2])
    assert found[3].entry.digest == file_digest(photos.records[3].path)


def test_a_photo_that_was_not_opened_is_known_until_it_changes(tmp_path: Path) -> None:
    path = make_photo(tmp_path / "a.png", 0)
    entry = Entry.unread("a", path, tmp_path)
    assert entry.digest == ""
    assert entry.now(path) is entry
    os.utime(path, (1, 1))
    assert entry.now(path) is None


def test_a_store_with_such_a_photo_is_found_and_complete(tmp_path: Path) -> None:
    photos = [(i, make_photo(tmp_path / f"{i}.png", i)) for i in range(3)]
    good = [Entry.of(image_id, path, tmp_path) for image_id, path in photos[:2]]
    lost = Entry.unread(*photos[2], tmp_path)
    with FeatureWriter(tmp_path / "store", {}, (2,), "float16") as writer:
        writer.append(good, np.ones((2, 2)), [(lost, LOST)])
    store = FeatureStore.open(tmp_path / "store", {})
    assert store.holds(photos)  # not opened, so its digest says nothing
    assert store.stale(photos) == []
    assert 2 not in store
    photos[2][1].write_bytes(b"another photo")
    assert store.stale(photos) == [2]

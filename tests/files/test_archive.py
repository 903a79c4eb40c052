"""Archives and pickles of `torch.save`: what it writes is read, and nothing else."""

import io
import pickle
import shutil
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.files import archive, tensors
from captioner.files.archive import ArchiveError, damaged_records, records_of
from captioner.files.tensors import read_tensors


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.pt"
    torch.save({"a": torch.arange(1000.0), "b": [1, 2.5, "x", None], "c": torch.ones(3)}, path)
    return path


def rewritten(
    good: Path, change: Callable[[str, bytes], bytes] = lambda name, data: data, **how: Any
) -> Path:
    """The archive written anew by Python's zipfile."""
    path = good.with_name("evil.pt")
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w", **how) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return path


def with_pickle(good: Path, data: bytes, **how: Any) -> Path:
    return rewritten(good, lambda name, old: data if name.endswith("data.pkl") else old, **how)


def test_what_torch_writes_is_read(good: Path) -> None:
    assert torch.equal(read_tensors(good)["a"], torch.arange(1000.0))
    assert damaged_records(good) == []
    with good.open("rb") as file:
        assert {"data.pkl", "data/0", "version"} <= {record.name for record in records_of(file)}
    assert read_tensors(rewritten(good))["b"] == [1, 2.5, "x", None]


def test_a_compressed_archive_is_refused_before_it_is_read(good: Path) -> None:
    bomb = with_pickle(
        good, b"\x80\x02" + b"N0" * 30_000_000 + b"}.", compression=zipfile.ZIP_DEFLATED
    )
    assert bomb.stat().st_size < 10**6
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match=r"its record 'good/\S+' is compressed"):
            read_tensors(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", ["MAX_PICKLE", "MAX_OPERATIONS"])
def test_a_pickle_beyond_its_bounds(what: str, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, what, 1000)
    with pytest.raises(ArchiveError, match="more than the 1,000"):
        read_tensors(with_pickle(good, b"\x80\x02" + b"N0" * 5000 + b"}."))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x" * 5000, "holds a text of 5,000 letters"),
        ({"x" * 5000: 1}, "holds a text of 5,000 letters"),
        pytest.param(10**5000, "holds a number of 16,610 bits", id="digits"),
        (-(2**300), "holds a number of 301 bits"),
        (bytearray, "names '__builtin__ bytearray'"),
        (torch.Tensor, "names 'torch Tensor'"),
        (torch.FloatTensor, "names 'torch FloatTensor'"),
        (Path, "names 'pathlib"),
    ],
)
def test_values_that_no_checkpoint_needs(value: object, message: str, good: Path) -> None:
    with pytest.raises(ArchiveError, match=message):
        read_tensors(with_pickle(good, pickle.dumps(value, protocol=2)))


def test_records_that_share_bytes(good: Path) -> None:
    data = good.read_bytes()
    with zipfile.ZipFile(good) as old:
        first, second = (old.getinfo(f"good/data/{i}").header_offset for i in (0, 1))
    place = data.rindex(struct.pack("<L", second))
    evil = good.with_name("evil.pt")
    evil.write_bytes(data[:place] + struct.pack("<L", first) + data[place + 4 :])
    with pytest.raises(ArchiveError, match=r"has another header|shares bytes"):
        read_tensors(evil)


def test_a_name_that_stands_twice(good: Path) -> None:
    evil = good.with_name("evil.pt")
    shutil.copy(good, evil)
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(evil, "a") as new,
    ):
        new.writestr("good/data.pkl", b"\x80\x02}.")
    with pytest.raises(ArchiveError, match="same name"):
        read_tensors(evil)


def test_what_follows_the_end_is_refused(good: Path) -> None:
    evil = good.with_name("evil.pt")
    evil.write_bytes(good.read_bytes() + good.read_bytes())  # readers differ in which they see
    with pytest.raises(ArchiveError, match="not a whole archive"):
        read_tensors(evil)
    with zipfile.ZipFile(good, "a") as new:
        new.comment = b"a comment"
    with pytest.raises(ArchiveError, match="its end is missing"):
        read_tensors(good)


def test_too_many_records(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_RECORDS", 3)
    with pytest.raises(ArchiveError, match="more than the 3 allowed"):
        read_tensors(good)
    monkeypatch.setattr(archive, "MAX_RECORDS", 1000)
    monkeypatch.setattr(archive, "MAX_DIRECTORY", 100)
    with pytest.raises(ArchiveError, match="holds"):
        read_tensors(good)


@pytest.mark.parametrize("cut", [0, 1, 2, 21, 22, 100, 2000])
def test_a_file_cut_short(cut: int, good: Path) -> None:
    good.write_bytes(good.read_bytes()[:cut])
    with pytest.raises(Exception) as caught:  # noqa: PT011 (of many kinds)
        read_tensors(good)
    assert not isinstance(caught.value, (MemoryError, RecursionError))


def test_each_flipped_bit_of_a_record_is_found(good: Path) -> None:
    data = good.read_bytes()
    with good.open("rb") as file:
        records = [record for record in records_of(file) if record.size]
    for record in records:
        for place in {record.start, record.start + record.size - 1}:
            flipped = bytearray(data)
            flipped[place] ^= 4
            good.write_bytes(flipped)
            assert damaged_records(good) == [record.name]


def test_a_storage_that_claims_more_than_its_record(good: Path) -> None:
    with zipfile.ZipFile(good) as old:
        pickled = old.read("good/data.pkl")
    claim = pickled.replace(struct.pack("<H", 1000), struct.pack("<H", 60_000))
    assert claim != pickled
    try:
        found = read_tensors(with_pickle(good, claim))["a"]
    except (RuntimeError, ValueError):
        return
    assert found.untyped_storage().nbytes() <= good.stat().st_size


def test_files_of_old_torch_are_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save({"a": torch.ones(3)}, file, _use_new_zipfile_serialization=False)
    (tmp_path / "old.pt").write_bytes(file.getvalue())
    assert torch.equal(read_tensors(tmp_path / "old.pt")["a"], torch.ones(3))

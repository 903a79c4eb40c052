"""The feature store: it returns what was stored, and never an incomplete or outdated row."""

import errno
import itertools
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.errors import UsageError
from captioner.features import writer as module
from captioner.features.header import StoreError, size_in_bytes
from captioner.features.journal import Entry
from captioner.features.store import FeatureStore, folder_name
from captioner.features.writer import FeatureWriter

KEY = {"encoder": "toy", "weights": "0123abcd", "transform": {"size": 224}, "grid": False}
SHAPE = (3,)


def features(*numbers: int) -> np.ndarray:
    """Return rows that identify their photo: number n gives (n, n + 0.5, -n)."""
    return np.array([(n, n + 0.5, -n) for n in numbers], dtype=np.float32).reshape(-1, 3)


def photo(folder: Path, number: int, content: bytes = b"") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{number}.jpg"
    path.write_bytes(content or b"photo %d" % number)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> list[tuple[int, Path]]:
    return [(number, photo(tmp_path / "photos", number)) for number in range(5)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / folder_name(KEY)


def write(folder: Path, photos: list[tuple[int, Path]]) -> None:
    with FeatureWriter(folder, KEY, SHAPE, "float16") as writer:
        entries = [Entry.of(number, path, path.parent) for number, path in photos]
        writer.append(entries, features(*(number for number, _ in photos)))


def prepare(folder: Path, photos: list[tuple[int, Path]], batch: int = 2) -> list[int]:
    """Compute and append all stale rows, like a small run; return what was computed."""
    with FeatureWriter(folder, KEY, SHAPE, "float16") as writer:
        stale = writer.stale(photos)
        paths = dict(photos)
        for start in range(0, len(stale), batch):
            part = stale[start : start + batch]
            entries = [Entry.of(number, paths[number], paths[number].parent) for number in part]
            writer.append(entries, features(*part))
    return stale


def check(folder: Path, numbers: list[int]) -> None:
    store = FeatureStore.open(folder, KEY)
    assert len(store) == len(numbers)
    assert (store.read(numbers) == features(*numbers)).all()
    assert store.verify() == []


# What goes in comes out


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_round_trip(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("store")
    shape = data.draw(st.sampled_from([(1,), (7,), (4, 5)]))
    dtype = data.draw(st.sampled_from(["float16", "float32"]))
    ids = data.draw(
        st.lists(st.integers() | st.text(), unique_by=str, max_size=12), label="image ids"
    )
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(len(ids), *shape)).astype(dtype)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(ids)))) | {0, len(ids)})
    for start, stop in itertools.pairwise(cuts):
        with FeatureWriter(folder, KEY, shape, dtype) as writer:
            entries = [Entry(image_id, "p", 1, 2, "d") for image_id in ids[start:stop]]
            writer.append(entries, rows[start:stop])
    if not ids:
        FeatureWriter(folder, KEY, shape, dtype).close()
    store = FeatureStore.open(folder, KEY)
    assert (store.shape, store.dtype, len(store)) == (shape, np.dtype(dtype), len(ids))
    wanted = data.draw(st.lists(st.sampled_from(range(len(ids)))) if ids else st.just([]))
    read = store.read([ids[i] for i in wanted])
    assert read.dtype == np.dtype(dtype)
    assert read.shape == (len(wanted), *shape)
    assert (read == rows[wanted]).all()
    assert all(image_id in store for image_id in ids)
    assert store.verify() == []
    assert (folder / "features.bin").stat().st_size == size_in_bytes(len(ids), shape, dtype)


def test_numbers_and_texts_are_different_ids(folder):
    with FeatureWriter(folder, KEY, SHAPE, "float16") as writer:
        writer.append([Entry("1", "a", 1, 1, "")], features(1))
    store = FeatureStore.open(folder, KEY)
    assert "1" in store
    assert 1 not in store


def test_the_read_rows_are_the_callers_own(folder, photos):
    write(folder, photos)
    store = FeatureStore.open(folder, KEY)
    store.read([1])[:] = 0
    check(folder, [0, 1, 2, 3, 4])


def test_size_in_bytes():
    assert size_in_bytes(123_287, (2048,), "float16") == 504_983_552  # COCO: half a gigabyte
    assert size_in_bytes(2, (49, 1280), "float32") == 2 * 49 * 1280 * 4


def test_folder_name_depends_on_every_value_and_not_on_their_order():
    assert folder_name(KEY) == folder_name(dict(reversed(KEY.items())))
    assert folder_name(KEY).startswith("toy-")
    names = {folder_name({**KEY, name: "other"}) for name in KEY}
    assert len(names | {folder_name(KEY)}) == len(KEY) + 1
    assert "/" not in folder_name({"encoder": "../../evil path"})
    assert folder_name({"size": (1, 2)}) == folder_name({"size": [1, 2]})


# Photos that change, photos that cannot be read


def test_only_what_is_missing_or_changed_is_stale(folder, photos):
    assert prepare(folder, photos[:3]) == [0, 1, 2]
    store = FeatureStore.open(folder, KEY)
    assert store.stale(photos) == [3, 4]
    assert prepare(folder, photos) == [3, 4]
    assert prepare(folder, photos) == []
    check(folder, [4, 0, 2, 1, 3])


def test_a_changed_photo_is_detected_and_its_new_row_counts(folder, photos):
    write(folder, photos)
    path = photos[2][1]
    old = path.stat()
    path.write_bytes(b"PHOTO 2")  # the same size
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + 1))
    assert FeatureStore.open(folder, KEY).stale(photos) == [2]
    with FeatureWriter(folder, KEY, SHAPE, "float16") as writer:
        assert writer.stale(photos) == [2]
        writer.append([Entry.of(2, path)], features(7))
        assert writer.stale(photos) == []
    store = FeatureStore.open(folder, KEY)
    assert len(store) == 5
    assert (store.read([1, 2, 3]) == features(1, 7, 3)).all()
    path.unlink()
    assert store.stale(photos) == [2]


def test_a_touched_photo_with_the_same_bytes_stays_fresh(folder, photos, monkeypatch):
    write(folder, photos)
    for _, path in photos:
        os.utime(path, ns=(1, 1))
    assert FeatureStore.open(folder, KEY).stale(photos) == []
    assert prepare(folder, photos) == []
    # The writer has recorded the new times, so no later check reads the photos' bytes.
    monkeypatch.setattr("captioner.features.journal.file_digest", pytest.fail)
    assert FeatureStore.open(folder, KEY).stale(photos) == []
    check(folder, [0, 1, 2, 3, 4])


def test_an_unreadable_photo_is_recorded_and_tried_again_only_if_it_changes(folder, photos):
    write(folder, photos[:3])
    gone = photos[4][1].with_name("gone.jpg")
    photos[4] = (4, gone)
    with FeatureWriter(folder, KEY, SHAPE, "float16") as writer:
        writer.error(Entry.of(3, photos[3][1]), "the file is empty")
        writer.error(Entry.of(4, gone), "no such file")
    store = FeatureStore.open(folder, KEY)
    assert store.errors == {3: "the file is empty", 4: "no such file"}
    assert 3 not in store
    assert len(store) == 3
    assert store.stale(photos) == []
    with pytest.raises(StoreError, match="no features of image 3: the file is empty"):
        store.read([0, 3])
    with pytest.raises(StoreError, match="no features of image 9: not prepared yet; run captioner"):
        store.read([9])
    gone.write_bytes(b"here")
    assert store.stale(photos) == [4]
    assert prepare(folder, photos) == [4]
    assert FeatureStore.open(folder, KEY).errors == {3: "the file is empty"}


def test_a_photo_without_permission_is_tried_again(folder, photos):
    with FeatureWriter(folder, KEY, SHAPE, "float16") as writer:
        size, mtime_ns = photos[0][1].stat().st_size, photos[0][1].stat().st_mtime_ns
        writer.error(Entry(0, "0.jpg", size, mtime_ns, None), "no permission to read the file")
    assert FeatureStore.open(folder, KEY).stale(photos[:1]) == [0]


def test_a_photo_that_became_unreadable_loses_its_row(folder, photos):
    write(folder, photos)
    with FeatureWriter(folder, KEY, SHAPE, "float16") as writer:
        writer.error(Entry.of(1, photos[1][1]), "truncated")
    store = FeatureStore.open(folder, KEY)
    assert 1 not in store
    assert store.errors == {1: "truncated"}


def test_paths_are_kept_relative_to_the_root(tmp_path):
    path = photo(tmp_path / "a folder ä", 1)
    assert Entry.of(1, path, tmp_path).path == "a folder ä/1.jpg"
    assert Entry.of(1, path, tmp_path / "elsewhere").path == str(path)
    assert Entry.of(1, path).path == str(path)
    assert Entry.of(1, tmp_path, tmp_path).digest is None  # a folder


# Crashes and damage


def test_a_crash_at_any_byte_of_the_last_append_loses_that_append_at_most(tmp_path, photos):
    done, cut = tmp_path / "done", tmp_path / "cut"
    write(done, photos[:3])
    before = [(done / name).stat().st_size for name in ("features.bin", "index.jsonl")]
    write(done, photos[3:4])
    features_after, index_after = (
        (done / name).read_bytes() for name in ("features.bin", "index.jsonl")
    )
    # Rows are written first: either they are cut and no line is there, or lines are cut.
    states = [(n, before[1]) for n in range(before[0], len(features_after) + 1)]
    states += [(len(features_after), n) for n in range(before[1], len(index_after) + 1)]
    for n_features, n_index in states:
        shutil.rmtree(cut, ignore_errors=True)
        shutil.copytree(done, cut)
        os.truncate(cut / "features.bin", n_features)
        os.truncate(cut / "index.jsonl", n_index)
        store = FeatureStore.open(cut, KEY)
        kept = len(store)
        assert 3 <= kept <= 4
        assert (store.read(range(kept)) == features(*range(kept))).all()
        assert prepare(cut, photos[:4]) == list(range(kept, 4))
        assert (cut / "features.bin").read_bytes() == features_after
        assert (cut / "index.jsonl").read_bytes() == index_after
        check(cut, [0, 1, 2, 3])


def test_a_crash_while_the_store_is_made(folder, photos):
    write(folder, photos)
    (folder / "store.json").unlink()
    with pytest.raises(StoreError, match="no feature store here; run captioner prepare"):
        FeatureStore.open(folder, KEY)
    assert prepare(folder, photos) == [0, 1, 2, 3, 4]  # rows nobody vouches for are not trusted
    check(folder, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("share", [None, 2])
def test_a_header_that_was_not_finished_is_removed(folder, photos, monkeypatch, share):
    def write_share() -> None:
        FeatureWriter(folder, KEY, SHAPE, "float16", share=share).close()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # what is killed tidies nothing
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_share()
    assert list(folder.glob("store.json*"))
    write_share()
    assert [path.name for path in folder.glob("store.json*")] == ["store.json"]


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_a_damaged_journal_gives_right_rows_or_none(tmp_path_factory, data):
    base = tmp_path_factory.mktemp("damaged")
    photos = [(number, photo(base / "photos", number)) for number in range(4)]
    write(base / "store", photos)
    path = base / "store" / "index.jsonl"
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["flip", "delete", "zero", "double"])):
            case "flip":
                content[at] ^= 1 << data.draw(st.integers(0, 7))
            case "delete":
                del content[at : at + 9]
            case "zero":
                content[at:] = bytes(len(content) - at)
            case "double":
                content[at:at] = content[:at]
        if not content:
            break
    path.write_bytes(content)
    store = FeatureStore.open(base / "store", KEY)
    kept = [number for number in range(4) if number in store]
    assert (store.read(kept) == features(*kept)).all()
    prepare(base / "store", photos)
    check(base / "store", [0, 1, 2, 3])


def test_a_line_with_a_valid_check_and_invalid_values_is_ignored(folder, photos):
    write(folder, photos)
    good = (folder / "index.jsonl").read_bytes()
    for rest in (b"1]\n", b'"row": 0}\n', b'"row": -1, "crc32": 0}\n', b"\n"):
        check_bytes = module.zlib.crc32(rest)
        (folder / "index.jsonl").write_bytes(good + b'{"check": "%08x", ' % check_bytes + rest)
        assert len(FeatureStore.open(folder, KEY)) == 5


def test_verify_finds_a_damaged_row(folder, photos):
    write(folder, photos)
    with (folder / "features.bin").open("r+b") as file:
        file.seek(size_in_bytes(3, SHAPE, "float16"))
        file.write(b"x")
    assert FeatureStore.open(folder, KEY).verify() == [3]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"{}", b'{"format": 1}', b"\xff"])
def test_a_damaged_header(folder, photos, content):
    write(folder, photos)
    (folder / "store.json").write_bytes(content)
    for opening in (
        lambda: FeatureStore.open(folder, KEY),
        lambda: FeatureWriter(folder, KEY, SHAPE, "float16"),
    ):
        with pytest.raises(StoreError, match=r"store\.json: damaged .* remove the folder"):
            opening()


@pytest.mark.parametrize(("version", "age"), [(0, "an older"), (99, "a newer")])
def test_another_format_version(folder, photos, version, age):
    write(folder, photos)
    values = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps({**values, "format": version}))
    for opening in (
        lambda: FeatureStore.open(folder, KEY),
        lambda: FeatureWriter(folder, KEY, SHAPE, "float16"),
    ):
        with pytest.raises(StoreError, match=f"{age} version of captioner"):
            opening()
    assert (folder / "features.bin").stat().st_size == size_in_bytes(5, SHAPE, "float16")


def test_another_key_shape_or_dtype(folder, photos):
    write(folder, photos)
    other = {**KEY, "weights": "ffff", "grid": True}
    with pytest.raises(StoreError, match="with another grid, weights; run captioner prepare"):
        FeatureStore.open(folder, other)
    with pytest.raises(StoreError, match="computed with another grid, weights"):
        FeatureWriter(folder, other, SHAPE, "float16")
    with pytest.raises(StoreError, match=r"holds float16 features of shape \(3,\), not float32"):
        FeatureWriter(folder, KEY, SHAPE, "float32")
    with pytest.raises(StoreError, match=r"not float16 \(4,\)"):
        FeatureWriter(folder, KEY, (4,), "float16")
    with pytest.raises(UsageError, match="dtype 'int4' is not one of float16, float32"):
        FeatureWriter(folder, KEY, SHAPE, "int4")
    with pytest.raises(UsageError, match="not the shape of a photo's features"):
        FeatureWriter(folder, KEY, (0,), "float16")


def test_unsuitable_rows_are_refused(folder, photos):
    entry = Entry.of(*photos[0])
    with FeatureWriter(folder, KEY, SHAPE, "float16") as writer:
        with pytest.raises(StoreError, match="image 0 are not finite in float16; use float32"):
            writer.append([entry], np.full((1, 3), 1e6))
        with pytest.raises(ValueError, match=r"rows have shape \(1, 4\), not \(1, 3\)"):
            writer.append([entry], np.zeros((1, 4)))
        writer.append([], np.zeros((0, 3)))
        writer.append([entry], features(0))
    check(folder, [0])


# The disk


@pytest.mark.parametrize("room", range(0, 700, 37))
def test_a_disk_that_fills_up_at_any_byte(tmp_path, photos, monkeypatch, room):
    folder = tmp_path / "store"
    write(folder, photos[:2])

    def full(file: object, content: bytes) -> None:
        nonlocal room
        taken, room = min(room, len(content)), room - min(room, len(content))
        os.write(file.fileno(), content[:taken])  # type: ignore[attr-defined]
        if taken < len(content):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_all", full)
        try:
            write(folder, photos[2:])
        except StoreError as error:
            text = str(error)
        else:
            text = ""
    if text:
        assert "No space left on device; its rows stay valid" in text
        check(folder, [0, 1])
    assert prepare(folder, photos) == ([2, 3, 4] if text else [])
    check(folder, [0, 1, 2, 3, 4])


def test_a_write_that_the_system_stops_midway(folder, photos):
    """A real short write: the process's limit on the size of a file, in the middle of a row."""
    write(folder, photos[:2])
    code = (
        "import numpy as np, sys; from pathlib import Path\n"
        "from captioner.features.writer import *\n"
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))\n"
        f"with FeatureWriter(Path(sys.argv[1]), {KEY!r}, (3,), 'float16') as writer:\n"
        "    for n in range(2, 500):\n"
        "        writer.append([Entry(n, 'p', 1, 1, 'd')], np.array([(n, n + .5, -n)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    assert "StoreError" in done.stderr
    assert "File too large; its rows stay valid" in done.stderr
    kept = len(FeatureStore.open(folder, KEY))
    assert kept > 2
    check(folder, list(range(kept)))


def test_an_interrupt_in_the_middle_of_a_write(folder, photos, monkeypatch):
    def interrupted(file: object, content: bytes) -> None:
        os.write(file.fileno(), content[:4])  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with FeatureWriter(folder, KEY, SHAPE, "float16") as writer:
        writer.append([Entry.of(*photos[0])], features(0))
        with monkeypatch.context() as patch:
            patch.setattr(module, "_write_all", interrupted)
            with pytest.raises(KeyboardInterrupt):
                writer.append([Entry.of(*photos[1])], features(1))
    assert prepare(folder, photos) == [1, 2, 3, 4]
    check(folder, [0, 1, 2, 3, 4])


def test_a_folder_that_cannot_be_written(tmp_path, photos, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written: Not a directory"):
        write(tmp_path / "file" / "store", photos)
    write(tmp_path / "store", photos)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(FeatureWriter, "_keep", refuse)
        with pytest.raises(StoreError, match="cannot be written: Read-only file system"):
            write(tmp_path / "store", photos)
    (tmp_path / "store" / "index.jsonl").unlink()
    with pytest.raises(StoreError, match=r"index\.jsonl: missing.*; remove \S+ and run capt"):
        FeatureStore.open(tmp_path / "store", KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"path": 5},
        {"path": None},
        {"image_id": 1.5},
        {"image_id": [1]},
        {"image_id": None},
        {"size": "1"},
        {"mtime_ns": 1.5},
        {"digest": 7},
        {"row": "0"},
        {"turn": None},
    ],
    ids=str,
)
def test_a_forged_line_of_wrong_types_does_not_count(tmp_path, photos, change):
    write(tmp_path, photos)
    index = tmp_path / "index.jsonl"
    lines = index.read_bytes().splitlines(keepends=True)
    values = {**json.loads(lines[0]), **change}
    del values["check"]
    rest = json.dumps(values)[1:].encode() + b"\n"
    forged = b'{"check": "%08x", ' % zlib.crc32(rest) + rest
    index.write_bytes(b"".join([forged, *lines[1:]]))
    store = FeatureStore.open(tmp_path, KEY)
    assert 0 not in store
    assert len(store) == len(photos) - 1


def test_a_line_without_an_end_is_read_in_pieces(tmp_path, photos):
    write(tmp_path, photos)
    with (tmp_path / "index.jsonl").open("r+b") as file:
        file.truncate(2**27)
    tracemalloc.start()
    try:
        assert len(FeatureStore.open(tmp_path, KEY)) == len(photos)
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    ['{"format": null}', '{"format": "1"}', '{"format": 1}', "[]", "3", "[" * 10**5, "9" * 5000],
)
def test_a_header_of_wrong_types(tmp_path, photos, text):
    write(tmp_path, photos)
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(StoreError, match=r"store\.json: damaged .*run captioner prepare"):
        FeatureStore.open(tmp_path, KEY)


# Several processes


def test_one_writer_at_a_time(folder, photos):
    with FeatureWriter(folder, KEY, SHAPE, "float16") as writer:
        with pytest.raises(StoreError, match="another prepare is writing this store"):
            FeatureWriter(folder, KEY, SHAPE, "float16")
        writer.append([Entry.of(*photos[0])], features(0))  # the other one has done no harm
        check(folder, [0])
    write(folder, photos[1:])
    check(folder, [0, 1, 2, 3, 4])


def test_a_killed_writer_leaves_no_lock(folder, photos):
    write(folder, photos)
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from captioner.features.writer import *\n"
        f"writer = FeatureWriter(Path(sys.argv[1]), {KEY!r}, (3,), 'float16')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, folder]).returncode == -9
    assert prepare(folder, photos) == []


def read_often(store: FeatureStore, seed: int, send: Callable[[object], None]) -> None:
    generator = np.random.default_rng(seed)
    for _ in range(200):
        numbers = generator.integers(0, len(store), 8).tolist()
        if not (store.read(numbers) == features(*numbers)).all():
            send(f"wrong rows of {numbers}")
            return
    send("right")


def read_in_worker(pickled: bytes, seed: int, queue: object) -> None:
    read_often(pickle.loads(pickled), seed, queue.put)  # type: ignore[attr-defined]


def test_readers_in_several_processes_during_writing(folder, photos):
    write(folder, photos)
    store = FeatureStore.open(folder, KEY)
    store.read([0])  # the map itself must not travel
    pickled = pickle.dumps(store)
    assert len(pickled) < 4000
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [
        context.Process(target=read_in_worker, args=(pickled, seed, queue)) for seed in range(2)
    ]
    for worker in workers:
        worker.start()
    more = [(number, photo(photos[0][1].parent, number)) for number in range(5, 60)]
    prepare(folder, photos + more, batch=1)
    assert [queue.get(timeout=60) for _ in workers] == ["right", "right"]
    for worker in workers:
        worker.join()
    assert len(store) == 5  # as it was when it was opened
    check(folder, list(range(60)))


# Several processes fill it together


def write_share(folder: Path, share: int | None, photos: list[tuple[int, Path]], add: int = 0):
    with FeatureWriter(folder, KEY, SHAPE, "float16", share=share) as writer:
        stale = set(writer.stale(photos))
        for number, path in photos:
            if number in stale:
                writer.append([Entry.of(number, path, path.parent)], features(number + add))


def test_shares_are_one_store(folder, photos):
    with (
        FeatureWriter(folder, KEY, SHAPE, "float16", share=1) as one,
        FeatureWriter(folder, KEY, SHAPE, "float16", share=2) as two,
    ):
        for number, path in photos:
            writer = (one, two)[number % 2]
            writer.append([Entry.of(number, path)], features(number))
            check(folder, list(range(number + 1)))
        with pytest.raises(StoreError, match="another prepare is writing share 2 of this"):
            FeatureWriter(folder, KEY, SHAPE, "float16", share=2)
        with pytest.raises(StoreError, match="another prepare is writing this store"):
            FeatureWriter(folder, KEY, SHAPE, "float16")
    with (
        FeatureWriter(folder, KEY, SHAPE, "float16"),
        pytest.raises(StoreError, match="another prepare is writing this store"),
    ):
        FeatureWriter(folder, KEY, SHAPE, "float16", share=1)
    assert prepare(folder, photos) == []
    check(folder, [4, 0, 3, 1, 2])
    assert pickle.loads(pickle.dumps(FeatureStore.open(folder, KEY))).read([3]).tolist() == [
        features(3)[0].tolist()
    ]


def test_the_latest_part_counts_whoever_wrote_it(folder, photos):
    """A photo that changes again and again, each time computed by another share."""
    path = photos[0][1]
    for turn, share in enumerate([None, 2, 1, None, 3, 1, 2, None]):
        path.write_bytes(b"x" * (turn + 1))
        write_share(folder, share, photos[:1], add=turn)
        store = FeatureStore.open(folder, KEY)
        assert (store.read([0]) == features(turn)).all()
        assert store.stale(photos[:1]) == []


def test_shares_cut_at_any_byte(tmp_path, photos):
    done, cut = tmp_path / "done", tmp_path / "cut"
    write_share(done, 1, photos[:2])
    write_share(done, 2, photos[2:4])
    for name in ("features-1.bin", "index-1.jsonl", "index-2.jsonl"):
        for size in range(0, (done / name).stat().st_size, 29):
            shutil.rmtree(cut, ignore_errors=True)
            shutil.copytree(done, cut)
            os.truncate(cut / name, size)
            store = FeatureStore.open(cut, KEY)
            kept = [number for number in range(4) if number in store]
            assert (store.read(kept) == features(*kept)).all()
            write_share(cut, 1, photos[:2])
            write_share(cut, 2, photos[2:4])
            check(cut, [0, 1, 2, 3])


def test_a_store_without_header_forgets_its_shares(folder, photos):
    write_share(folder, 2, photos)
    (folder / "store.json").unlink()
    assert prepare(folder, photos) == [0, 1, 2, 3, 4]


def fill(folder: Path, share: int, photos: list[tuple[int, Path]]) -> None:
    write_share(folder, share, photos[share - 1 :: 2])


def test_two_processes_fill_it_at_once(folder, photos):
    more = [*photos, *((n, photo(photos[0][1].parent, n)) for n in range(5, 30))]
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fill, args=(folder, share, more)) for share in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    check(folder, list(range(30)))


# Damage is found, and only what is damaged is computed again


@pytest.mark.parametrize("share", [None, 1])
def test_a_damaged_row_is_removed(folder, photos, share):
    write_share(folder, share, photos)
    with next(folder.glob("features*[1n].bin" if share else "features.bin")).open("r+b") as file:
        file.seek(size_in_bytes(3, SHAPE, "float16"))
        file.write(b"x")
    store = FeatureStore.open(folder, KEY)
    assert store.verify() == [3]
    assert store.damage() == []
    with FeatureWriter(folder, KEY, SHAPE, "float16") as writer:
        writer.forget([3], "damaged")
    assert FeatureStore.open(folder, KEY).errors == {3: "damaged"}
    assert prepare(folder, photos) == [3]
    check(folder, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("share", [None, 1])
def test_a_damaged_line_costs_its_own_photo(folder, photos, share):
    write_share(folder, share, photos)
    index = folder / ("index-1.jsonl" if share else "index.jsonl")
    texts = index.read_bytes().splitlines(keepends=True)
    texts[1] = texts[1].replace(b"jpg", b"jpX")
    index.write_bytes(b"".join(texts))
    store = FeatureStore.open(folder, KEY)
    assert [number for number in range(5) if number in store] == [0, 2, 3, 4]
    (fault,) = store.damage()
    assert fault == f"{index}: 1 lines are not as they were written"
    assert prepare(folder, photos) == [1]
    assert FeatureStore.open(folder, KEY).damage() == []
    check(folder, [0, 1, 2, 3, 4])


def test_rows_that_were_cut_off(folder, photos):
    write_share(folder, None, photos)
    os.truncate(folder / "features.bin", size_in_bytes(3, SHAPE, "float16") + 1)
    (fault,) = FeatureStore.open(folder, KEY).damage()
    assert "2 lines without rows: features.bin was cut short" in fault
    assert prepare(folder, photos) == [3, 4]
    assert FeatureStore.open(folder, KEY).damage() == []
    check(folder, [0, 1, 2, 3, 4])


def test_a_killed_run_does_not_count_as_damage(folder, photos):
    write_share(folder, None, photos)
    os.truncate(folder / "index.jsonl", (folder / "index.jsonl").stat().st_size - 9)
    assert FeatureStore.open(folder, KEY).damage() == []

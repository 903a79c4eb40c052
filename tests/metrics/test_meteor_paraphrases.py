"""METEOR's paraphrase table: hashing, reading and caching."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from meteor_files import PARAPHRASES, write_data

from captioner.errors import CaptionerError
from captioner.files.lock import take_lock
from captioner.metrics.meteor import paraphrases
from captioner.metrics.meteor.data import load_data
from captioner.metrics.meteor.paraphrases import load_table, read_table
from captioner.metrics.meteor.phrase_hash import HashedText


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_data(tmp_path / "meteor")


@pytest.fixture
def table_file(folder):
    return folder / "data" / "paraphrase-en.gz"


def hash_of(phrase: str) -> int:
    text = phrase.encode()
    return int(HashedText(text).hashes(np.array([0]), np.array([len(text)]))[0])


@given(st.lists(st.text("abé ", min_size=1, max_size=4), min_size=1, max_size=30))
def test_equal_spans_have_equal_hashes(parts):
    parts = [part.encode() for part in parts]
    ends = np.cumsum([len(part) for part in parts])
    found = HashedText(b"".join(parts)).hashes(ends - [len(part) for part in parts], ends)
    assert len(set(found.tolist())) == len(set(parts))
    for part, value in zip(parts, found.tolist(), strict=True):
        assert value == hash_of(part.decode())


def pairs_of(table, phrases):
    """Return the pairs of phrases that the table relates."""
    known = np.unique(np.array([hash_of(phrase) for phrase in phrases], dtype=np.uint64))
    names = {hash_of(phrase): phrase for phrase in phrases}
    ours, theirs = table.among(known)
    ours, theirs = known[ours].tolist(), known[theirs].tolist()
    return [(names[a], names[b]) for a, b in zip(ours, theirs, strict=True)]


def test_rows_with_two_known_sides_are_found(table_file):
    table = read_table(table_file)
    assert table.longest == 3
    everything = {phrase for pair in PARAPHRASES for phrase in pair}
    assert set(pairs_of(table, everything)) == set(PARAPHRASES)
    assert pairs_of(table, {"a lot of", "plenty of", "dog"}) == [("a lot of", "plenty of")]
    assert pairs_of(table, {"plenty of", "many"}) == []
    assert pairs_of(table, set()) == []


def test_paraphrases_stay_in_the_order_of_the_file(tmp_path):
    rows = [("a", word) for word in ("zebra", "yak", "bee", "ant")]
    rows += [("b", "c"), ("a", "late")]
    folder = write_data(tmp_path, rows)
    table = read_table(folder / "data" / "paraphrase-en.gz")
    assert [
        pair for pair in pairs_of(table, {w for row in rows for w in row}) if pair[0] == "a"
    ] == [row for row in rows if row[0] == "a"]


def test_block_size_does_not_change_the_table(tmp_path, monkeypatch):
    rows = [(f"phrase {n // 3}", f"other {n} é") for n in range(300)]
    file = write_data(tmp_path, rows) / "data" / "paraphrase-en.gz"
    whole = read_table(file)
    monkeypatch.setattr(paraphrases, "_BLOCK", 50)
    parted = read_table(file)
    for ours, theirs in zip(vars(parted).values(), vars(whole).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(whole.phrases) == 100


def test_a_table_is_read_once(table_file, tmp_path, monkeypatch):
    first = load_table(table_file)
    [kept] = (tmp_path / "cache" / "captioner").glob("*.npz")
    monkeypatch.setattr(paraphrases, "read_table", lambda path: pytest.fail("read again"))
    second = load_table(table_file)
    for ours, theirs in zip(vars(first).values(), vars(second).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kept.write_bytes(kept.read_bytes()[:300])
    np.testing.assert_array_equal(load_table(table_file).paraphrases, first.paraphrases)
    assert kept.stat().st_size > 300
    assert {path.name for path in kept.parent.iterdir()} == {kept.name, "lock"}


def test_a_killed_process_leaves_no_broken_cache(table_file, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError("killed")))
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        load_table(table_file)
    folder = tmp_path / "cache" / "captioner"
    assert list(folder.glob("*.part"))
    load_table(table_file)
    assert not list(folder.glob("*.part"))
    assert len(list(folder.glob("*.npz"))) == 1


def test_a_locked_cache_is_not_written(table_file, tmp_path):
    folder = tmp_path / "cache" / "captioner"
    folder.mkdir(parents=True)
    with (folder / "lock").open("ab") as lock:
        assert take_lock(lock)
        assert len(load_table(table_file).phrases) == 3
    assert not list(folder.glob("paraphrases*"))


def test_another_file_has_its_own_cache_entry(table_file, tmp_path):
    load_table(table_file)
    other = write_data(tmp_path / "other", [("a", "b")]) / "data" / "paraphrase-en.gz"
    assert len(load_table(other).phrases) == 1


def test_an_unwritable_cache_is_no_error(table_file, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(load_table(table_file).phrases) == 3


def test_a_user_without_a_home_has_no_cache(table_file, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert len(load_table(table_file).phrases) == 3


@pytest.mark.parametrize("content", [b"", b"no gzip", None])
def test_an_unreadable_table_is_one_line(folder, table_file, content):
    table_file.write_bytes(table_file.read_bytes()[:-20] if content is None else content)
    with pytest.raises(CaptionerError) as raised:
        load_data(folder).paraphrases  # noqa: B018
    assert str(raised.value).startswith(f"{table_file}: METEOR's data cannot be read (")
    assert str(raised.value).endswith("; reinstall pycocoevalcap")
    assert "\n" not in str(raised.value)

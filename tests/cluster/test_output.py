"""The folder of captions: whole files, a manifest, and only what belongs to the command."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.cluster import output as module
from captioner.cluster.names import digests
from captioner.cluster.output import Folder, Output, Written, digests_of, without_repeats
from captioner.errors import CaptionerError, UsageError

RECIPE = {"inputs": ["photos"], "options": {"beam_size": None}, "checkpoints": ["1"]}


def rows(*ids: str) -> pa.Table:
    records = [json.dumps({"id": one, "image": one, "caption": "a dog"}) for one in ids]
    return pa.table({"id": list(ids), "record": records, "failed": [False] * len(ids)})


def begun(folder: Path, form: str = "jsonl", **changes: object) -> Output:
    folder.mkdir(exist_ok=True)
    return Output(Folder(str(folder)), RECIPE | changes, form, 3)


def test_files_have_the_size_asked_for(tmp_path) -> None:
    output = begun(tmp_path / "out")
    output.add(rows("a", "b"))
    output.add(rows(*"cdefg"))
    assert output.count == 6
    output.flush()
    assert [one.count for one in output.files.values()] == [3, 3, 1]
    again = begun(tmp_path / "out")
    assert again.files == output.files
    names = [
        digests_of(again.folder.place(one), "jsonl", again.files[one].digest) for one in again.files
    ]
    assert sorted(b"".join(one.tobytes() for one in names if one is not None)) == sorted(
        digests(list("abcdefg")).tobytes()
    )


def test_large_rows_are_written_early(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 10)
    output = begun(tmp_path / "out")
    output.add(rows("a"))
    assert output.count == 1


def test_parquet_files_are_a_data_set(tmp_path) -> None:
    output = begun(tmp_path / "out", "parquet")
    table = {"id": ["a", "b"], "caption": ["a dog", None], "error": pa.array([None, "bad"])}
    output.add(pa.table(table))
    output.flush()
    assert output.errors == 1
    assert pq.read_table(tmp_path / "out").num_rows == 2  # the manifest is no part of it


def test_a_damaged_file_does_not_count(tmp_path) -> None:
    output = begun(tmp_path / "out")
    output.add(rows("a", "b", "c"))
    ((name, written),) = output.files.items()
    place = output.folder.place(name)
    assert digests_of(place, "jsonl", written.digest) is not None
    Path(place).write_text("damaged\n")
    assert digests_of(place, "jsonl", written.digest) is None
    Path(place).unlink()
    assert digests_of(place, "jsonl", written.digest) is None


@given(st.lists(st.none() | st.text("abcdefgh", max_size=3), max_size=5))
def test_each_row_is_kept_once(contents: list[str | None]) -> None:
    files = {str(i): Written(len(one or ""), 0, "") for i, one in enumerate(contents)}
    found = {str(i): None if one is None else digests(one) for i, one in enumerate(contents)}
    expected: dict[str, str] = {}
    for i, one in enumerate(contents):
        earlier = set("".join(expected.values()))
        if one is not None and len(set(one)) == len(one) and not earlier & set(one):
            expected[str(i)] = one
    kept, left = without_repeats(found, files)
    assert left.keys() == expected.keys()
    assert kept.tolist() == sorted(digests("".join(expected.values())).tolist())


@pytest.mark.parametrize(
    ("form", "changes", "told"),
    [
        ("parquet", {}, "begun with other --format"),
        ("jsonl", {"options": {"beam_size": 3}}, "begun with other --beam-size"),
        ("jsonl", {"checkpoints": ["2"]}, "begun with other checkpoints"),
        ("jsonl", {"inputs": ["others"]}, "begun with other inputs"),
    ],
)
def test_another_command_is_refused(form, changes, told, tmp_path) -> None:
    begun(tmp_path / "out")
    with pytest.raises(UsageError) as error:
        begun(tmp_path / "out", form, **changes)
    assert told in str(error.value)


def test_a_folder_of_one_machine_is_refused(tmp_path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match="begun without --engine ray"):
        begun(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"files": {"a": 1}}', b"\xff"])
def test_a_damaged_manifest_is_one_line(content, tmp_path) -> None:
    (tmp_path / "_manifest.json").write_bytes(content)
    with pytest.raises(CaptionerError) as error:
        begun(tmp_path)
    assert "_manifest.json: damaged" in str(error.value)

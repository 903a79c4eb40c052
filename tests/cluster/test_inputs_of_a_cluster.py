"""What a command names, as rows for tasks; without Ray."""

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import make_photo

from captioner.cluster import storage
from captioner.cluster.decode import _in_parquet, _in_tar, _row, from_table
from captioner.cluster.names import NONE, Seen, digests
from captioner.cluster.photos import Columns, tables, units
from captioner.errors import CaptionerError, UsageError
from captioner.photos.inputs import expand


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for i in range(3):
        make_photo(folder / f"{i}.png", i)
    (folder / "broken.jpg").write_bytes(b"no photo")
    (folder / ".hidden.png").write_bytes(b"")
    with tarfile.open(folder / "more.tar", "w") as tar:
        for i in range(3):
            tar.add(folder / f"{i}.png", arcname=f"deep/{i}.png")
        tar.add(folder / "0.png", arcname="deep/0.png")  # the same name once more
    return folder


def rows_of(found: list, done: np.ndarray = NONE) -> list:
    """All rows of units, as the tasks read them."""
    rows = []
    for table in tables(found, Seen(done)):
        for unit in table.to_pylist():
            row = _row(unit)
            if unit["kind"] == "tar":
                rows += _in_tar(row, done)
            elif unit["kind"] == "rows":
                rows += _in_parquet(row, json.loads(unit["more"]), done)
            else:
                rows.append(row)
    return rows


def as_uri(path: Path) -> str:
    return f"file://{path}"


@pytest.mark.parametrize("name", [str, as_uri])
def test_the_same_photos_as_on_one_machine(name, tmp_path) -> None:
    folder = folder_of(tmp_path)
    here = dict.fromkeys(str(one.path) for one in expand([str(folder)]))
    found = rows_of(list(units([name(folder)])))
    assert sorted(row.image.removeprefix("file://") for row in found) == sorted(here)
    assert len({row.id for row in found}) == len(found)
    assert all((row.content is not None) == ("deep" in row.image) for row in found)


@pytest.mark.parametrize("name", [str, as_uri])
def test_what_is_known_is_skipped(name, tmp_path) -> None:
    folder = folder_of(tmp_path)
    every = rows_of(list(units([name(folder)])))
    done = np.sort(digests([row.id for row in every[::2]]))
    left = rows_of(list(units([name(folder)])), done)
    assert [row.id for row in left] == [row.id for row in every[1::2]]


def test_lists_hold_paths_and_uris_in_order(tmp_path) -> None:
    folder = folder_of(tmp_path)
    lines = [str(folder / "2.png"), as_uri(folder / "1.png"), str(folder / "0.png")]
    (tmp_path / "list.txt").write_text("".join(f"{line}\n" for line in [*lines, lines[0]]))
    found = rows_of(list(units([], lists=[str(tmp_path / "list.txt")])))
    assert [row.image for row in found] == lines  # the repeated one once


def test_a_glob_of_uris(tmp_path) -> None:
    folder = folder_of(tmp_path)
    found = [unit.image for unit in units([f"file://{folder}/[01].p*"])]
    assert found == [as_uri(folder / "0.png"), as_uri(folder / "1.png")]
    missing = list(units([f"file://{folder}/none-{{0..1}}.png"]))
    assert [unit.image for unit in missing] == [as_uri(folder / f"none-{i}.png") for i in (0, 1)]


def test_a_coco_file_in_object_storage(tmp_path) -> None:
    folder = folder_of(tmp_path)
    entries = [{"file_name": "0.png"}, {"file_name": "../secret.png"}, {"file_name": 3}]
    (folder / "captions.json").write_text(json.dumps({"images": entries}))
    found = list(units([as_uri(folder / "captions.json")]))
    assert found[0].place == as_uri(folder / "0.png")
    assert "outside its folder" in str(found[1].error)
    assert "no file name" in str(found[2].error)


def parquet(tmp_path: Path, **columns: list) -> Path:
    pq.write_table(pa.table(columns), tmp_path / "photos.parquet", row_group_size=2)
    return tmp_path / "photos.parquet"


@pytest.mark.parametrize("name", [str, as_uri])
def test_parquet_with_contents(name, tmp_path) -> None:
    contents = [make_photo(tmp_path / f"{i}.png", i).read_bytes() for i in range(3)]
    file = parquet(tmp_path, bytes=[*contents, None], caption=["a", "b", "c", "d"])
    found = rows_of(list(units([name(file)])))
    assert [row.id for row in found] == [f"{name(file)}#{i}" for i in range(4)]
    assert [row.content for row in found] == [*contents, None]
    assert "no photo" in str(found[3].error)
    done = np.sort(digests([found[1].id]))
    assert len(rows_of(list(units([name(file)])), done)) == 3


def test_parquet_with_paths_and_ids(tmp_path) -> None:
    paths = [str(make_photo(tmp_path / f"{i}.png", i)) for i in range(3)]
    file = parquet(tmp_path, number=[7, 8, 8], where=paths)
    found = rows_of(list(units([str(file)], columns=Columns("where", "number"))))
    assert [(row.id, row.place) for row in found] == [
        ("7", paths[0]),
        ("8", paths[1]),
        ("8", paths[2]),  # another row group: two groups are not compared
    ]


def test_parquet_as_hugging_face_writes_it(tmp_path) -> None:
    content = make_photo(tmp_path / "0.png", 0).read_bytes()
    images = [{"bytes": content, "path": "dog.png"}, {"bytes": content, "path": None}]
    found = rows_of(list(units([str(parquet(tmp_path, image=images))])))
    assert [row.content for row in found] == [content, content]
    assert found[0].image == "dog.png"


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (Columns("pixels"), "no column 'pixels'; it has text, size"),
        (Columns(id="key"), "no column 'key'"),
        (Columns("size"), "column 'size' holds int64; expected file contents"),
        (Columns(), "which column holds the photos? It has text, size; name one"),
    ],
)
def test_a_column_that_does_not_fit(columns, told, tmp_path) -> None:
    file = parquet(tmp_path, text=["a"], size=[1])
    with pytest.raises(UsageError) as error:
        list(units([str(file)], columns=columns))
    assert told in str(error.value)


def test_a_damaged_parquet_file_is_one_line(tmp_path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing")
    for name in (str(tmp_path / "bad.parquet"), str(tmp_path / "none.parquet")):
        with pytest.raises(CaptionerError) as error:
            list(units([name]))
        assert "\n" not in str(error.value)


def test_a_damaged_tar_is_an_error_row_beside_its_photos(tmp_path) -> None:
    folder = folder_of(tmp_path)
    whole = (folder / "more.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:3000])
    for name in (str(tmp_path / "cut.tar"), as_uri(tmp_path / "cut.tar")):
        *photos, last = rows_of(list(units([name])))
        assert last.image == name
        assert last.error is not None
        assert last.id != name  # a rerun reads the tar again
        assert all(row.content for row in photos)


def test_a_name_of_any_bytes_travels(tmp_path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    Path(name).write_bytes(make_photo(tmp_path / "0.png", 0).read_bytes())
    (row,) = rows_of(list(units([name])))
    assert row.image == row.place == name
    row.id.encode()


def test_a_table_of_the_user() -> None:
    table = pa.table({"path": ["a.png", "s3://b/c.png"], "bytes": [b"1", b"2"]})
    found = from_table(table, columns=Columns()).to_pylist()
    assert [row["id"] for row in found] == ["a.png", "s3://b/c.png"]
    assert [row["content"] for row in found] == [b"1", b"2"]
    with pytest.raises(UsageError, match="name a column of ids with id_column"):
        from_table(pa.table({"bytes": [b"1"]}), columns=Columns())


def test_storage_explains_itself(tmp_path) -> None:
    with pytest.raises(CaptionerError, match="no such file"):
        storage.content(as_uri(tmp_path / "none"), 10)
    with pytest.raises(UsageError, match="cannot be opened"):
        storage.opened("gopher://host/photos")
    assert storage.content(as_uri(make_photo(tmp_path / "a b%20.png", 0)), 3)[1:] == b"PNG"


def test_many_photos_come_in_larger_blocks(tmp_path) -> None:
    (tmp_path / "list.txt").write_text("".join(f"s3://b/{i}.jpg\n" for i in range(6000)))
    found = list(tables(units([], lists=[str(tmp_path / "list.txt")]), Seen()))
    assert sum(map(len, found)) == 6000
    assert len(found[0]) == 64
    assert len(found[-2]) == 512

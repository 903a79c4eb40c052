"""Records: one line each and valid UTF-8, whatever names and captions hold; ids that are unique."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.display import from_csv_cell, one_line
from captioner.inference.result import Candidate, PhotoCaptions
from captioner.inference.writers import FORMATS, RecordWriter

wild = st.text(
    st.sampled_from(
        "a=+-@'\"\\,;/\t\n\r\v\f\x00\x1b\x7f\x85\x9b\u2028\u2029\u202e\ud800\udcff é犬"
    ),
    min_size=1,
    max_size=8,
).filter(lambda text: text not in (".", "..") and not {"\0", "\ud800"} & set(text))


def result(path: str, caption: str | None, log_prob: float = -1.5) -> PhotoCaptions:
    if caption is None:
        return PhotoCaptions(Path(path), error=f"bad\n{path}")
    return PhotoCaptions(Path(path), (Candidate(caption, log_prob, log_prob, ("a",), (log_prob,)),))


def written(form: str, *records: PhotoCaptions) -> str:
    file = io.StringIO(newline="")
    writer = RecordWriter(file, form)
    for record in records:
        writer.write(record)
    writer.finish()
    return file.getvalue().encode().decode()  # valid UTF-8


@given(st.lists(st.tuples(wild, wild | st.none()), min_size=1, max_size=4))
def test_one_record_is_one_line(rows: list[tuple[str, str | None]]) -> None:
    records = [result(*row) for row in rows]
    for form, extra in (("text", 0), ("jsonl", 0), ("csv", 1)):
        assert len(written(form, *records).splitlines()) == len(records) + extra
    lines = [line.split("\t") for line in written("text", *records).splitlines()]
    assert all(len(line) == 2 for line in lines)
    parsed = [json.loads(line) for line in written("jsonl", *records).splitlines()]
    assert [(one["image"], one.get("caption")) for one in parsed] == [
        (str(record.path), record.caption) for record in records
    ]
    cells = list(csv.reader(io.StringIO(written("csv", *records))))[1:]
    assert [[from_csv_cell(cell) for cell in row] for row in cells] == [
        [one_line(str(record.path)), one_line(record.caption or ""), one_line(record.error or "")]
        for record in records
    ]
    assert not any(cell.startswith(tuple("=+-@\t\r")) for row in cells for cell in row)


@given(st.lists(st.sampled_from(["a/1.png", "b/1.png", "1.png", "x", "a/x", "b/x", "b/\udcff"])))
def test_coco_ids_are_unique_and_no_photo_is_lost(paths: list[str]) -> None:
    results = json.loads(written("coco", *(result(path, f"of {path}") for path in paths)))
    ids = [result["image_id"] for result in results]
    assert len(set(ids)) == len(ids)
    assert {result["caption"] for result in results} == {f"of {path}" for path in paths}
    assert len(results) == len(set(paths))


def test_a_coco_id_is_the_name_until_it_is_taken(tmp_path: Path) -> None:
    paths = ["a/dog.jpg", "b/dog.jpg", "dog.jpg", "a/7.jpg", "b/COCO_val2014_000000000007.jpg"]
    results = json.loads(written("coco", *(result(path, "x") for path in paths)))
    assert [result["image_id"] for result in results] == [
        "dog.jpg", "b/dog.jpg", str(Path("dog.jpg").absolute()), 7, paths[-1],
    ]  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_numbers_that_are_none(form: str) -> None:
    text = written(form, result("a.png", "x", float("nan")), result("b.png", "y", -1e999))
    assert "NaN" not in text
    assert "Infinity" not in text


def test_nothing_at_all() -> None:
    assert [written(form) for form in FORMATS] == ["", "", "image,caption,error\n", "[]\n"]
    assert json.loads(written("coco", result("a.png", None))) == []

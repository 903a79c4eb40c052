"""Tables of captions: headings, delimiters, careless rows, and what a writer of CSV made."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from captioner.datasets.caption_table import DELIMITERS, parse_columns, read_table
from captioner.datasets.records import Collector
from captioner.errors import CaptionerError, UsageError


def read(file: Path, text: str, columns: str | None = None) -> tuple[list[tuple[str, str]], list]:
    file.write_bytes(text.encode())
    collector = Collector()
    rows = list(read_table(collector, file, parse_columns(columns)))
    problems = [problem.place for problem in collector.loaded.problems]
    return [(row.image, row.caption.strip()) for row in rows], problems


@pytest.mark.parametrize(
    "text",
    [
        "image,caption\n1.jpg,A dog\n",
        '"image","caption"\n"1.jpg","A dog"\n',
        '"Image", "Caption"\r\n"1.jpg", "A dog"\r\n',
        ",image,caption\n0,1.jpg,A dog\n",
        "Unnamed: 0;file_name;text\n0;1.jpg;A dog\n",
        "\ufeffcaption\timage\nA dog\t1.jpg\n",
        "image_name| comment_number| comment\n1.jpg| 0| A dog\n",
        "filename,license,description,author\n1.jpg,MIT,A dog,me\n",
        "1.jpg\tA dog\n",
        "image_id,caption\n1.jpg,A dog\n",
    ],
)
def test_headings_people_write(tmp_path: Path, text: str) -> None:
    assert read(tmp_path / "t.csv", text) == ([("1.jpg", "A dog")], [])


def test_columns_may_be_named(tmp_path: Path) -> None:
    text = "bild,satz\n1.jpg,Ein Hund\n"
    named = read(tmp_path / "t.csv", text, "image=Bild, caption=satz")
    assert named == ([("1.jpg", "Ein Hund")], [])
    with pytest.raises(CaptionerError, match=r"expected a heading with a column of photos"):
        read(tmp_path / "t.csv", text)
    with pytest.raises(CaptionerError, match=r"lacks columns of data\.columns"):
        read(tmp_path / "t.csv", text, "image=lichtbild,caption=satz")
    with pytest.raises(UsageError, match="did you mean caption"):
        parse_columns("captions=x")
    with pytest.raises(UsageError, match="expected image=HEADING"):
        parse_columns("bild")


def test_careless_rows_cost_themselves_only(tmp_path: Path) -> None:
    text = (
        "image_name| comment_number| comment\n"
        "1.jpg| 0| A dog | or a wolf .\n"
        "1.jpg| 4   A dog runs .\n"  # Flickr30k has such a row
        "2.jpg\n"
        '2.jpg| 0| "A cat\n'
        "2.jpg| 1| A cat .\n"
    )
    rows, problems = read(tmp_path / "results.csv", text)
    assert problems == ["line 4"]
    assert rows == [
        ("1.jpg", "A dog | or a wolf ."),
        ("1.jpg", "A dog runs ."),
        ("2.jpg", '"A cat'),
        ("2.jpg", "A cat ."),
    ]


def test_a_quoted_cell_may_run_over_lines(tmp_path: Path) -> None:
    text = 'image,caption\n1.jpg,"A dog\nruns"\n2.jpg,"A cat\n3.jpg,A cow\n'
    assert read(tmp_path / "t.csv", text) == (
        [("1.jpg", "A dog\nruns"), ("3.jpg", "A cow")],
        ["line 4"],
    )


@given(
    st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8")), min_size=1),
    st.sampled_from(DELIMITERS),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_csv_writes_is_read_back(
    tmp_path: Path, captions: list[str], delimiter: str, quoting: int
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting)
    writer.writerow(["", "caption", "split", "image"])
    writer.writerows([at, text, "dev", "a.jpg"] for at, text in enumerate(captions))
    file = tmp_path / "t.csv"
    file.write_bytes(text.getvalue().encode())
    collector = Collector()
    rows = list(read_table(collector, file))
    assert [(row.image, row.caption, row.split) for row in rows] == [
        ("a.jpg", caption, "val") for caption in captions
    ]
    assert not collector.loaded.problems

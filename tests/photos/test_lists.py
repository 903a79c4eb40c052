"""Lists of paths in every encoding that programs write, and names in another Unicode form."""

import io
import json
import os
import unicodedata
from pathlib import Path

import pytest
from conftest import make_photo
from hypothesis import given
from hypothesis import strategies as st

from captioner.errors import UsageError
from captioner.photos.inputs import expand
from captioner.photos.lists import MAX_LINE, paths_in, paths_of_stream
from captioner.photos.paths import FileNames, Spellings

NAMES = [
    "/fotos/süß.jpg",
    "a b.jpg",
    "# not a comment.jpg",
    '"quoted".png',
    "tab\there.gif",
    "犬.jpg",
]


def read(content: bytes) -> list[str]:
    return list(paths_in(io.BufferedReader(io.BytesIO(content)), "list"))


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings(encoding: str, end: str) -> None:
    content = "".join(name + end for name in [*NAMES, "", " "]).encode(encoding)
    assert read(content) == NAMES


def test_a_mark_of_the_other_byte_order() -> None:
    assert read(b"\xfe\xff" + "ü.jpg\n".encode("utf-16-be")) == ["ü.jpg"]


@given(st.lists(st.binary(min_size=1).filter(lambda line: not set(line) & set(b"\0\n\r"))))
def test_bytes_come_back_as_they_were(lines: list[bytes]) -> None:
    lines = [line for line in lines if os.fsdecode(line).strip()]
    content = b"".join(line + b"\n" for line in [b"first.jpg", *lines])
    assert [os.fsencode(path) for path in read(content)] == [b"first.jpg", *lines]


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(
        UsageError, match="not a list of paths: a line has 65,536 characters or more"
    ):
        read(b"a.jpg\n" + b"x" * (MAX_LINE + 5))
    assert read(b"") == []


@pytest.mark.parametrize(
    "content", [b"photos/a.jpg\0photos/b.jpg\0", b"\xff\xd8\xff\xe0\0\x10JFIF\n\0\x01"]
)
def test_what_is_no_text_is_refused(content: bytes) -> None:
    with pytest.raises(UsageError, match="not a list of paths: it holds null bytes"):
        read(content)


def test_streams_with_and_without_bytes() -> None:
    raw = io.TextIOWrapper(io.BufferedReader(io.BytesIO(b"caf\xe9.jpg\n")), "ascii")
    assert list(paths_of_stream(raw)) == ["caf\udce9.jpg"]
    assert list(paths_of_stream(io.StringIO("a.jpg\n\nb.jpg"))) == ["a.jpg", "b.jpg"]


def test_names_in_another_unicode_form(tmp_path: Path) -> None:
    composed, split = (unicodedata.normalize(form, "Größe/é.jpg") for form in ("NFC", "NFD"))
    photo = make_photo(tmp_path / split, 0)
    (tmp_path / "list.txt").write_text(f"{tmp_path}/{composed}\n{tmp_path}/Größe/ß.jpg\n")
    first, second = (one.path for one in expand([f"@{tmp_path}/list.txt"]))
    assert first == photo
    assert second == tmp_path / "Größe" / "ß.jpg"  # not there: as it was written
    assert [one.path for one in expand([f"{tmp_path}/{composed}"])] == [photo]
    (tmp_path / "a.json").write_text(json.dumps({"images": [{"file_name": composed}]}))
    (coco,) = expand([f"{tmp_path}/a.json"], images=tmp_path)
    assert coco.path == photo
    exact = make_photo(tmp_path / composed, 1)  # where both are there the exact one wins
    assert Spellings().on_disk(tmp_path / composed) == exact
    assert Spellings().on_disk(tmp_path / split) == photo


@given(st.sets(st.text(min_size=1, max_size=4)), st.text(min_size=1, max_size=4))
def test_file_names_are_found_in_any_form(names: set[str], wanted: str) -> None:
    listed = FileNames(names)
    found = listed.find(wanted)
    if wanted in names:
        assert found == wanted
    elif found is not None:
        forms = (unicodedata.normalize("NFC", name) for name in (found, wanted))
        assert found in names
        assert len(set(forms)) == 1
    for name in names:
        assert listed.find(unicodedata.normalize("NFD", name)) is not None


def test_quotes_and_latin_1_where_no_such_file_is(tmp_path: Path) -> None:
    photo = make_photo(tmp_path / "café.png", 0)
    odd = make_photo(tmp_path / '"odd".png', 1)
    lines = [f'"{photo}"'.encode(), str(photo).encode("latin-1"), str(odd).encode(), b'"no.png"']
    (tmp_path / "list").write_bytes(b"\n".join(lines))
    found = [one.path for one in expand([], lists=[f"{tmp_path}/list"])]
    assert found == [photo, photo, odd, Path('"no.png"')]

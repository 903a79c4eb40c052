import csv
import io
import json
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from captioner.cli import failed
from captioner.display import csv_cell, from_csv_cell, is_one_line, json_line, one_line

UNSAFE = [
    "\x00", "\x07", "\b", "\t", "\n", "\v", "\f", "\r", "\x1b", "\x1c", "\x7f", "\x85", "\x9b",
    "\x9d", "\u2028", "\u2029", "\u061c", "\u200e", "\u202a", "\u202e", "\u2066", "\u2069",
    "\ud800", "\udcff", "\udfff",
]  # fmt: skip

any_text = st.text(st.characters(exclude_categories=()))
wild_text = st.lists(
    st.sampled_from([*UNSAFE, *"'=+-@\uff1d\uff0b\uff0d\uff20a\"\\,é👩🏽‍🚀", "شب"])
).map("".join)


@pytest.mark.parametrize("character", UNSAFE)
def test_unsafe_characters_become_visible_escapes(character: str) -> None:
    shown = one_line(f"a{character}b")
    assert shown.startswith("a\\")
    assert shown.endswith("b")
    assert shown.isprintable()
    assert not is_one_line(character)
    assert is_one_line(shown)


@pytest.mark.parametrize(
    "text", ["a dog", "ein Bär", "две собаки", "犬が走る", "شب", "👩🏽‍🚀", "می‌روم", "C:\\a", "~^"]
)
def test_text_of_any_language_stays(text: str) -> None:
    assert one_line(text) == text
    assert is_one_line(text)


def test_escapes_name_the_character_or_the_byte() -> None:
    assert one_line("\x1b]0;T\x07") == "\\x1b]0;T\\x07"
    assert one_line("a\tb\r\n") == "a\\tb\\r\\n"
    assert one_line("\u202ex\ud800") == "\\u202ex\\ud800"
    assert one_line(b"\xff.png".decode("utf-8", "surrogateescape")) == "\\xff.png"


@given(any_text | wild_text)
def test_one_line_is_one_line_of_utf_8(text: str) -> None:
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert not any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in shown)
    assert one_line(shown) == shown


@given(any_text | wild_text)
def test_json_keeps_the_exact_text(text: str) -> None:
    # Two lone surrogates in a row are one character to every JSON reader.
    assume(text == text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass"))
    for indent in (None, 2):
        line = json_line({"caption": text, text: [text]}, indent=indent)
        line.encode()
        assert json.loads(line) == {"caption": text, text: [text]}
        assert all(is_one_line(part) for part in line.split("\n"))
    assert "\n" not in json_line([text])


def test_json_does_not_hold_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        json_line({"x": float("nan")})


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1.png",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "\uff1d1",
        "\uff20x",
        "'=1",
        "''-2",
    ],
)
def test_no_cell_starts_a_formula(text: str) -> None:
    cell = csv_cell(text)
    assert cell[0] in "'\\"


@given(any_text | wild_text)
def test_cells_are_safe_and_read_back(text: str) -> None:
    cell = csv_cell(text)
    assert is_one_line(cell)
    assert not cell.startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20"))
    assert from_csv_cell(cell) == one_line(text)
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow((cell, "x"))
    assert len(file.getvalue().splitlines()) == 1
    assert next(csv.reader(io.StringIO(file.getvalue()))) == [cell, "x"]


def test_an_error_message_reaches_the_terminal_without_escapes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert failed("a\x1b[2J.png:\n  no\u202e\x9b2J photo\ud800", 1, debug=False) == 1
    assert capsys.readouterr().err == (
        "captioner: error: a\\x1b[2J.png: no\\u202e\\x9b2J photo\\ud800\n"
    )

"""JSON files of strangers: every fault is one line with its place."""

import json
from pathlib import Path

import pytest

from captioner.errors import CaptionerError, UsageError
from captioner.files.json_file import read_json


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images":\n [1, 2,,]}', ", line 2, column 8: not JSON: "),
        (b"", ", line 1, column 1: not JSON: "),
        (b'{"a":\n\n"\xff"}', ", line 3: not UTF-8"),
        (b"[" * 200_000, ": not JSON: nested too deeply"),
        (b"9" * 5_000, ": not JSON: "),
        (b"\xff\xfe{", ": damaged UTF-16 text; save it as UTF-8"),
    ],
)
def test_bad_json_is_said_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    with pytest.raises(CaptionerError) as caught:
        read_json(file)
    assert str(caught.value).startswith(f"{file}{message}")
    assert "\n" not in str(caught.value)


def test_json_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": "é"}).encode())
    assert read_json(tmp_path / "a.json") == {"a": "é"}


def test_files_that_are_not_there_or_not_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no annotation file .*none\.json"):
        read_json(tmp_path / "none.json")
    with pytest.raises(CaptionerError, match="cannot be read: Is a directory"):
        read_json(tmp_path)

"""What is wrong with people's files: one line each, counts where there are many, never a score."""

import json
from pathlib import Path
from typing import Any

import pytest

from captioner.cli import main

IMAGES = [{"id": n} for n in range(1, 7)]
ANNOTATIONS = [{"id": n, "image_id": n, "caption": "a dog runs"} for n in range(1, 7)]
ROWS = [{"image_id": n, "caption": "a dog"} for n in range(1, 7)]


def changed(rows: list[dict[str, Any]], changes: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | changes.get(at, {}) for at, row in enumerate(rows)]


def references(rows: object = ANNOTATIONS, images: object = IMAGES) -> dict[str, object]:
    return {"images": images, "annotations": rows}


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Exit code and the lines that `captioner evaluate` prints on its standard error."""
    monkeypatch.chdir(tmp_path)

    def run(results: object, annotations: object) -> tuple[int, list[str], str]:
        for name, content in (("r.json", results), ("a.json", annotations)):
            if isinstance(content, bytes):
                Path(name).write_bytes(content)
            else:
                Path(name).write_text(json.dumps(content))
        code = main(["evaluate", "--results", "r.json", "--references", "a.json"])
        captured = capsys.readouterr()
        return code, captured.err.splitlines(), captured.out

    return run


WRONG = "{} more of {} are invalid"

CASES: dict[str, tuple[object, object, str]] = {
    "a result for an unknown image": (
        [*ROWS, {"image_id": 99, "caption": "a"}],
        references(),
        "r.json with references a.json: 1 image (99) with a caption but without references; "
        "add references or remove these captions",
    ),
    "results for unknown images": (
        [*ROWS, *({"image_id": n, "caption": "a"} for n in range(90, 95))],
        references(),
        "r.json with references a.json: 5 images (90, 91, 92, …) with a caption but without "
        "references; "
        "add references or remove these captions",
    ),
    "images with two results": (
        [*ROWS, ROWS[0], ROWS[1]],
        references(),
        "r.json: 2 of 6 images have more than one caption, for example image 1; at most 1 "
        "per image",
    ),
    "images without a result": (
        ROWS[2:],
        references(),
        "r.json with references a.json: 2 images (1, 2) with references but without a caption; "
        "caption these images or remove their references",
    ),
    "no results": ([], references(), "r.json: the list of results is empty"),
    "no references": (ROWS, references([]), "a.json: no image has a reference"),
    "no references of one image": (
        ROWS,
        references(ANNOTATIONS[1:]),
        "r.json with references a.json: 1 image (1) with a caption but without references; "
        "add references or remove these captions",
    ),
    "results given as references": (
        ROWS,
        ROWS,
        'a.json: expected an object with a list "annotations", not a list (is this a result file?)',
    ),
    "references given as results": (
        references(),
        references(),
        'r.json: expected a list of {"image_id": …, "caption": …}, not an object '
        "(is this an annotation file?)",
    ),
    "instances given as references": (
        ROWS,
        references([{"id": 1, "image_id": 1, "category_id": 18, "bbox": [0, 0, 1, 1]}]),
        'a.json: no annotation has a "caption"; expected a COCO caption file, not an instance file',
    ),
    "an object of another kind": (
        ROWS,
        {"captions": {"1": ["a dog"]}},
        'a.json: must be an object with a list "annotations"',
    ),
    "a number": (ROWS, 5, 'a.json: must be an object with a list "annotations"'),
    "images that are no list": (
        ROWS,
        references(images={}),
        'a.json: must be an object with a list "images"',
    ),
    "images without ids": (
        ROWS,
        references(images=[{"file_name": "1.jpg"}, {"file_name": "2.jpg"}]),
        "a.json, image 0: expected an object with \"id\", not {'file_name': '1.jpg'}; "
        + WRONG.format(1, 2),
    ),
    "annotations of images that are not listed": (
        ROWS,
        references([*ANNOTATIONS, *({"image_id": n, "caption": "a"} for n in (8, 9))]),
        'a.json, annotation 6: image 8 is not in the list "images"; ' + WRONG.format(1, 8),
    ),
    "ids as strings": (
        changed(ROWS, {at: {"image_id": str(at + 1)} for at in range(6)}),
        references(),
        "r.json with references a.json: image ids of 6 of 6 captions are of type str ('1'), "
        "those of "
        "references of type int (1); use one type",
    ),
    "one id as a string": (
        changed(ROWS, {2: {"image_id": "3"}}),
        references(),
        "r.json with references a.json: image ids of 1 of 6 captions are of type str ('3'), "
        "those of "
        "references of type int (3); use one type",
    ),
    "ids with a point": (
        changed(ROWS, {at: {"image_id": at + 1.0} for at in range(3)}),
        references(),
        "r.json, entry 0: an image id must be an integer or a string, not 1.0; "
        + WRONG.format(2, 6),
    ),
    "true as an id": (
        changed(ROWS, {0: {"image_id": True}}),
        references(),
        "r.json, entry 0: an image id must be an integer or a string, not True",
    ),
    "captions that are numbers": (
        changed(ROWS, {1: {"caption": 3}, 4: {"caption": 4.5}}),
        references(),
        "r.json, entry 1: a caption must be a string, not 3; " + WRONG.format(1, 6),
    ),
    "a caption that is null": (
        changed(ROWS, {5: {"caption": None}}),
        references(),
        "r.json, entry 5: a caption must be a string, not None",
    ),
    "a caption that is half a character": (
        changed(ROWS, {0: {"caption": "a \ud800 dog"}}),
        references(),
        "r.json, entry 0: caption 'a \\ud800 dog' is not valid Unicode: it has half a "
        "surrogate pair",
    ),
    "a reference that is a number": (
        ROWS,
        references(changed(ANNOTATIONS, {0: {"caption": 3}, 3: {"caption": []}})),
        "a.json, annotation 0: a caption must be a string, not 3; " + WRONG.format(1, 6),
    ),
    "a result without an image": (
        [*ROWS, {"caption": "a"}],
        references(),
        "r.json, entry 6: expected an object with \"image_id\", not {'caption': 'a'}",
    ),
    "results that are bare texts": (
        ["a dog", "a cat"],
        references(),
        "r.json, entry 0: expected an object with \"image_id\", not 'a dog'; " + WRONG.format(1, 2),
    ),
    "an empty file": (b"", references(), "r.json, line 1, column 1: not JSON: Expecting value"),
    "half a file": (
        b'[{"image_id": 1, "cap',
        references(),
        "r.json, line 1, column 18: not JSON: Unterminated string starting at",
    ),
    "JSON Lines under another name": (
        b'{"image_id": 1, "caption": "a"}\n{"image_id": 2, "caption": "b"}\n',
        references(),
        "r.json, line 2, column 1: not JSON: Extra data (if it is JSON Lines, rename it to .jsonl)",
    ),
    "a photo": (b"\x89PNG\r\n", references(), "r.json, line 1: not UTF-8"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_and_no_score(name: str, said) -> None:
    results, annotations, message = CASES[name]
    code, lines, printed = said(results, annotations)
    assert lines == [f"captioner: error: {message}"]
    assert code == 1
    assert printed == ""


def test_a_file_that_is_not_there(said, capsys) -> None:
    assert main(["evaluate", "--results", "no.json", "--references", "a.json"]) == 2
    assert capsys.readouterr().err == "captioner: error: no annotation file a.json\n"
    said(ROWS, references())
    assert main(["evaluate", "--results", "no.json", "--references", "a.json"]) == 2
    assert capsys.readouterr().err == "captioner: error: no result file no.json\n"


def test_empty_captions_are_captions_and_counted(said) -> None:
    """They are scored as what they are: nothing. Whoever reads the score is told."""
    code, lines, printed = said(
        changed(ROWS, {0: {"caption": ""}, 1: {"caption": " . "}}), references()
    )
    assert (code, lines) == (0, [])
    assert "note: 2 of 6 captions have no words" in printed
    # 8 words of 12 are left, beside 18 in the references: exp(1 - 18/8).
    assert "BLEU-1    28.7\n" in printed
    code, _, printed = said(changed(ROWS, {0: {"caption": ""}}), references())
    assert "note: 1 of 6 captions has no words" in printed


def test_empty_references_are_counted(said) -> None:
    code, lines, printed = said(ROWS, references([*ANNOTATIONS, {"image_id": 1, "caption": ""}]))
    assert (code, lines) == (0, [])
    assert "note: 1 reference has no words" in printed


def test_bad_lines_of_json_lines(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_text(json.dumps(references()))

    def refused(*lines: str) -> str:
        Path("r.jsonl").write_text("".join(line + "\n" for line in lines))
        assert main(["evaluate", "--results", "r.jsonl", "--references", "a.json"]) == 1
        [line] = capsys.readouterr().err.splitlines()
        return line.removeprefix("captioner: error: ")

    good = '{"image_id": 1, "caption": "a dog"}'
    assert refused(good, "{", "[]") == (
        "r.jsonl, line 2: not JSON: Expecting property name enclosed in double quotes; "
        "1 more of 3 are invalid"
    )
    assert refused(good, "5") == "r.jsonl, line 2: expected an object, not 5"
    assert refused('{"image": 5, "caption": "a"}').startswith(
        'r.jsonl, line 1: expected an object with "image_id" or "image", not '
    )
    assert refused('{"image_id": 1}') == (
        "r.jsonl, line 1: expected an object with \"caption\", not {'image_id': 1}"
    )
    assert refused('{"image_id": 1, "caption": 7}') == (
        "r.jsonl, line 1: a caption must be a string, not 7"
    )
    assert refused(good, good) == (
        "r.jsonl: 1 of 1 images have more than one caption, for example image 1; at most 1 "
        "per image"
    )
    assert refused('{"image": "x.jpg", "error": "the file is empty"}') == (
        "r.jsonl: the list of results is empty"
    )

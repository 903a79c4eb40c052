import json

import pytest

from captioner.errors import CaptionerError, UsageError
from captioner.evaluation.result_files import read_candidates, read_references, read_results


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


ANNOTATIONS = {
    "images": [{"id": 2}, {"id": 1}, {"id": 3}],
    "annotations": [
        {"image_id": 1, "id": 1, "caption": "a dog"},
        {"image_id": 2, "id": 2, "caption": ""},
        {"image_id": 1, "id": 3, "caption": "one dog"},
    ],
}


def test_good_files(tmp_path):
    rows = [{"image_id": 1, "caption": "a"}, {"image_id": "x", "caption": ""}]
    assert read_results(written(tmp_path / "r.json", rows)) == {1: "a", "x": ""}
    references = read_references(written(tmp_path / "a.json", ANNOTATIONS))
    assert list(references.items()) == [(2, [""]), (1, ["a dog", "one dog"])]
    without_images = {"annotations": ANNOTATIONS["annotations"]}
    assert list(read_references(written(tmp_path / "b.json", without_images))) == [1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "r.json: the list of results is empty"),
        (
            ANNOTATIONS,
            'r.json: expected a list of {"image_id": …, "caption": …}, not an object '
            "(is this an annotation file?)",
        ),
        (5, 'r.json: expected a list of {"image_id": …, "caption": …}, not a number'),
        ([5], 'r.json, entry 0: expected an object with "image_id", not 5'),
        (
            [{"image_id": 1}],
            "r.json, entry 0: expected an object with \"caption\", not {'image_id': 1}",
        ),
        ([{"image_id": 1, "caption": 3}], "r.json, entry 0: a caption must be a string, not 3"),
        (
            [{"image_id": 1.5, "caption": "a"}],
            "r.json, entry 0: an image id must be an integer or a string, not 1.5",
        ),
        (
            [{"image_id": n % 2, "caption": "a"} for n in range(5)],
            "r.json: 2 of 2 images have more than one caption, for example image 0; at most "
            "1 per image",
        ),
    ],
)
def test_bad_results(tmp_path, content, message):
    with pytest.raises(CaptionerError) as raised:
        read_results(written(tmp_path / "r.json", content))
    assert str(raised.value) == f"{tmp_path}/{message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            [],
            'a.json: expected an object with a list "annotations", not a list '
            "(is this a result file?)",
        ),
        ({"images": []}, 'a.json: must be an object with a list "annotations"'),
        ({"annotations": []}, "a.json: no image has a reference"),
        (
            {"images": [{"id": 1}], "annotations": [{"image_id": 2, "caption": "a"}]},
            'a.json, annotation 0: image 2 is not in the list "images"',
        ),
        (
            {"annotations": [{"image_id": 2, "caption": None}]},
            "a.json, annotation 0: a caption must be a string, not None",
        ),
    ],
)
def test_bad_references(tmp_path, content, message):
    with pytest.raises(CaptionerError) as raised:
        read_references(written(tmp_path / "a.json", content))
    assert str(raised.value) == f"{tmp_path}/{message}"


def test_absent_and_broken_files(tmp_path):
    with pytest.raises(UsageError, match=r"absent\.json"):
        read_results(tmp_path / "absent.json")
    with pytest.raises(CaptionerError, match=r"broken\.json, line 1, column 2: not JSON"):
        read_references(written(tmp_path / "broken.json", "{"))


@pytest.mark.parametrize("name", ["r.json", "r.jsonl"])
def test_a_caption_that_no_score_can_take(tmp_path, name) -> None:
    row = json.dumps({"image_id": 1, "caption": "a dog " * 100_000})
    (tmp_path / name).write_text(row if name == "r.jsonl" else f"[{row}]")
    with pytest.raises(CaptionerError, match="has 600,000 characters; at most 10,000"):
        read_candidates(tmp_path / name)
    annotations = {"annotations": [json.loads(row)]}
    (tmp_path / "a.json").write_text(json.dumps(annotations))
    with pytest.raises(CaptionerError, match="annotation 0: a caption has 600,000 characters"):
        read_references(tmp_path / "a.json")

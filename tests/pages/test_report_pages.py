"""The report: what it counts, what it writes, and what it never does."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from browser.report_material import material
from browser.watching import HOSTILE
from conftest import make_photo
from PIL import Image

from captioner.display import one_line
from captioner.errors import CaptionerError, UsageError
from captioner.pages.report import CONTENTS, write_report
from captioner.pages.report_analysis import analyse, faults
from captioner.pages.report_attention import LEVELS, attention_of_record
from captioner.pages.report_photos import find_photos, thumbnail_side
from captioner.pages.report_summary import summary

METRICS = ("BLEU", "CIDEr-D")


def data_of(folder: Path) -> dict:
    text = (folder / "data.js").read_text(encoding="utf-8")
    assert text.startswith("const REPORT = ")
    return json.loads(text.removeprefix("const REPORT = ").rstrip(";\n"))


def test_the_folder_holds_a_page_data_thumbnails_and_numbers(tmp_path: Path) -> None:
    made = material(tmp_path / "photos", 12)
    write_report(tmp_path / "report", made, metrics=METRICS, resamples=50)
    folder = tmp_path / "report"
    assert {path.name for path in folder.iterdir()} == set(CONTENTS)
    with Image.open(folder / "thumbnails" / "00011.webp") as thumbnail:
        assert thumbnail.size == (40, 30)
    data = data_of(folder)
    assert data["main"] == "CIDEr-D"
    assert data["images"][3][0] == "photo-3.png"
    assert data["images"][3][1] == [40, 30]
    assert [model["name"] for model in data["models"]] == ["first", "second"]
    assert data["models"][0]["captions"][0] == ["a brown dog runs on grass", "a dog is on grass"]
    assert data["models"][0]["log_probs"][0] == [-1.5, -2.5]
    numbers = json.loads((folder / "report.json").read_text())
    assert numbers["format"] == "captioner report"
    assert numbers["faults"][1]["ending"] == 3
    assert numbers["comparisons"][0]["score"] == "BLEU-1"


def test_an_older_report_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    for count in (4, 5):
        write_report(folder, material(count=count), metrics=METRICS, resamples=10)
        assert len(data_of(folder)["images"]) == count
    (folder / "my notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"my notes\.txt, which would be lost"):
        write_report(folder, material(count=6), metrics=METRICS, resamples=10)
    assert len(data_of(folder)["images"]) == 5
    assert (folder / "my notes.txt").read_text() == "mine"


def test_images_of_models_must_be_the_same(tmp_path: Path) -> None:
    one, other = material(count=4), material(count=5)
    mixed = replace(one, models=(one.models[0], other.models[1]))
    with pytest.raises(CaptionerError, match="different images"):
        write_report(tmp_path / "report", mixed, metrics=METRICS, resamples=10)
    assert not (tmp_path / "report").exists()


def test_unreadable_photos_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = material(tmp_path / "photos", 4)
    made.photos["photo-2.png"].write_bytes(b"no photo")
    photos = {image: path for image, path in made.photos.items() if image != "photo-3.png"}
    folder = tmp_path / "report"
    write_report(folder, replace(made, photos=photos), metrics=METRICS, resamples=10)
    sizes = [row[1] for row in data_of(folder)["images"]]
    assert sizes == [[40, 30], [40, 30], 0, 0]
    assert "1 of 4 photos cannot be read" in capsys.readouterr().err


def test_faults_of_captions() -> None:
    captions = [
        ["a", "dog", "on", "a"],
        ["a", "man", "and", "a", "man", "and", "a", "man"],
        ["a", "cat", "sleeps"],
        ["a", "cat", "sleeps"],
        ["a", "horse"],
        [],
    ]
    visible = [frozenset(one.split()) for one in ("dog", "person", "cat", "cat", "bird", "")]
    found = faults(captions, visible, frozenset(["a cat sleeps"]))
    assert found == [
        {"ending"},
        {"repetition"},
        {"training", "shared"},
        {"training", "shared"},
        {"object"},
        {"empty"},
    ]
    assert "training" not in faults(captions, visible, None)[2]


def test_annotated_objects_count_and_must_be_complete() -> None:
    made = material(count=10, models=1)
    objects = {image: frozenset(["kite"]) for image in made.references}
    values = summary(made, analyse(made, metrics=METRICS, resamples=10))
    assert [row["name"] for row in values["objects"]] == []  # two images of each: too few
    found = analyse(replace(made, objects=objects), metrics=METRICS, resamples=10)
    assert found.objects[0] == {"kite"}
    assert "object" not in found.flags[0][0]  # a reference names the dog
    assert summary(made, found)["objects"][0]["name"] == "kite"
    with pytest.raises(CaptionerError, match="1 of 10 captioned images are missing"):
        analyse(replace(made, objects=dict(list(objects.items())[1:])))


def test_the_summary_counts_wins_and_words() -> None:
    made = material(count=40)
    values = summary(made, analyse(made, metrics=METRICS, resamples=500))
    (pair,) = values["pairs"]
    row = next(one for one in pair["rows"] if one["name"] == "CIDEr-D")
    assert row["wins"].first == 40
    assert row["verdict"] == "worse"
    assert values["words"][0]["over"][0]["word"] in ("brown", "runs")
    assert values["words"][0]["under"][0]["word"] in ("small", "plays", "number")
    for chart in values["charts"]:
        assert max(max(shares) for _, shares in chart.series) * 100 <= chart.ticks[-1]
    for chart in values["charts"][:2]:
        for _, shares in chart.series:
            assert sum(shares) == pytest.approx(1)
    endings = next(one for one in values["faults"] if one["flag"] == "ending")
    assert endings["cells"] == ["0 (0.0 %)", "10 (25.0 %)"]


def test_hostile_texts_are_data(tmp_path: Path) -> None:
    extra = [(text, [text], [text, text]) for text in HOSTILE]
    made = material(count=3, models=1, extra=extra)
    plain = material(count=3, models=1, extra=[("a", ["b"], ["c"])] * len(HOSTILE))
    named = replace(made, title=HOSTILE[2], models=(replace(made.models[0], name=HOSTILE[0]),))
    for name, one in (("report", named), ("plain", plain)):
        write_report(tmp_path / name, one, metrics=METRICS, resamples=10)
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    other = (tmp_path / "plain" / "index.html").read_text(encoding="utf-8")
    for tag in ("<script", "<img", "<figcaption", "<iframe", "</section"):
        assert page.count(tag) == other.count(tag)
    data = data_of(tmp_path / "report")
    for at, text in enumerate(HOSTILE, start=3):
        shown = one_line(text)
        assert data["images"][at][0] == data["images"][at][2][0] == shown
        assert data["models"][0]["captions"][at] == [shown, shown]
    script = (tmp_path / "report" / "data.js").read_text(encoding="utf-8")
    assert not set(script) & {"\u2028", "\u2029", "\u202e"}


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    write_report(tmp_path / "report", material(count=3), metrics=METRICS, resamples=10)
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'(?:src|srcset|action)="([^"]*)"', page) == ["data.js"]
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', page))
    assert "http" not in page.split("<style>")[0].replace("http-equiv", "")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert "default-src &#39;none&#39;" in policy
    assert "unsafe" not in policy


def test_thumbnails_are_smaller_where_there_are_more() -> None:
    sides = [thumbnail_side(count) for count in (1, 1000, 2000, 5000, 40_000)]
    assert sides == sorted(sides, reverse=True)
    assert sides[-1] >= 128


def test_photos_are_found_by_name_at_any_depth(tmp_path: Path) -> None:
    make_photo(tmp_path / "a" / "dog.png", 1)
    make_photo(tmp_path / "b" / "COCO_val2014_000000000007.png", 2)
    make_photo(tmp_path / "b" / "other.png", 3)
    found = find_photos(tmp_path, ["x", 7], {"x": "dog.png"})
    assert found == {
        "x": tmp_path / "a" / "dog.png",
        7: tmp_path / "b" / "COCO_val2014_000000000007.png",
    }


def test_attention_of_a_record() -> None:
    record = {
        "attention": {
            "grid": [1, 2],
            "words": ["a", "<end>"],
            "weights": [[0.5, 0.0], [0.25, None]],
            "sentinel": [0.25, 1.0],
        }
    }
    found = attention_of_record(record)
    assert found is not None
    assert found.levels == LEVELS[8 * 7] + LEVELS[8 * 4]
    assert found.record() == [1, 2, [0, 0, 1, 1], ["a", "<end>"], found.levels, [25, 100]]
    assert attention_of_record({"caption": "a"}) is None


def test_a_caption_that_hardly_looks_stays_dark() -> None:
    weights = [[0.001] * 4, [0.0, 0.0, 0.01, 0.0]]
    record = {"grid": [2, 2], "words": ["a", "b"], "weights": weights, "sentinel": [0.996, 0.99]}
    found = attention_of_record({"attention": record})
    assert found is not None
    assert set(found.levels) == {LEVELS[0]}
    made = material(count=4, models=1)
    looking = dict.fromkeys(made.references, found)
    made = replace(made, models=(replace(made.models[0], attention=looking),))
    rows = dict(summary(made, analyse(made, metrics=METRICS, resamples=10))["description"])
    assert rows["attention to the sentence instead of the photo, %"] == ["99.5", ""]


@pytest.mark.parametrize(
    "broken",
    [
        7,
        {},
        {"grid": [1, 2], "words": ["a"], "weights": [[1.0]]},
        {"grid": [1], "words": ["a"], "weights": [[1.0]]},
        {"grid": [1, 1], "words": [7], "weights": [[1.0]]},
        {"grid": [1, 1], "words": "a", "weights": [["x"]]},
        {"grid": [0, 0], "words": [], "weights": []},
        {"grid": [1, 1], "words": ["a"], "weights": [[1.0]], "sentinel": [1, 2]},
        {"grid": ["1", {}], "words": ["a"], "weights": [[1.0]]},
    ],
)
def test_damaged_attention_is_refused(broken: object) -> None:
    with pytest.raises(ValueError, match='invalid "attention"'):
        attention_of_record({"attention": broken})

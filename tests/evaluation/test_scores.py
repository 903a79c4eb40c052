import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from captioner.errors import CaptionerError, UsageError
from captioner.evaluation.result_files import read_references, read_results
from captioner.evaluation.scores import score
from captioner.metrics.cider import DocumentFrequencies

ORACLES = Path(__file__).resolve().parents[2].parent / "shared" / "oracles"
OFFICIAL_NAMES = {
    "BLEU-1": "Bleu_1",
    "BLEU-2": "Bleu_2",
    "BLEU-3": "Bleu_3",
    "BLEU-4": "Bleu_4",
    "ROUGE-L": "ROUGE_L",
    "CIDEr-D": "CIDEr",
}

needs_oracles = pytest.mark.skipif(not ORACLES.is_dir(), reason="no oracle files")


@needs_oracles
@pytest.mark.parametrize("name", ["clean", "awkward", "single"])
def test_scores_are_those_of_the_official_tool(name):
    folder = ORACLES / "scores"
    official = json.loads((folder / f"{name}_scores.json").read_text(encoding="utf-8"))
    scores = score(
        read_results(folder / f"{name}_results.json"),
        read_references(folder / f"{name}_annotations.json"),
    )
    assert len(scores.image_ids) == len(official["per_image"])
    for ours, theirs in OFFICIAL_NAMES.items():
        assert scores.corpus[ours] == pytest.approx(official["overall"][theirs], abs=1e-9)
        expected = [official["per_image"][str(image)][theirs] for image in scores.image_ids]
        np.testing.assert_allclose(scores.per_image[ours], expected, rtol=0, atol=1e-9)


@needs_oracles
def test_published_runs_are_reproduced():
    folder = ORACLES / "published" / "flickr8k"
    lines = [
        (folder / f"8k.test.{k}.txt").read_text(encoding="utf-8").splitlines() for k in range(5)
    ]
    references = dict(enumerate(zip(*lines, strict=True)))
    with (folder / "results.tsv").open(encoding="utf-8") as file:
        rows = [
            row for row in csv.DictReader(file, delimiter="\t") if row["architecture"] != "human"
        ]
    assert len(rows) == 12
    for row in rows:
        path = folder / f"flickr8k_{row['architecture']}_{row['run']}.txt"
        captions = dict(enumerate(path.read_text(encoding="utf-8").splitlines()))
        scores = score(captions, references)
        for ours, theirs in OFFICIAL_NAMES.items():
            assert scores.corpus[ours] == pytest.approx(float(row[theirs]), abs=0.0015)


CAPTIONS = {7: "A dog runs.", 8: "a red kite"}
REFERENCES = {7: ["A dog runs."], 8: ["A kite.", "A red kite flies."]}


def test_scores_by_hand():
    scores = score(CAPTIONS, REFERENCES)
    # 6 of 6 words and 4 of 4 pairs; 6 words beside 3 + 2 (as close as 4, and shorter).
    assert scores.corpus["BLEU-1"] == pytest.approx(1, abs=1e-9)
    assert scores.corpus["BLEU-2"] == pytest.approx(1, abs=1e-9)
    # P = 3/3 beside "a red kite flies", R = 2/2 beside "a kite".
    np.testing.assert_allclose(scores.per_image["ROUGE-L"], [1, 1])
    assert scores.image_ids == (7, 8)
    assert scores.warnings == ()


def test_recipe_tells_what_was_done():
    scores = score(CAPTIONS, REFERENCES, split="test", beam_size=3)
    assert scores.recipe["split"] == "test"
    assert scores.recipe["beam_size"] == 3
    assert scores.recipe["n_images"] == 2
    assert scores.recipe["n_references"] == "1-2"
    assert scores.recipe["case"] == "lower"
    assert scores.recipe["document_frequencies"] == "references, 2 images"
    assert {"tokenizer", "package_version", "BLEU", "ROUGE-L", "CIDEr-D"} <= set(scores.recipe)


def test_one_image_has_no_cider_and_says_so():
    scores = score({1: "a dog runs on grass"}, {1: ["a dog runs on grass"]})
    assert scores.corpus["CIDEr-D"] == 0
    [warning] = scores.warnings
    assert warning.startswith("CIDEr-D is 0 by definition")
    more = DocumentFrequencies.of([[["a", "dog", "runs", "on", "grass"]], [["a", "kite"]]])
    scores = score({1: "a dog runs on grass"}, {1: ["a dog runs on grass"]}, frequencies=more)
    assert scores.corpus["CIDEr-D"] == pytest.approx(10)
    assert scores.warnings == ()


def test_empty_captions_are_scored_and_counted():
    scores = score({1: "", 2: "a dog"}, {1: ["a cat", "."], 2: ["a dog"]})
    assert scores.warnings == ("1 of 2 captions has no words", "1 reference has no words")
    assert all(math.isfinite(value) for value in scores.corpus.values())
    assert scores.per_image["CIDEr-D"][0] == 0


def test_only_the_metrics_asked_for():
    scores = score(CAPTIONS, REFERENCES, metrics=["ROUGE-L", "CIDEr"])
    assert list(scores.corpus) == ["ROUGE-L", "CIDEr"]
    with pytest.raises(
        UsageError,
        match=r"unknown metric 'METER'; did you mean METEOR\?; choose from BLEU, METEOR, ",
    ):
        score(CAPTIONS, REFERENCES, metrics=["METER"])


@pytest.mark.parametrize(
    ("captions", "references", "message"),
    [
        ({1: "a"}, {}, "references: none given; at least one image is required"),
        ({}, {1: ["a"]}, "captions: none given; one per image with references is required"),
        (
            {1: "a", 2: "b", 3: "c"},
            {1: ["a"]},
            "2 images (2, 3) with a caption but without references; "
            "add references or remove these captions",
        ),
        (
            {1: "a"},
            {n: ["a"] for n in range(1, 8)},
            "6 images (2, 3, 4, …) with references but without a caption; "
            "caption these images or remove their references",
        ),
        (
            {"1": "a"},
            {1: ["a"]},
            "image ids of 1 of 1 captions are of type str ('1'), those of references of type int "
            "(1); use one type",
        ),
        ({1: 5}, {1: ["a"]}, "image 1: the caption is 5 of type int; expected a string"),
        ({1: "a"}, {1: []}, "image 1: the list of references is empty"),
        (
            {1: "a"},
            {1: "a dog"},
            "image 1: the references are one string; expected a list of strings",
        ),
        (
            {1: "a"},
            {1: ["a", None]},
            "image 1: a reference is None of type NoneType; expected a string",
        ),
    ],
)
def test_bad_input_is_one_clear_line(captions, references, message):
    with pytest.raises(CaptionerError) as raised:
        score(captions, references)
    assert str(raised.value) == message

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from meteor_files import needs_data, small_data, write_data

from captioner.cli import main
from captioner.errors import UsageError
from captioner.evaluation.result_files import read_references, read_results
from captioner.evaluation.scores import REPORTED, score
from captioner.evaluation.significance import compare, intervals
from captioner.metrics.meteor.data import find_folder
from captioner.metrics.meteor.score import meteor_from_statistics, meteor_statistics

ORACLES = Path(__file__).resolve().parents[2].parent / "shared" / "oracles"


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return small_data(tmp_path / "meteor")


def statistics(data, candidate, *references):
    groups = [[reference.split() for reference in references]]
    [row] = meteor_statistics([candidate.split()], groups, data)
    return row


def meteor(data, candidate, *references):
    return meteor_from_statistics(statistics(data, candidate, *references))[0]


def test_a_score_by_hand(data):
    # dog ~ hound (synonym 0.8), runs ~ running (stem 0.6); of three words one is a function word.
    row = statistics(data, "a dog runs", "the hound running")
    stages = [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert row.tolist() == [3, 3, 1, 1, *(n for stage in stages for n in stage), 1]
    precision = 0.75 * (0.8 + 0.6) / (2 * 0.75 + 0.25)
    penalty = 0.6 * (1 / 2) ** 0.2
    assert meteor_from_statistics(row)[0] == pytest.approx(precision * (1 - penalty))


def test_recall_weighs_more_than_precision(data):
    # One of one candidate word and one of two reference words match: P = 1, R = 1/2, one chunk.
    expected = 1 / (0.15 / 1 + 0.85 / 0.5) * (1 - 0.6)
    assert meteor(data, "dog", "dog barks") == pytest.approx(expected)
    expected = 1 / (0.15 / 0.5 + 0.85 / 1) * (1 - 0.6)
    assert meteor(data, "dog barks", "dog") == pytest.approx(expected)


@pytest.mark.parametrize("turned", [False, True])
def test_a_paraphrase_counts_the_words_it_covers_on_each_side(data, turned):
    captions = ("many dogs", "a lot of dogs")
    row = statistics(data, *(captions[::-1] if turned else captions))
    paraphrase = np.array([[1, 1], [0, 2]])  # content and function words; candidate and reference
    exact = np.array([[1, 1], [0, 0]])
    if turned:
        paraphrase = paraphrase[:, ::-1]
    assert row[4:8].tolist() == exact.ravel().tolist()
    assert row[16:20].tolist() == paraphrase.ravel().tolist()
    # All words match in one chunk, which does not count.
    assert row[-1] == 0


@pytest.mark.parametrize(
    ("candidate", "reference", "chunks"),
    [
        ("red dog runs here", "red dog runs there", 1),
        ("runs red dog", "red dog runs", 2),
        ("dog x red", "red x dog", 3),
        ("red dog big cat", "red dog small cat", 2),
        ("beside a cat", "next to a cat", 0),
        ("a cat beside it", "a cat on top of it", 2),
    ],
)
def test_chunks(data, candidate, reference, chunks):
    assert statistics(data, candidate, reference)[-1] == chunks


def test_words_are_matched_once(data):
    row = statistics(data, "dog dog dog", "dog dog")
    assert row[4:8].tolist() == [2, 2, 0, 0]
    assert row[:2].tolist() == [3, 2]


def test_equal_captions_are_perfect(data):
    assert meteor(data, "a dog runs", "a dog runs") == 1
    assert meteor(data, "dog", "dog") == 1


def test_no_match_scores_zero(data):
    assert meteor(data, "cat", "dog") == 0
    assert meteor(data, "", "dog") == 0
    assert meteor(data, "dog", "") == 0
    assert meteor(data, "", "") == 0


def test_the_first_best_reference_counts(data):
    assert meteor(data, "a dog runs", "a cat", "a dog") == meteor(data, "a dog runs", "a dog")
    assert statistics(data, "dog", "cat", "hound hound", "dog", "dog")[:2].tolist() == [1, 1]
    assert statistics(data, "dog", "x", "y z")[:2].tolist() == [1, 1]


def test_a_corpus_is_scored_by_summed_counts(data):
    candidates = [["a", "dog"], ["red", "cat", "runs"]]
    references = [[["a", "dog"]], [["a", "red", "cat"], ["cat"]]]
    rows = meteor_statistics(candidates, references, data)
    total = rows.sum(axis=0)
    assert total[:2].tolist() == [5, 5]
    assert total[-1] == 1  # the perfect caption adds no chunk
    # Exact: 3 content and 1 function word on each side, out of 4 and 1.
    precision = (3 * 0.75 + 0.25) / (4 * 0.75 + 0.25)
    recall = (3 * 0.75 + 0.25) / (3 * 0.75 + 2 * 0.25)
    mean = 1 / (0.15 / precision + 0.85 / recall)
    expected = mean * (1 - 0.6 * (1 / 4) ** 0.2)
    assert meteor_from_statistics(total)[0] == pytest.approx(expected)


def test_batching_does_not_change_scores(data, monkeypatch):
    candidates = [["a", "dog"], [], ["hound"], ["many", "dogs"], ["dog"] * 70]
    references = [[["a", "hound"]], [["dog"]], [["dog"]], [["a", "lot", "of", "dogs"]]]
    references.append([["dog"] * 65, ["x"]])
    together = meteor_statistics(candidates, references, data)
    monkeypatch.setattr("captioner.metrics.meteor.score._WORD_PAIRS", 3)
    np.testing.assert_array_equal(meteor_statistics(candidates, references, data), together)


CAPTIONS = {7: "A dog runs.", 8: "many red kites", 9: "a man"}
REFERENCES = {
    7: ["A hound is running."],
    8: ["A lot of kites.", "A red kite flies."],
    9: ["two men"],
}


def test_meteor_is_one_of_the_scores(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write_data(tmp_path / "meteor")
    monkeypatch.setattr("captioner.evaluation.scores.find_folder", lambda: folder)
    scores = score(CAPTIONS, REFERENCES, metrics=REPORTED)
    assert list(scores.corpus)[3:6] == ["BLEU-4", "METEOR", "ROUGE-L"]
    assert scores.recipe["METEOR"] == "1.5, en, norm"
    assert scores.per_image["METEOR"].shape == (3,)
    assert scores.warnings == ()
    drawn = intervals(scores, resamples=200)["METEOR"]
    assert drawn.low < scores.corpus["METEOR"] < drawn.high
    same = {one.name: one for one in compare(scores, scores, resamples=50)}
    assert same["METEOR"].p_randomisation == 1


def test_without_its_data_meteor_is_skipped_with_one_line(monkeypatch):
    monkeypatch.setattr("captioner.evaluation.scores.find_folder", lambda: None)
    scores = score(CAPTIONS, REFERENCES, metrics=REPORTED)
    assert "METEOR" not in scores.corpus
    assert "METEOR" not in scores.recipe
    assert scores.warnings == (
        "METEOR is skipped: its data files are not installed (pip install 'captioner[meteor]')",
    )


def test_unreadable_data_affects_only_meteor(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write_data(tmp_path / "meteor")
    (folder / "data" / "paraphrase-en.gz").write_bytes(b"text")
    monkeypatch.setattr("captioner.evaluation.scores.find_folder", lambda: folder)
    scores = score(CAPTIONS, REFERENCES, metrics=["METEOR", "ROUGE-L"])
    assert list(scores.corpus) == ["ROUGE-L"]
    [warning] = scores.warnings
    assert warning.startswith(f"METEOR is skipped: {folder}/data/paraphrase-en.gz: METEOR's data")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Write the captions to files, with METEOR installed."""
    monkeypatch.setattr("captioner.evaluation.report.REPORTED", REPORTED)
    monkeypatch.setattr("captioner.evaluation.systems.REPORTED", REPORTED)
    rows = [{"image_id": image, "caption": text} for image, text in CAPTIONS.items()]
    groups = [
        {"image_id": image, "caption": text}
        for image, group in REFERENCES.items()
        for text in group
    ]
    for name, content in (("r.json", rows), ("s.json", rows), ("a.json", {"annotations": groups})):
        (tmp_path / name).write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys, *arguments):
    assert main(["evaluate", *arguments, "--references", "a.json"]) == 0
    return capsys.readouterr().out


def test_evaluate_reports_meteor_or_how_to_install_it(files, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(files / "cache"))
    folder = write_data(files / "meteor")
    monkeypatch.setattr("captioner.evaluation.scores.find_folder", lambda: folder)
    lines = told(capsys, "--results", "r.json").splitlines()
    assert [line.split()[0] for line in lines[4:7]] == ["BLEU-4", "METEOR", "ROUGE-L"]
    monkeypatch.setattr("captioner.evaluation.scores.find_folder", lambda: None)
    reason = "its data files are not installed (pip install 'captioner[meteor]')"
    assert f"note: METEOR is skipped: {reason}" in told(capsys, "--results", "r.json").splitlines()
    # The note occurs once for all compared systems.
    assert told(capsys, "--compare", "r.json", "s.json").count("METEOR is skipped") == 1


def test_evaluate_reports_the_metrics_requested(files, monkeypatch, capsys):
    monkeypatch.setattr("captioner.evaluation.scores.find_folder", lambda: pytest.fail("looked"))
    lines = told(capsys, "--results", "r.json", "--metrics", "CIDEr", "ROUGE-L").splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["ROUGE-L", "CIDEr"]
    compared = told(capsys, "--compare", "r.json", "s.json", "--metrics", "ROUGE-L")
    assert "BLEU" not in compared
    assert main(["evaluate", "--results", "none", "--references", "a.json", "--metrics", "X"]) == 2
    assert capsys.readouterr().err == (
        "captioner: error: unknown metric 'X'; choose from BLEU, METEOR, METEOR-Java, ROUGE-L, "
        "CIDEr-D, CIDEr, SPICE\n"
    )


def test_it_is_not_computed_by_default(monkeypatch):
    monkeypatch.setattr("captioner.evaluation.scores.find_folder", lambda: pytest.fail("looked"))
    assert "METEOR" not in score(CAPTIONS, REFERENCES).corpus
    with pytest.raises(UsageError, match="unknown metric 'Meteor'"):
        score(CAPTIONS, REFERENCES, metrics=["Meteor"])


@pytest.fixture(scope="session")
def real_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@needs_data
@pytest.mark.skipif(not ORACLES.is_dir(), reason="no oracle files")
@pytest.mark.parametrize("name", ["clean", "awkward", "single"])
def test_scores_equal_the_java_programs(name, real_cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(real_cache))
    assert find_folder() is not None
    folder = ORACLES / "scores"
    official = json.loads((folder / f"{name}_scores.json").read_text(encoding="utf-8"))
    scores = score(
        read_results(folder / f"{name}_results.json"),
        read_references(folder / f"{name}_annotations.json"),
        metrics=["METEOR"],
    )
    assert scores.corpus["METEOR"] == pytest.approx(official["overall"]["METEOR"], abs=1e-12)
    expected = [official["per_image"][str(image)]["METEOR"] for image in scores.image_ids]
    np.testing.assert_allclose(scores.per_image["METEOR"], expected, rtol=0, atol=1e-12)


@pytest.mark.slow
@needs_data
@pytest.mark.skipif(not ORACLES.is_dir(), reason="no oracle files")
def test_published_runs_are_reproduced(real_cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(real_cache))
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
        found = score(captions, references, metrics=["METEOR"]).corpus["METEOR"]
        assert found == pytest.approx(float(row["METEOR"]), abs=0.0005)

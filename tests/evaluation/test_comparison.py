"""`captioner evaluate --compare`: systems, pairs, runs, in every format."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from captioner.cli import main
from captioner.errors import CaptionerError
from captioner.evaluation.comparison import compare_systems
from captioner.evaluation.scores import score
from captioner.evaluation.significance import holm, welch
from captioner.evaluation.systems import System, average, read_systems
from captioner.metrics.statistics import mean_statistics

PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "oracles" / "published"

WORDS = ["a", "dog", "cat", "runs", "sleeps", "on", "grass", "near", "red", "ball", "two", "men"]
N_IMAGES = 60


def spoken(rng: random.Random, length: int = 7) -> list[str]:
    return [rng.choice(WORDS) for _ in range(length)]


def spoiled(caption: list[str], rng: random.Random, share: float) -> str:
    """A caption with a share of its words put out of place."""
    return " ".join(rng.choice(WORDS) if rng.random() < share else word for word in caption)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """References, three runs each of a good and of a bad system, and a copy of the first."""
    folder = tmp_path_factory.mktemp("systems")
    rng = random.Random(0)
    truth = {n: spoken(rng) for n in range(N_IMAGES)}
    annotations = [
        {"image_id": n, "caption": spoiled(text, rng, 0.2)}
        for n, text in truth.items()
        for _ in range(3)
    ]
    (folder / "a.json").write_text(json.dumps({"annotations": annotations}))
    for system, share in (("good", 0.2), ("bad", 0.6)):
        for run in (1, 2, 3):
            rows = [
                {"image_id": n, "caption": spoiled(truth[n], rng, share)} for n in range(N_IMAGES)
            ]
            (folder / f"{system}{run}.json").write_text(json.dumps(rows))
    (folder / "copy.json").write_text((folder / "good1.json").read_text())
    return folder


@pytest.fixture
def told(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> str:
        assert main(["evaluate", "--references", "a.json", "--compare", *arguments]) == 0
        return capsys.readouterr().out

    return run


def refused(capsys, *arguments: str, code: int = 2) -> str:
    assert main(["evaluate", *arguments]) == code
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_a_real_difference_and_none(told) -> None:
    content = json.loads(told("good1.json", "bad1.json", "copy.json", "--format", "json"))
    assert [system["name"] for system in content["systems"]] == [
        "good1.json",
        "bad1.json",
        "copy.json",
    ]
    verdicts = {
        (one["first"], one["second"], one["score"]): one["verdict"]
        for one in content["comparisons"]
    }
    assert verdicts["good1.json", "bad1.json", "CIDEr-D"] == "worse"
    assert verdicts["bad1.json", "copy.json", "BLEU-4"] == "better"
    assert verdicts["good1.json", "copy.json", "BLEU-1"] == "not distinguishable"
    assert len(verdicts) == 3 * 6


def test_holm_is_over_scores_and_pairs_together(told) -> None:
    content = json.loads(told("good1.json", "bad1.json", "good2.json", "--format", "json"))
    alone = [one["p_values"]["randomisation"] for one in content["comparisons"]]
    assert [one["p_holm"] for one in content["comparisons"]] == holm(alone)
    assert "Holm over 18" in content["recipe"]["tests"]


def test_comparisons_are_those_of_the_scores(told) -> None:
    content = json.loads(told("good1.json", "bad1.json", "--format", "json"))
    first, second = (system["scores"] for system in content["systems"])
    for one in content["comparisons"]:
        assert one["difference"] == pytest.approx(second[one["score"]] - first[one["score"]])
        low, high = one["interval"]
        assert low < one["difference"] < high


@pytest.mark.parametrize("form", ["table", "markdown", "latex"])
def test_every_format_tells_verdict_and_recipe(form, told) -> None:
    text = told("good1.json", "copy.json", "--format", form, "--resamples", "200")
    assert text.count("not distinguishable") >= 6
    assert "images:60" in text
    assert "200-resamples" in text
    assert "scores x 100" in text
    assert "+0.0" in text
    assert "-0.0" not in text


def test_runs_give_mean_deviation_and_a_test_over_them(told) -> None:
    systems = ["good=good1.json,good2.json,good3.json", "bad=bad1.json,bad2.json,bad3.json"]
    content = json.loads(told(*systems, "--format", "json", "--intervals"))
    good, bad = content["systems"]
    assert (good["name"], bad["name"]) == ("good", "bad")
    assert good["results"] == ["good1.json", "good2.json", "good3.json"]
    for system in (good, bad):
        for name, values in system["runs"].items():
            assert system["scores"][name] == pytest.approx(np.mean(values))
            assert system["deviations"][name] == pytest.approx(np.std(values, ddof=1))
            low, high = system["intervals_over_runs"][name]
            assert low < system["scores"][name] < high
            low, high = system["intervals"][name]
            assert low < system["scores"][name] < high
    for one in content["comparisons"]:
        runs = good["runs"][one["score"]], bad["runs"][one["score"]]
        assert one["p_values"]["runs"] == pytest.approx(welch(*runs))
        assert one["verdict"] == "worse"
    assert content["warnings"] == []
    text = told(*systems)
    name = "BLEU-1"
    mean, deviation = 100 * good["scores"][name], 100 * good["deviations"][name]
    assert f"{mean:.1f} ± {deviation:.1f}" in text
    assert "p (runs)" in text


def test_images_alone_do_not_make_a_difference_over_runs(told) -> None:
    """One lucky run: over images it is far better, over runs it is not."""
    lucky = "lucky=good1.json,bad1.json"
    content = json.loads(told(lucky, "bad=bad2.json,bad3.json", "--format", "json"))
    for one in content["comparisons"]:
        assert one["p_values"]["randomisation"] < 0.01
        assert one["p_values"]["runs"] > 0.05
        assert one["verdict"] == "not distinguishable"


def test_runs_of_one_system_alone(told) -> None:
    text = told("good1.json,good2.json")
    assert "good1.json and 1 more" in text
    assert " ± " in text
    assert "Holm" not in text


def test_what_the_p_values_leave_out_is_said(told) -> None:
    text = told("good1.json", "bad1.json")
    assert (
        "note: single run of good1.json, bad1.json: p-values do not include the variation" in text
    )
    text = told("good1.json", "bad1.json", "--resamples", "100")
    assert "with 100 resamples: no difference can be distinguished; use at least 120" in text


def test_the_average_of_runs() -> None:
    references = {1: ["a dog runs on grass"], 2: ["two men"]}
    runs = [
        score({1: "a dog runs", 2: "two men"}, references),
        score({1: "a dog", 2: "red"}, references),
    ]
    found = average(runs)
    for name in ("ROUGE-L", "CIDEr-D"):
        mean = np.mean([run.corpus[name] for run in runs])
        assert found.corpus[name] == pytest.approx(mean)
    # 5 of 5 words and 2 of 3, beside 7 words of references each time.
    precision, brevity = 7 / 8, np.exp(1 - 14 / 8)
    assert found.corpus["BLEU-1"] == pytest.approx(precision * brevity)


def test_systems_in_python_need_no_files() -> None:
    references = {n: ["a dog runs"] for n in range(5)}
    systems = [
        System(name, (score(dict.fromkeys(references, text), references),))
        for name, text in (("one", "a dog"), ("two", "a cat"))
    ]
    report = compare_systems(systems, resamples=20)
    assert [pair.first + pair.second for pair in report.pairs] == ["onetwo"]


def test_an_argument_that_is_a_file_is_that_file(folder, tmp_path) -> None:
    for name in ("a,b.json", "x=y.json"):
        (tmp_path / name).write_text((folder / "good1.json").read_text())
    systems, _ = read_systems(
        [str(tmp_path / "a,b.json"), str(tmp_path / "x=y.json")], folder / "a.json"
    )
    assert [system.name for system in systems] == ["a,b.json", "x=y.json"]


def test_a_subset_is_what_all_files_have(folder, tmp_path, capsys) -> None:
    rows = json.loads((folder / "bad1.json").read_text())[10:]
    (tmp_path / "few.json").write_text(json.dumps(rows))
    arguments = ["--compare", str(folder / "good1.json"), str(tmp_path / "few.json")]
    arguments += ["--references", str(folder / "a.json")]
    line = refused(capsys, *arguments, code=1)
    assert f"{tmp_path}/few.json: 10 images (0, 1, 2, …) with references but without" in line
    assert main(["evaluate", *arguments, "--subset", "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["recipe"]["subset"] == "50 of 60 images"
    assert content["recipe"]["n_images"] == 50


def test_a_score_that_one_run_lacks_is_left_out(told, monkeypatch) -> None:
    calls = []

    def spice(name, candidates, groups):
        calls.append(name)
        if len(calls) == 2:
            raise CaptionerError("the Java program failed: of old age")
        return mean_statistics(name, np.ones(len(candidates)))

    monkeypatch.setattr("captioner.evaluation.scores.java_statistics", spice)
    metrics = ["--metrics", "ROUGE-L", "SPICE", "--intervals", "--resamples", "20"]
    runs = ["good=good1.json,good2.json", "bad=bad1.json,bad2.json"]
    content = json.loads(told(*runs, *metrics, "--format", "json"))
    assert len(calls) == 4
    assert [list(system["scores"]) for system in content["systems"]] == [["ROUGE-L"]] * 2
    assert [one["score"] for one in content["comparisons"]] == ["ROUGE-L"]
    assert "SPICE" not in content["recipe"]
    warning = "good2.json: SPICE is skipped: the Java program failed: of old age"
    assert warning in content["warnings"]


def test_no_score_at_all(folder, monkeypatch, capsys) -> None:
    def spice(name, candidates, groups):
        raise CaptionerError("java is not on the PATH; install a Java runtime")

    monkeypatch.setattr("captioner.evaluation.scores.java_statistics", spice)
    monkeypatch.chdir(folder)
    spice_alone = ["--references", "a.json", "--metrics", "SPICE", "--intervals"]
    reason = "SPICE is skipped: java is not on the PATH; install a Java runtime"
    line = refused(capsys, "--results", "good1.json", *spice_alone, code=1)
    assert line == f"captioner: error: no metric is available: {reason}"
    line = refused(capsys, "--compare", "good1.json", "bad1.json", *spice_alone, code=1)
    assert line == f"captioner: error: no score is common to all runs: {reason}"


def test_wrong_calls(folder, monkeypatch, capsys) -> None:
    monkeypatch.chdir(folder)
    a = ["--references", "a.json", "--compare"]
    assert "--compare needs --references A.json" in refused(capsys, "--compare", "good1.json")
    assert "one result file; at least two" in refused(capsys, *a, "good1.json")
    assert "no result file none.json" in refused(capsys, *a, "good1.json", "none.json")
    assert "good1.json occurs 2 times in" in refused(
        capsys, *a, "good1.json,good1.json", "bad1.json"
    )
    assert "2 systems have the name good1.json; rename them: one=" in refused(
        capsys, *a, "good1.json", "./good1.json"
    )
    assert "=bad1.json has no name before =" in refused(capsys, *a, "good1.json", "=bad1.json")
    assert "--per-image describes one system" in refused(
        capsys, "--per-image", "p.csv", *a, "good1.json", "bad1.json"
    )
    assert "give --checkpoint P, or --results" in refused(
        capsys, "--results", "good1.json", *a, "good1.json", "bad1.json"
    )


def test_welch_by_closed_form() -> None:
    # Two and two values of one spread: two degrees of freedom, P(|T| > t) = 1 - t / sqrt(2 + t^2).
    t = 1 / np.sqrt(0.5 / 2 + 0.5 / 2)
    assert welch([0, 1], [1, 2]) == pytest.approx(1 - t / np.sqrt(2 + t**2), abs=1e-6)
    assert welch([1, 2], [0, 1]) == welch([0, 1], [1, 2])
    assert welch([1, 1], [1, 1]) == 1
    assert welch([1, 1], [2, 2]) == 0


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no oracle files")
def test_published_runs(tmp_path, capsys) -> None:
    """Tanti et al. 2018 report for init: 61.1, 42.4, 28.5, 19.1 and CIDEr 48.1, of three runs."""
    folder = PUBLISHED / "flickr8k"
    groups = [(folder / f"8k.test.{k}.txt").read_text().splitlines() for k in range(5)]
    annotations = [
        {"image_id": n, "caption": text} for group in groups for n, text in enumerate(group)
    ]
    (tmp_path / "a.json").write_text(json.dumps({"annotations": annotations}))
    arguments = []
    for place in ("init", "merge"):
        files = []
        for run in (1, 2, 3):
            lines = (folder / f"flickr8k_{place}_{run}.txt").read_text().splitlines()
            rows = [{"image_id": n, "caption": text} for n, text in enumerate(lines)]
            files.append(tmp_path / f"{place}{run}.json")
            files[-1].write_text(json.dumps(rows))
        arguments.append(f"{place}=" + ",".join(map(str, files)))
    references = ["--references", str(tmp_path / "a.json")]
    assert main(["evaluate", "--format", "json", *references, "--compare", *arguments]) == 0
    content = json.loads(capsys.readouterr().out)
    scores = content["systems"][0]["scores"]
    found = [round(100 * scores[name], 1) for name in ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")]
    assert found == [61.1, 42.4, 28.5, 19.1]
    assert round(100 * scores["CIDEr-D"], 1) == 48.1
    assert all(one["verdict"] == "not distinguishable" for one in content["comparisons"])

"""Tables and plots of runs whose captions are written by hand: no training."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written_runs import finish, make_data, ranked, study_of

from captioner.cli import main
from captioner.errors import CaptionerError, UsageError
from captioner.study.conduct import conduct, report
from captioner.study.results import rank
from captioner.study.run_folder import record_failure
from captioner.study.table import as_content, as_csv, as_table, notes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def test_sorted_by_score_with_mean_and_spread(tmp_path: Path, data: Path) -> None:
    study, ranking = ranked(tmp_path, data, [[0.9, 0.85, 0.88], [0.1, 0.15, 0.12]])
    assert [result.name for result in ranking.results] == ["hidden_size=2", "hidden_size=1"]
    best = ranking.results[0]
    values = [
        json.loads((run.folder / "summary.json").read_text())["scores"]["CIDEr-D"]
        for run in best.runs
    ]
    assert best.system.values("CIDEr-D") == pytest.approx(values)
    assert best.deviation("CIDEr-D") == pytest.approx(np.std(values, ddof=1))
    # Each run's captions say the same as their mean does: CIDEr-D is a mean over images.
    assert best.averaged.corpus["CIDEr-D"] == pytest.approx(np.mean(values))
    assert best.intervals["CIDEr-D"].low < np.mean(values) < best.intervals["CIDEr-D"].high
    table = as_table(ranking)
    row = dict(zip(table.header, table.rows[0], strict=True))
    assert row["configuration"] == "hidden_size=2"
    assert row["runs"] == "3"
    mean, deviation = 100 * np.mean(values), 100 * np.std(values, ddof=1)
    assert row["CIDEr-D"] == f"{mean:.1f} ± {deviation:.1f}"
    assert row["parameters"] == "1,234"
    assert row["words/s"] == "1,001"
    assert row["best epoch"] == "2, 2, 2 of 3"
    assert row["than the next"].startswith("better (p ")
    assert row["than the best"] == ""
    last = dict(zip(table.header, table.rows[1], strict=True))
    assert last["than the next"] == ""
    assert last["than the best"].startswith("worse (p ")
    assert notes(study, ranking)[0].startswith("6 of 6 runs.")


def test_images_alone_do_not_decide_where_seeds_disagree(tmp_path: Path, data: Path) -> None:
    """The images speak clearly for the second; its seeds are as far from one another."""
    _, ranking = ranked(tmp_path, data, [[0.5, 0.55], [0.05, 0.5]])
    found = ranking.than_next[0]
    assert found is not None
    assert found.p_randomisation < 0.05
    assert found.p_runs is not None
    assert found.p_runs > 0.05
    assert as_table(ranking).rows[0][4].startswith("not distinguishable (p = 0.")


def test_single_runs_are_compared_over_images_only(tmp_path: Path, data: Path) -> None:
    _, ranking = ranked(tmp_path, data, [[0.9], [0.1], [0.1]])
    table = as_table(ranking)
    assert table.rows[0][4] == "not distinguishable (p = 1.000)", "the same captions"
    assert table.rows[1][4].endswith("; images only)")
    assert table.rows[1][4].startswith("better (p ")
    assert table.rows[0][2] == table.rows[1][2]
    assert "±" not in table.rows[0][2]


def test_neighbours_are_corrected_for_their_number(tmp_path: Path, data: Path) -> None:
    _, ranking = ranked(tmp_path, data, [[0.3], [0.5], [0.7], [0.9]])
    found = [one for one in ranking.than_next if one is not None]
    assert len(found) == 3
    smallest = min(found, key=lambda one: one.p_value)
    assert smallest.p_holm == pytest.approx(min(1.0, 3 * smallest.p_value))


def test_missing_and_failed_runs_are_named(tmp_path: Path, data: Path) -> None:
    study = study_of(tmp_path, data, [1, 2], [0, 1])
    first, second = study.configurations
    with pytest.raises(CaptionerError, match=r"none of the 4 runs is finished; the first, hidden_"):
        rank(study)
    finish(first.runs[0], 0.2)
    record_failure(first.runs[1].folder, "no memory")
    ranking = rank(study)
    assert [result.name for result in ranking.results] == ["hidden_size=1"]
    assert notes(study, ranking)[:4] == [
        "missing: hidden_size=1 seed 1: no memory",
        "missing: hidden_size=2 seed 0: not run yet",
        "missing: hidden_size=2 seed 1: not run yet",
        notes(study, ranking)[3],
    ]
    assert notes(study, ranking)[3].startswith("1 of 4 runs.")
    assert second.runs


def test_csv_and_json_say_what_the_table_says(tmp_path: Path, data: Path) -> None:
    study, ranking = ranked(tmp_path, data, [[0.9, 0.85], [0.1, 0.15]])
    content = json.loads(json.dumps(as_content(study, ranking), allow_nan=False))
    rows = list(csv.DictReader(io.StringIO(as_csv(ranking))))
    best = content["configurations"][0]
    assert best["settings"] == {"decoder.hidden_size": 2}
    assert best["seeds"] == [0, 1]
    assert best["than_next"]["verdict"] == "better"
    assert best["than_best"] is None
    assert content["configurations"][1]["than_best"]["verdict"] == "worse"
    assert content["score"] == "CIDEr-D"
    assert rows[0]["configuration"] == "hidden_size=2"
    assert rows[0]["decoder.hidden_size"] == "2"
    assert float(rows[0]["CIDEr-D"]) == pytest.approx(best["scores"]["CIDEr-D"]["mean"])
    assert float(rows[0]["CIDEr-D deviation"]) == best["scores"]["CIDEr-D"]["deviation"]
    assert rows[0]["than_next_verdict"] == "better"
    assert rows[0]["than_best_verdict"] == ""
    assert float(rows[1]["than_best_p"]) == content["configurations"][1]["than_best"]["p_holm"]


def test_other_images_are_not_compared(tmp_path: Path, data: Path) -> None:
    study = study_of(tmp_path, data, [1, 2], [0])
    for run, wrong in zip(study.runs, (0.1, 0.9), strict=True):
        finish(run, wrong)
    path = study.runs[1].folder / "captions.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:-5]))
    ranking = rank(study)
    assert ranking.than_next == (None, None)
    assert any("different images are not compared" in note for note in notes(study, ranking))


def test_an_image_that_is_gone(tmp_path: Path, data: Path) -> None:
    study = study_of(tmp_path, data, [1], [0])
    finish(study.runs[0], 0.1)
    rows = [{"image_id": "gone.png", "caption": "a dog"}]
    (study.runs[0].folder / "captions.json").write_text(json.dumps(rows))
    with pytest.raises(CaptionerError, match=r"image 'gone.png' is no longer in"):
        rank(study)


def test_report_from_what_is_there(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, _ = ranked(tmp_path, data, [[0.9, 0.85], [0.1, 0.15]])
    assert main(["study", "--config", str(tmp_path / "sizes.yaml"), "--report"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].startswith("hidden_size=2")
    written = (study.output / "table.md").read_text()
    assert written.startswith("# sizes\n\n| configuration | runs | CIDEr-D |")
    assert "| hidden\\_size=2 | 2 |" in written
    assert (study.output / "plots.png").read_bytes().startswith(b"\x89PNG")
    first = (study.output / "plots.svg").read_text()
    assert "CIDEr-D" in first or "<svg" in first
    report(study)
    assert (study.output / "plots.svg").read_text() == first, "the same runs, the same picture"
    assert not list(study.output.glob("*.part"))


def test_a_report_is_logged_where_the_runs_are(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, _ = ranked(tmp_path, data, [[0.9], [0.1]])
    logged: list[tuple[Path, str, Any]] = []

    def note(output: Path, *, mode: str, rows: Any, **about: Any) -> None:
        assert (output / "plots.png").is_file()
        logged.append((output, mode, rows))

    monkeypatch.setattr("captioner.training.wandb_log.log_study", note)
    report(study)
    ((output, mode, rows),) = logged
    assert (output, mode) == (study.output, study.runs[0].config.wandb.mode)
    assert [row["configuration"] for row in rows] == ["hidden_size=2", "hidden_size=1"]
    assert rows[0]["CIDEr-D"] > rows[1]["CIDEr-D"]


def test_score_and_split_of_the_file_are_used(tmp_path: Path, data: Path) -> None:
    study, _ = ranked(tmp_path, data, [[0.5], [0.2]])
    ranking = rank(replace(study, score="BLEU-4"))
    assert as_table(ranking).header[2] == "BLEU-4"
    others = as_table(ranking).header[6:]
    assert {"BLEU-1", "BLEU-2", "BLEU-3", "ROUGE-L", "CIDEr-D"} < set(others)
    assert "BLEU-4" not in others
    with pytest.raises(CaptionerError, match="not run yet"):
        rank(replace(study, split="test"))


def test_a_score_without_its_data_is_refused_before_the_work(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = replace(study_of(tmp_path, data, [1], [0]), score="METEOR")
    monkeypatch.setattr("captioner.study.conduct.find_folder", lambda: None)
    for act in (conduct, report):
        with pytest.raises(UsageError, match=r"score: METEOR: its data are not installed \(pip"):
            act(study)

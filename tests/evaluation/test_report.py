"""`captioner evaluate` on files: what is told, in every format, with its recipe."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from captioner.cli import main
from captioner.evaluation.report import SystemCaptions, report_on
from captioner.evaluation.scores import score

NAMES = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]

TEXT = "a dog runs on the green grass near two men who look at its red ball"


def write(path: Path, content: object) -> str:
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    words = TEXT.split()
    captions = {n: " ".join(words[n : n + 6]) for n in range(10)}
    annotations = [
        {"image_id": n, "caption": " ".join(words[n + k : n + 5 + k])}
        for n in range(10)
        for k in range(2)
    ]
    rows = [{"image_id": n, "caption": text} for n, text in captions.items()]
    return [
        "--results",
        write(tmp_path / "r_1.json", rows),
        "--references",
        write(tmp_path / "a.json", {"annotations": annotations}),
    ]


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["evaluate", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_the_table_states_scale_and_recipe(files, capsys) -> None:
    header, *rows, blank, notes = told(capsys, *files).splitlines()
    assert header.split() == ["score", "value"]
    assert [row.split()[0] for row in rows] == NAMES
    assert blank == ""
    assert notes.startswith("scores x 100; results:r_1.json|images:10|refs:2|tokenizer:PTB")
    content = json.loads(told(capsys, *files, "--format", "json"))
    for row in rows:
        name, value = row.split()
        assert float(value) == pytest.approx(100 * content["scores"][name], abs=0.051)


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "json"])
def test_every_format_holds_each_number_with_interval_and_recipe(form, files, capsys) -> None:
    text = told(capsys, *files, "--format", form, "--intervals", "--resamples", 50, "--seed", 3)
    assert "r_1.json" in text.replace("\\_", "_")
    assert re.search("50.resamples.*seed.3", text)
    content = json.loads(
        told(capsys, *files, "--format=json", "--intervals", "--resamples=50", "--seed=3")
    )
    for name in NAMES:
        low, high = content["intervals"][name]
        assert low <= content["scores"][name] <= high
        if form != "json":
            pattern = rf"{name} .*{100 * content['scores'][name]:.1f} .*{100 * low:.1f} to "
            assert re.search(pattern + f"{100 * high:.1f}", text)


def test_the_file_is_what_json_prints(files, tmp_path, capsys) -> None:
    output = tmp_path / "scores.json"
    printed = told(capsys, *files, "--format", "json", "--output", output)
    assert output.read_text(encoding="utf-8") == printed
    content = json.loads(printed)
    assert list(content) == ["scores", "recipe", "warnings"]
    assert list(content["scores"]) == NAMES
    assert content["recipe"]["n_images"] == 10


def test_each_image_as_json_lines_and_as_csv(files, tmp_path, capsys) -> None:
    lines, table = tmp_path / "i.jsonl", tmp_path / "i.csv"
    told(capsys, *files, "--per-image", lines)
    told(capsys, *files, "--per-image", table)
    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert [row["image_id"] for row in rows] == list(range(10))
    assert list(rows[0]["scores"]) == NAMES
    in_csv = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
    for row, other in zip(rows, in_csv, strict=True):
        assert {name: float(other[name]) for name in NAMES} == row["scores"]
        assert other["recipe"] == row["recipe"]
        assert "results:r_1.json|images:10" in row["recipe"]


def test_captions_are_written_as_results(files, tmp_path, capsys) -> None:
    again = tmp_path / "again.json"
    told(capsys, *files, "--captions", again)
    assert json.loads(again.read_text()) == json.loads(Path(files[1]).read_text())


def test_json_lines_of_the_caption_command_are_results(files, tmp_path, capsys) -> None:
    """Photos are found by their file names or numbers; what could not be read is missing."""
    names = {0: "sub/one.jpg", 1: "COCO_val2014_000000000017.jpg", 2: "two.jpg"}
    ids = {0: "sub/one.jpg", 1: 17, 2: "two.jpg"}
    annotations = [{"image_id": ids[n], "caption": "a dog"} for n in names]
    references = ["--references", write(tmp_path / "named.json", {"annotations": annotations})]
    rows = [{"image": f"/photos/{name}", "caption": "a dog"} for name in names.values()]
    results = tmp_path / "r.jsonl"
    results.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    content = json.loads(told(capsys, "--results", results, *references, "--format=json"))
    assert content["scores"]["BLEU-1"] == pytest.approx(1)
    rows[2] = {"image": "/photos/two.jpg", "error": "the file is empty"}
    results.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert main(["evaluate", "--results", str(results), *references]) == 1
    assert "1 image ('two.jpg') with references but without a caption" in capsys.readouterr().err
    content = json.loads(
        told(capsys, "--results", results, *references, "--format=json", "--subset")
    )
    assert content["recipe"]["subset"] == "2 of 3 images"
    assert content["recipe"]["n_images"] == 2


def test_a_subset_that_has_nothing_in_common(files, tmp_path, capsys) -> None:
    others = write(tmp_path / "others.json", [{"image_id": "x", "caption": "a"}])
    assert main(["evaluate", "--results", others, *files[2:], "--subset"]) == 1
    assert "none of its images is in" in capsys.readouterr().err


def test_what_cannot_be_done_is_said_before_the_work(files, tmp_path, capsys) -> None:
    for flags, message in [
        (["--output", str(tmp_path)], "--output: "),
        (["--per-image", "/no/where/x.csv"], "--per-image: no folder /no/where"),
        (["--resamples", "0"], "--resamples 0: must be at least 1"),
        (["--resamples", "1000000000"], "--resamples 1000000000: must be at most 1000000"),
        (["--seed", "-1"], "--seed: '-1' is not a whole number of at least 0"),
        (["--format", "html"], "invalid choice: 'html'"),
    ]:
        assert main(["evaluate", "--results", "none.json", *files[2:], *flags]) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert len(captured.err.splitlines()) == 1
    assert main(["evaluate", "--checkpoint", "p", "--subset"]) == 2
    assert "--subset: applies to files" in capsys.readouterr().err


def test_intervals_change_no_score() -> None:
    captions = {1: ["a dog"], 2: ["two men"]}
    references = {1: ["a dog runs"], 2: ["men look"]}
    report = report_on(SystemCaptions(captions, references), resamples=10)
    plain = score({1: "a dog", 2: "two men"}, references)
    assert report.scores.corpus == plain.corpus
    assert set(report.intervals) == set(plain.corpus)
    assert report.scores.warnings == (
        "intervals from 2 images are too narrow; evaluate at least 30 images",
    )


def test_scoring_files_needs_no_torch(files) -> None:
    code = (
        "import sys\nfrom captioner.cli import main\n"
        f"assert main(['evaluate', *{files!r}]) == 0\n"
        "print([name for name in ('torch', 'PIL', 'nltk', 'pycocotools') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

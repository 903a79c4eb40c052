"""Benchmarks write their rows as JSON, with what is needed to repeat them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
BENCHMARKS = sorted(SCRIPTS.glob("benchmark_*.py"))


def test_search(tmp_path: Path) -> None:
    file = tmp_path / "search.json"
    command = [sys.executable, str(SCRIPTS / "benchmark_decoding.py"), "--json", str(file)]
    command += ["--vocab-size", "60", "--hidden-size", "8", "--batch-sizes", "1", "2"]
    command += ["--max-length", "3", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert report["command"].startswith("python ")
    assert report["command"].endswith("--rounds 1")
    assert {"date", "processor", "cores", "system"} <= set(report)
    assert {"python", "captioner", "torch"} <= set(report["versions"])
    assert report["settings"]["vocab_size"] == 60
    rows = report["rows"]
    assert [(row["table"], row["batch"]) for row in rows[:2]] == [("search", 1), ("search", 2)]
    assert {row["table"] for row in rows[2:]} == {"attention"}
    assert all(row["captioner_images_per_second"] > 0 for row in rows)


@pytest.mark.parametrize("script", BENCHMARKS, ids=lambda script: script.stem)
def test_each_takes_the_flag(script: Path) -> None:
    """Each benchmark takes `--json`, from the one place that writes it."""
    if script.stem == "benchmark_json":
        return
    text = script.read_text()
    shared = ("add_json(", "parse_options(", "parse_arguments(")
    assert any(name in text for name in shared), "takes no --json"
    assert "write_json(" in text or "measure(" in text, "writes no JSON"


def test_the_page_holds_the_table_of_its_files(tmp_path: Path) -> None:
    """The table of a processor is generated: nobody types or edits a figure of it."""
    page = SCRIPTS.parent / "docs" / "performance.md"
    copy = tmp_path / "page.md"
    copy.write_text(page.read_text("utf-8"), "utf-8")
    folder = SCRIPTS.parent / "docs" / "benchmarks" / "intel"
    command = [sys.executable, str(SCRIPTS / "performance_table.py"), str(folder)]
    done = subprocess.run([*command, "--into", str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert copy.read_text("utf-8") == page.read_text("utf-8"), "run performance_table.py --into"

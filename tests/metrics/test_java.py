"""Java metrics, with fake programs: a failure affects only its own score and is one line."""

import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from meteor_files import needs_data

from captioner.evaluation.scores import score
from captioner.metrics import java as java_programs

CAPTIONS = {7: "A dog runs.", 8: "many red kites"}
REFERENCES = {7: ["A hound is running."], 8: ["A lot of kites.", "A red kite flies."]}

# Output of METEOR's program for these captions: words, function words, matches by stage, chunks …
COUNTS = (
    "3.0 4.0 1.0 2.0 0.0 0.0 1.0 1.0 1.0 1.0 0.0 0.0 1.0 1.0 0.0 0.0 0.0 0.0 0.0 0.0 2.0 3.0 3.0\n"
    "3.0 4.0 0.0 1.0 2.0 2.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 1.0 2.0 2.0\n"
)


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Put a shell script named java on the PATH, and a package with a fake SPICE."""
    (tmp_path / "bin").mkdir()
    package = tmp_path / "packages" / "pycocoevalcap"
    (package / "spice").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(java_programs, "find_folder", lambda: tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))

    def play(java: str = "exit 9", spice: str = "raise OSError('no models')") -> None:
        program = tmp_path / "bin" / "java"
        program.write_text(f"#!/bin/sh\n{java}\n")
        program.chmod(0o755)
        (package / "spice" / "spice.py").write_text(
            f"class Spice:\n    def compute_score(self, references, captions):\n        {spice}\n"
        )

    return play


def test_meteor_is_counted_by_the_program(play, tmp_path):
    (tmp_path / "counts").write_text(COUNTS)
    play(java='cat > input; echo "$@" > arguments; cat counts')
    scores = score(CAPTIONS, REFERENCES, metrics=["METEOR-Java", "ROUGE-L"])
    assert list(scores.corpus) == ["METEOR-Java", "ROUGE-L"]
    assert scores.warnings == ()
    assert scores.recipe["METEOR-Java"] == "1.5, en, norm, by Java"
    assert (tmp_path / "input").read_text() == (
        "SCORE ||| a hound is running ||| a dog runs\n"
        "SCORE ||| a lot of kites ||| a red kite flies ||| many red kites\n"
    )
    assert (tmp_path / "arguments").read_text().endswith("- - -stdio -l en -norm\n")
    # The second: P = 2/3, R = 2 * 0.75 / (3 * 0.75 + 0.25), one chunk of two words.
    mean = 1 / (0.15 / (2 / 3) + 0.85 / 0.6)
    assert scores.per_image["METEOR-Java"][1] == pytest.approx(mean * (1 - 0.6 * 0.5**0.2))


def test_spice_is_a_mean_over_images(play):
    play(
        spice="print('loading'); return 0, [{'All': {'f': 0.1 * len(c[0]) + len(references[i])}}"
        " for i, c in captions.items()]"
    )
    scores = score(CAPTIONS, REFERENCES, metrics=["SPICE"])
    np.testing.assert_allclose(scores.per_image["SPICE"], [2.0, 3.4])
    assert scores.corpus["SPICE"] == pytest.approx(2.7)


@pytest.mark.parametrize(
    ("java", "reason"),
    [
        ("exit 9", "the Java program failed: exit code 9"),
        (
            "echo one >&2; echo 'Out of memory' >&2; echo '  at Main' >&2; exit 1",
            "the Java program failed: Out of memory",
        ),
        ("cat > input", "the Java program failed: 0 answers for 2 images"),
        ("echo 1.0 2.0", "the Java program failed: 1 answers for 2 images"),
    ],
)
def test_a_failing_program_affects_only_its_own_score(play, java, reason):
    play(java=java)
    scores = score(CAPTIONS, REFERENCES, metrics=["BLEU", "METEOR-Java"])
    assert "BLEU-4" in scores.corpus
    assert "METEOR-Java" not in scores.corpus
    assert "METEOR-Java" not in scores.recipe
    assert scores.warnings == (f"METEOR-Java is skipped: {reason}",)


@pytest.mark.parametrize(
    ("spice", "reason"),
    [
        ("raise OSError('no models')", "OSError: no models"),
        ("import os; os.abort()", "exit code -6"),
        ("return 0, []", "0 scores for 2 images"),
    ],
)
def test_a_failing_spice_affects_only_its_own_score(play, spice, reason):
    play(spice=spice)
    scores = score(CAPTIONS, REFERENCES, metrics=["SPICE", "ROUGE-L"])
    assert list(scores.corpus) == ["ROUGE-L"]
    assert scores.warnings == (f"SPICE is skipped: the Java program failed: {reason}",)


def test_a_hanging_program_is_killed_with_its_children(play, tmp_path, monkeypatch):
    monkeypatch.setattr(java_programs, "_LIMIT", 0.5)
    play(java="(sleep 2; touch alive) & sleep 60")
    begin = time.monotonic()
    scores = score(CAPTIONS, REFERENCES, metrics=["METEOR-Java"])
    assert scores.warnings == (
        "METEOR-Java is skipped: the Java program failed: no answer within 0.5 s",
    )
    assert time.monotonic() - begin < 30
    time.sleep(2.2)
    assert not (tmp_path / "alive").exists()


def test_missing_java_or_package_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(java_programs, "find_folder", lambda: None)
    scores = score(CAPTIONS, REFERENCES, metrics=["SPICE"])
    assert scores.warnings == (
        "SPICE is skipped: pycocoevalcap is not installed (pip install 'captioner[meteor]')",
    )
    monkeypatch.setattr(java_programs, "find_folder", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    scores = score(CAPTIONS, REFERENCES, metrics=["SPICE"])
    assert scores.warnings == ("SPICE is skipped: java is not on the PATH; install a Java runtime",)


@pytest.mark.slow
@needs_data
@pytest.mark.skipif(shutil.which("java") is None, reason="no Java")
def test_the_real_program_agrees(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    scores = score(CAPTIONS, REFERENCES, metrics=["METEOR", "METEOR-Java"])
    assert scores.corpus["METEOR"] == scores.corpus["METEOR-Java"] > 0
    ours, theirs = scores.statistics
    np.testing.assert_array_equal(ours.values, theirs.values)

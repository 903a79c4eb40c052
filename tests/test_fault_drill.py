"""The drill that kills commands: a few kills here, hundreds by hand."""

import subprocess
import sys
from pathlib import Path

import pytest

DRILL = Path(__file__).parents[1] / "scripts" / "fault_drill.py"


@pytest.mark.slow
def test_killed_training_ends_as_undisturbed() -> None:
    result = subprocess.run(
        [sys.executable, str(DRILL), "train", "--kills", "5"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "train: 5 kills in" in result.stdout
    assert " 0 differences" in result.stdout


def test_an_unknown_drill_is_named() -> None:
    result = subprocess.run([sys.executable, str(DRILL), "tran"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "no drill 'tran'; choose of train" in result.stderr

"""The drill that kills commands: a few kills here, hundreds by hand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DRILL = Path(__file__).parents[1] / "scripts" / "fault_drill.py"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["prepare", "train", "caption", "caption-file", "evaluate"])
def test_what_is_killed_ends_as_undisturbed(command: str) -> None:
    result = subprocess.run(
        [sys.executable, str(DRILL), command, "--kills", "5"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.match(f"{command}: 5 kills in .*, 0 differences", result.stdout)


@pytest.mark.slow
def test_an_unknown_drill_is_named() -> None:
    result = subprocess.run([sys.executable, str(DRILL), "tran"], capture_output=True, text=True)
    assert result.returncode == 2
    assert (
        "unknown drill 'tran'; choose from prepare, train, caption, caption-file, evaluate"
        in result.stderr
    )

"""The fuzzing script: its table, its exit code, and that it calls a fault a fault."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from captioner.errors import CaptionerError

SCRIPT = Path(__file__).parent.parent / "scripts" / "fuzz_readers.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_readers", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def raising(error: BaseException):  # type: ignore[no-untyped-def]
    def read() -> None:
        raise error

    return read


def test_outcomes(script: ModuleType) -> None:
    assert script.outcome_of(int)[0] == "result"
    assert script.outcome_of(raising(CaptionerError("one line")))[0] == "clear error"
    assert script.outcome_of(raising(CaptionerError("two\nlines")))[0] == "other exception"
    outcome, detail = script.outcome_of(raising(KeyError("x")))
    assert outcome == "other exception"
    assert "KeyError('x') at test_fuzz_readers.py" in detail
    assert script.outcome_of(raising(MemoryError()))[0] == "memory"
    assert script.outcome_of(raising(CaptionerError("two\u2028lines")))[0] == "other exception"
    assert script.outcome_of(raising(script.HangError()))[0] == "hang"


def test_a_refusal_of_memory_is_no_clear_error(script: ModuleType) -> None:
    def read() -> None:
        try:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")
        except RuntimeError as error:
            raise CaptionerError("damaged") from error

    assert script.outcome_of(read)[0] == "memory"


def test_what_a_reader_must_not_do_is_an_outcome(script: ModuleType, tmp_path: Path) -> None:
    """Code made, or a file written outside of its folder; inside it may write."""
    (tmp_path / "own").mkdir()

    def write(name: str) -> None:
        (tmp_path / name).write_text("x")

    for name, expected in (("own/lock", "result"), ("other", "event")):
        found, _ = script.watched_outcome_of(lambda name=name: write(name), tmp_path / "own")
        assert found == expected
    outcome, detail = script.watched_outcome_of(lambda: eval("1 + 1"), tmp_path / "own")
    assert outcome == "event"
    assert detail.startswith(("compile", "exec"))


def test_memory_is_measured_by_mutant() -> None:
    # In a process of its own: one that ran other tests finds room in memory that it has already.
    program = f"""
import runpy
script = runpy.run_path({str(SCRIPT)!r})
before = script["start_peak"]()
block = b"x" * (40 << 20)
del block
with_block = script["peak"]() - before
before = script["start_peak"]()
print(with_block, script["peak"]() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    with_block, without = map(float, done.stdout.split())
    assert 35 < with_block < 60
    assert without < 5


def test_a_quick_run() -> None:
    names = ("vocabulary", "tar", "store", "config", "instances")
    flags = [flag for name in names for flag in ("--reader", name)]
    command = [sys.executable, str(SCRIPT), "--mutants", "15", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == list(names)
    for row in rows:
        assert sum(map(int, row[1:3])) == 15
        assert sum(map(int, row[3:8])) == 0
        assert float(row[8]) <= 256


@pytest.mark.slow
def test_all_readers() -> None:
    command = [sys.executable, str(SCRIPT), "--mutants", "300", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout

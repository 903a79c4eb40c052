"""A folder held by one process: who holds it, and that nobody does after a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from captioner.errors import CaptionerError
from captioner.files.folder_lock import held_folder

HOLDER = (
    "import os, sys, time; from pathlib import Path; "
    "from captioner.files.folder_lock import held_folder\n"
    "with held_folder(Path(sys.argv[1]), 'training run'):\n"
    "    if os.fork() == 0: time.sleep(60)\n"
    "    print('held', flush=True); time.sleep(60)"
)


def test_the_second_is_refused_and_a_kill_frees(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(CaptionerError) as caught,
            held_folder(folder, "training run"),
        ):
            pytest.fail("held twice")
        line = str(caught.value)
        assert f"another training run is writing there (process {process.pid} on " in line
        assert ", since 20" in line
        process.kill()
        process.wait()
        for attempt in range(
            100
        ):  # the child, which still lives, closes its copy when it first runs
            try:
                with held_folder(folder, "training run"):
                    break
            except CaptionerError:
                assert attempt < 99
                time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)


def test_free_after_the_block_and_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), held_folder(tmp_path, "training run"):
        raise ValueError("no")
    with held_folder(tmp_path, "training run"):
        assert f"process {os.getpid()} on " in (tmp_path / "lock").read_text()

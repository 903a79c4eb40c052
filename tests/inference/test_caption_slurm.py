"""The job array of scripts/caption_slurm.sh, without SLURM: what its queue sets is set here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_photo

SCRIPT = Path(__file__).parents[2] / "scripts" / "caption_slurm.sh"


@pytest.fixture
def captioner(tmp_path: Path) -> Path:
    """The command, as the script calls it."""
    command = tmp_path / "captioner"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m captioner "$@"\n')
    command.chmod(0o755)
    return command


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    """Arguments that name 11 photos, one of them damaged and one missing, in a list."""
    paths = [make_photo(tmp_path / "in" / f"{i}.png", i) for i in range(9)]
    (tmp_path / "in" / "bad.png").write_bytes(b"no photo")
    paths += [tmp_path / "in" / "bad.png", tmp_path / "in" / "missing.png"]
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    return ["--list", str(tmp_path / "list.txt")]


def job(captioner: Path, number: int, arguments: list[str], **queue: str) -> list[str]:
    """Run a job of the array; return its messages."""
    environment = {name: value for name, value in os.environ.items() if "SLURM" not in name}
    own = {"CAPTIONER": str(captioner), "SLURM_ARRAY_TASK_ID": str(number)}
    own |= {"SLURM_CPUS_PER_TASK": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        env=environment | own | queue,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (0, 1), done.stderr  # 1: of photos without a caption
    return done.stderr.splitlines()


def merged(captioner: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(captioner), "merge", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_an_array_writes_what_one_machine_writes(
    captioner: Path, photos: list[str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    own = ["--checkpoint", str(tiny_checkpoint), "--shard-size", "2", "--batch-size", "2"]
    one, many = tmp_path / "one", tmp_path / "many"
    command = [str(captioner), "caption", *photos, *own, "--workers", "1", "--output", f"{one}/"]
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == 1
    given = [*photos, *own, "--output", f"{many}/"]
    for number in (1, 2):
        job(captioner, number, given, SLURM_ARRAY_TASK_COUNT="3")
    incomplete = merged(captioner, many)
    assert incomplete.returncode == 1
    assert "share 3 of 3 is missing" in incomplete.stderr
    job(captioner, 3, given, SHARES="3")  # queued alone
    job(captioner, 1, given, SLURM_ARRAY_TASK_COUNT="3")  # requeued; nothing is left to do
    done = merged(captioner, many)
    assert "11 photos are complete" in done.stderr
    names = sorted(path.name for path in one.iterdir() if path.name != "lock")
    assert sorted(path.name for path in many.iterdir() if path.name != "lock") == names
    assert len(names) == 7  # six files and the manifest
    for name in names:
        assert (many / name).read_bytes() == (one / name).read_bytes(), name


def test_the_command_of_a_job(captioner: Path) -> None:
    given = {"DRY_RUN": "1", "SLURM_ARRAY_TASK_ID": "7", "SHARES": "64"}
    done = subprocess.run(
        ["bash", str(SCRIPT), "--list", "a list.txt", "--output", "captions/"],
        env=os.environ | given | {"CAPTIONER": str(captioner), "SLURM_CPUS_PER_TASK": "16"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split(" ", 1)[1].strip() == (
        "caption --list a\\ list.txt --output captions/ --workers 16 --share 7/64"
    )


def test_outside_of_an_array_it_says_what_to_do(captioner: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "SLURM" not in name}
    done = subprocess.run(
        ["bash", str(SCRIPT), "--output", "captions/"],
        env=environment | {"CAPTIONER": str(captioner)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "sbatch --array=1-N" in done.stderr

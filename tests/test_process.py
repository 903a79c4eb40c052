"""Settings of the process: threads that wait, and memory that is freed."""

import os
import subprocess
import sys

import pytest

from captioner.cli import keep_freed_memory, limit_spinning

MALLOC = ("MALLOC_", "GLIBC_TUNABLES")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": "1000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_threads_spin_briefly_unless_the_user_says(
    given: dict[str, str], expected: dict[str, str]
) -> None:
    limit_spinning(given)
    assert given == expected


@pytest.mark.parametrize(
    "given", [{"MALLOC_TRIM_THRESHOLD_": "0"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}]
)
def test_settings_of_the_user_for_memory_count(given: dict[str, str]) -> None:
    assert not keep_freed_memory(given)


FAULTS = """
import resource, sys
from captioner.cli import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory({}):
    sys.exit("this C library is not glibc")
import torch
torch.set_num_threads(1)
for round in range(20):
    if round == 15:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(4_000_000), torch.ones(4_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Return the page faults of ten tensors of 16 MB in a process of its own."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(MALLOC)}
    command = [sys.executable, "-c", FAULTS, how]
    done = subprocess.run(command, capture_output=True, text=True, env=ours)
    if "not glibc" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_freed_memory_is_used_again() -> None:
    before = faults("leave")
    if before < 1000:
        pytest.skip("pages are large here")
    assert faults("keep") < before / 10

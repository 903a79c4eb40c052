"""A Ray cluster of two nodes on this machine, and the command in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NODE = {"num_cpus": 1, "object_store_memory": 200 * 2**20}
"""Each node's resources."""

POISON = """
import os, signal, sys
def end(event, arguments):
    if event == "open" and "kills-it" in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(end)
"""
"""`sitecustomize` of the workers: a process that opens a file named so is killed."""


SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # else a busy machine leaves the workers no time
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "OMP_NUM_THREADS": "1",
}
"""Environment of nodes and commands."""


class Nodes:
    """Two nodes with one CPU each; the second may be removed and added again.

    Args:
        site: Folder with a `sitecustomize` for the workers.
    """

    def __init__(self, site: Path) -> None:
        from ray.cluster_utils import Cluster

        self._site = site
        self.second: Any = None
        with self._environment():
            self.cluster = Cluster(
                initialize_head=True, head_node_args={**NODE, "include_dashboard": False}
            )
        self.add_second()

    @contextmanager
    def _environment(self) -> Iterator[None]:
        before = dict(os.environ)
        os.environ.update(SETTINGS, PYTHONPATH=str(self._site))
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def remove_second(self) -> None:
        second, self.second = self.second, None
        self.cluster.remove_node(second, allow_graceful=False)

    def add_second(self) -> None:
        """Add the second node, unless it is there."""
        if self.second is None:
            with self._environment():
                self.second = self.cluster.add_node(**NODE)

    def actors(self, name: str = "Worker(") -> list[int]:
        """Process ids of actors, by default the networks, by the names that Ray gives them."""
        raylets = {
            info.process.pid
            for node in self.cluster.list_all_nodes()
            for info in node.all_processes["raylet"]
        }
        every = processes()
        return [pid for pid, parent, command in every if parent in raylets and name in command]


def processes() -> Iterator[tuple[int, int, str]]:
    """Id, parent's id and command of each process, from /proc."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            yield int(entry.name), parent, name


@pytest.fixture
def nodes(cluster: Nodes) -> Nodes:
    """Both nodes, whatever an earlier test has removed."""
    cluster.add_second()
    return cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(POISON)
    both = Nodes(folder)
    yield both
    both.cluster.shutdown()


class Command:
    """A command of `captioner` in a process.

    Args:
        arguments: What follows `captioner`, or Python's own arguments.
        python: Whether they are Python's.
    """

    def __init__(self, arguments: list[str], *, python: bool = False) -> None:
        given = arguments if python else ["-m", "captioner", *arguments]
        self.process = subprocess.Popen(
            [sys.executable, *given],
            env={**os.environ, **SETTINGS},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> str:
        """Kill it, and return its messages."""
        self.process.send_signal(signal.SIGKILL)
        return self.process.communicate()[1]

    def ended(self, seconds: float = 300) -> tuple[int, str]:
        """Exit code and messages; a command that hangs is killed and its messages are shown."""
        try:
            self.output, told = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"not ended within {seconds} s: {self.kill()}") from error
        return self.process.returncode, told

    def wait_for(self, condition: Callable[[], Any], seconds: float = 300) -> Any:
        """Wait until a condition holds while the command runs."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = condition()
            if found:
                return found
            if self.process.poll() is not None:
                raise AssertionError(f"the command ended: {self.process.communicate()}")
            time.sleep(0.05)
        raise AssertionError(f"the condition never held: {self.kill()}")


def records_of(folder: Path) -> list[dict[str, Any]]:
    """All records in the JSON Lines files of a folder."""
    return [
        json.loads(line)
        for file in sorted(folder.glob("captions-*.jsonl"))
        for line in file.read_text().splitlines()
    ]

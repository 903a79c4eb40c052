"""`captioner study --engine ray`: each run of a grid is a task with resources of its own.

The study's folder is one that all machines see; what is done is read from it, so a study resumes
with or without Ray.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.cluster.connect import check_machines, connected, in_one_line
from captioner.cluster.resources import Plan, nodes_of_cluster, plan
from captioner.cluster.room import Watch, wait_for_room
from captioner.study.plan import Run
from captioner.study.runner import POLL_SECONDS, InItsOwnProcess, Start

TRIES = 3
"""How often a run is begun again after its machine is lost; it resumes from its checkpoint."""


@dataclass(frozen=True)
class Cluster:
    """What a study needs to know of a cluster.

    Attributes:
        slots: Runs at the same time.
        start: Starts a run as a task.
    """

    slots: int
    start: Start


@contextmanager
def study_cluster(address: str | None, jobs: int | None, split: str) -> Iterator[Cluster]:
    """Connect to a cluster during the block.

    Args:
        address: Address of the cluster.
        jobs: Runs at the same time; None for one per GPU, or one per CPU where there is none.
        split: Split to score.

    Raises:
        CaptionerError: The cluster does not allow it.
    """
    here = Path.cwd()
    with connected(address):
        nodes = nodes_of_cluster()
        chosen = plan(nodes, jobs, flag="--jobs")
        check_machines(nodes, [str(here)])
        wait_for_room(chosen)
        watch = Watch(chosen)
        yield Cluster(
            chosen.actors, lambda run, slot: InATask(run, split, chosen, watch, str(here))
        )


class InATask:
    """A run in a task of the cluster.

    Args:
        run: The run.
        split: Split to score.
        chosen: Resources of a task.
        watch: Of all runs, ends the study if no machine is left that has room for a run.
        here: Working directory of the command, from which the run's paths start.
    """

    def __init__(self, run: Run, split: str, chosen: Plan, watch: Watch, here: str) -> None:
        import ray

        self._watch = watch
        task: Any = ray.remote(max_retries=TRIES)(execute_run)
        self._task = task.options(
            num_cpus=chosen.cpus_each, num_gpus=chosen.actor_gpus or None
        ).remote(run.name, run.config, split, chosen.threads, here)

    def ended(self) -> bool:
        """Return whether the task has ended."""
        import ray

        self._watch.look()
        return bool(ray.wait([self._task], timeout=0)[0])

    def problem(self) -> str | None:
        """Return the error of the run in one line; None if it succeeded."""
        import ray

        try:
            problem: str | None = ray.get(self._task)
        except ray.exceptions.RayError as error:
            return in_one_line(error)
        return problem

    def stop(self) -> None:
        """End the run's process with its task."""
        import ray

        ray.cancel(self._task, force=True)


def execute_run(name: str, config: Any, split: str, threads: int, here: str) -> str | None:
    """Execute a run in a process of its own, which ends with this task's.

    Returns:
        The error in one line; None if the run succeeded.
    """
    os.chdir(here)
    run = Run(name, config.seed, config)
    job = InItsOwnProcess(run, split, threads)
    while not job.ended():
        time.sleep(POLL_SECONDS)
    return job.problem()

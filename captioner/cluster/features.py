"""`captioner prepare --engine ray`: each task fills one share of the feature store.

The store is in a folder that all machines see. Each task writes rows and lines of its share into
files of its own there, as `captioner prepare --share I/N` does, and training reads the parts as one
store: no feature travels through the command. A task whose machine is lost is repeated and computes
what is missing.
"""

import contextlib
import io
import os
from pathlib import Path
from typing import Any

from captioner.cluster.connect import check_machines, connected, in_one_line
from captioner.cluster.resources import Plan, nodes_of_cluster, plan
from captioner.cluster.room import Watch, wait_for_room
from captioner.config.schema import Config
from captioner.console import Progress, say
from captioner.errors import CaptionerError

TRIES = 3
"""How often a share is begun again after its process died."""


def prepare_on_cluster(config: Config, address: str | None, shares: int | None) -> None:
    """Compute the features of a data set on a cluster.

    Args:
        config: Configuration with the data set and the encoder.
        address: Address of the cluster.
        shares: Number of tasks; None for one per GPU, or one per CPU where there is none. A rerun
            may use another number.

    Raises:
        CaptionerError: The cluster, the data set or the store does not allow it.
    """
    here = Path.cwd()
    with connected(address):
        nodes = nodes_of_cluster()
        chosen = plan(nodes, shares, config.trainer.accelerator)
        check_machines(nodes, [str(here), str(here / config.data.root)])
        wait_for_room(chosen)
        _fill(config, chosen, here)


def _fill(config: Config, chosen: Plan, here: Path) -> None:
    import ray

    task: Any = ray.remote(max_retries=TRIES)(fill_share)
    task = task.options(num_cpus=chosen.cpus_each, num_gpus=chosen.actor_gpus or None)
    parts = chosen.actors
    waiting = {
        task.remote(config, part, parts, chosen.threads, str(here)): part
        for part in range(1, parts + 1)
    }
    watch = Watch(chosen)
    with Progress("shares", parts) as progress:
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=5.0)
            watch.look()
            for one in done:
                part = waiting.pop(one)
                try:
                    told = ray.get(one)
                except ray.exceptions.RayError as error:
                    raise CaptionerError(
                        f"share {part} of {parts}: {in_one_line(error)}; rerun the same command "
                        "to resume"
                    ) from error
                for line in told:
                    say(f"share {part} of {parts}: {line}")
                progress.update()


def fill_share(config: Config, part: int, parts: int, threads: int, here: str) -> list[str]:
    """Fill one share, in a task; return the messages.

    Args:
        config: Configuration; relative paths start at `here`.
        part: Number of the share, from 1.
        parts: Number of shares.
        threads: CPU threads.
        here: Working directory of the command.
    """
    import torch

    from captioner.features.prepare import prepare

    os.chdir(here)
    torch.set_num_threads(threads)
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        prepare(config, (part, parts))
    return [line for line in told.getvalue().splitlines() if line.startswith(_SAID)]


_SAID = ("vocabulary:", "features:", "skipped")
"""Messages of a share that differ from those of the others."""

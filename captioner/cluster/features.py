"""`captioner prepare --engine ray`: each task fills one share of the feature store.

The store is in a folder that all machines see. Each task writes rows and lines of its share into
files of its own there, as `captioner prepare --share I/N` does, and training reads the parts as one
store: no feature travels through the command. A task whose machine is lost is repeated and computes
what is missing. A photo that kills its process each time is left out like an unreadable one.
"""

import contextlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captioner.cluster.connect import check_machines, connected, in_one_line
from captioner.cluster.resources import Plan, nodes_of_cluster, plan
from captioner.cluster.room import Watch, wait_for_room
from captioner.config.schema import Config
from captioner.console import Progress, say
from captioner.errors import CaptionerError, UsageError

TRIES = 4
"""How often a share is begun whose process dies before its first batch."""


def prepare_on_cluster(
    config: Config, address: str | None, shares: int | None, *, tables: bool = False
) -> None:
    """Compute the features of a data set on a cluster.

    Args:
        config: Configuration with the data set and the encoder.
        address: Address of the cluster.
        shares: Number of tasks; None for one per GPU, or one per CPU where there is none. A rerun
            may use another number.
        tables: Whether to write the features as Parquet files too.

    Raises:
        UsageError: No features are computed that could be written as Parquet.
        CaptionerError: The cluster, the data set or the store does not allow it.
    """
    if tables and (config.encoder.train_from is not None or config.data.regions is not None):
        why = "encoder.train_from" if config.data.regions is None else "data.regions"
        raise UsageError(f"--features-format parquet: no features are computed with {why}")
    here = Path.cwd()
    with connected(address):
        # They import Ray, which reads its environment then.
        from captioner.cluster.feature_tables import write_tables
        from captioner.cluster.ledger import start_ledger

        nodes = nodes_of_cluster()
        chosen = plan(nodes, shares, config.trainer.accelerator)
        check_machines(nodes, [str(here), str(here / config.data.root)])
        wait_for_room(chosen)
        ledger = start_ledger()
        _in_shares(fill_share, config, chosen, here, ledger)
        if tables:
            _in_shares(write_tables, config, chosen, here, ledger)


def _in_shares(do: Any, config: Config, chosen: Plan, here: Path, *more: Any) -> None:
    """Run a function in a task for each share, and show its messages."""
    import ray

    # Ray repeats without end a task whose process dies; the ledger limits how often.
    task: Any = ray.remote(max_retries=-1)(do)
    task = task.options(num_cpus=chosen.cpus_each, num_gpus=chosen.actor_gpus or None)
    parts = chosen.actors
    waiting = {
        task.remote(config, part, parts, chosen.threads, str(here), *more): part
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


def fill_share(
    config: Config, part: int, parts: int, threads: int, here: str, ledger: Any
) -> list[str]:
    """Fill one share, in a task; return the messages.

    After a death of the task's process, or of one that reads photos for it, each batch is noted in
    the ledger before it is begun, until the photo is found that kills its process.

    Args:
        config: Configuration; relative paths start at `here`.
        part: Number of the share, from 1.
        parts: Number of shares.
        threads: CPU threads.
        here: Working directory of the command.
        ledger: Handle of the ledger.

    Raises:
        CaptionerError: The process has died several times before its first batch.
    """
    import ray
    import torch

    from captioner.cluster.ledger import carefully
    from captioner.features.extract import Computed, ReaderLostError
    from captioner.features.prepare import prepare

    os.chdir(here)
    torch.set_num_threads(threads)
    share, start = f"share {part}".encode(), f"start of share {part}".encode()
    again = ray.get(ledger.begin.remote(share)) > 1
    if ray.get(ledger.begin.remote(start)) > TRIES:
        raise CaptionerError(
            f"its process was killed {TRIES} times before its first batch (not enough memory?)"
        )

    def careful(ids: Sequence[str], do: Any, lost: Any) -> list[Computed]:
        ledger.end.remote(start)
        return carefully(ledger, "features", ids, do, lost)

    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        try:
            prepare(config, (part, parts), careful=careful if again else None)
        except ReaderLostError:
            prepare(config, (part, parts), careful=careful)
    return [line for line in told.getvalue().splitlines() if line.startswith(_SAID)]


_SAID = ("vocabulary:", "features:", "skipped")
"""Messages of a share that differ from those of the others."""

"""Whether a cluster has room for the work, before it begins and while it runs.

Ray waits without end and without a word for CPUs and GPUs that nobody can give. These checks turn
such a wait into an error.
"""

import time

from captioner.cluster.resources import Plan, nodes_of_cluster
from captioner.console import say
from captioner.errors import CaptionerError

WAIT_SECONDS = 30.0
"""How long to wait for CPUs and GPUs that others occupy."""

LOOK_SECONDS = 60.0
"""How often the machines are counted while tasks run."""


def wait_for_room(chosen: Plan, seconds: float = WAIT_SECONDS) -> None:
    """Wait until a part of the work, such as a network and a decoding task, has room on a machine.

    Raises:
        CaptionerError: Others occupy the cluster.
    """
    until = time.monotonic() + seconds
    told = False
    while True:
        free = _free()
        if any(chosen.fits(cpus, gpus) for cpus, gpus in free):
            return
        cpus, gpus = (sum(values) for values in zip(*free, strict=True))
        if time.monotonic() > until:
            raise CaptionerError(
                f"the cluster has {cpus:g} CPUs and {gpus:g} GPUs free; the work needs "
                f"{chosen.cpus_each:g} and {chosen.actor_gpus:g} on one machine; others occupy the "
                "rest (`ray status`)"
            )
        if not told:
            say(f"waiting for the cluster: {cpus:g} CPUs and {gpus:g} GPUs are free")
            told = True
        time.sleep(0.5)


def _free() -> list[tuple[float, float]]:
    """Return the free CPUs and GPUs of each machine, of which there is at least one."""
    # The public `ray.available_resources` adds the machines up.
    from ray._private.state import available_resources_per_node

    free = available_resources_per_node().values()
    return [(one.get("CPU", 0.0), one.get("GPU", 0.0)) for one in free] or [(0.0, 0.0)]


def check_room(chosen: Plan) -> int:
    """Return the number of machines that are left.

    Raises:
        CaptionerError: None of them has room for the work.
    """
    nodes = nodes_of_cluster()
    if not any(chosen.fits(node.cpus, node.gpus) for node in nodes):
        raise CaptionerError(
            f"the cluster has lost its machines ({len(nodes)} left): the work needs "
            f"{chosen.cpus_each:g} CPUs and {chosen.actor_gpus:g} GPUs on one machine"
        )
    return len(nodes)


class Watch:
    """Counts the machines of a cluster now and then while tasks run.

    Args:
        chosen: What a task needs.
    """

    def __init__(self, chosen: Plan) -> None:
        self._chosen = chosen
        self._next = time.monotonic() + LOOK_SECONDS

    def look(self) -> None:
        """Look, if it is time.

        Raises:
            CaptionerError: No machine that is left has room for a task.
        """
        if time.monotonic() > self._next:
            check_room(self._chosen)
            self._next = time.monotonic() + LOOK_SECONDS

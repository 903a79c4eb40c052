"""Whether a cluster has room for the work, before it begins and while it runs.

Ray waits without end and without a word for CPUs and GPUs that nobody can give. These checks turn
such a wait into an error.
"""

import time
from typing import Any

from captioner.cluster.connect import answers, gone
from captioner.cluster.resources import Plan, nodes_of_cluster
from captioner.console import say
from captioner.errors import CaptionerError

WAIT_SECONDS = 30.0
"""How long to wait for CPUs and GPUs that others occupy."""

ASK_SECONDS = 5.0
"""How often the head is asked whether it is there."""

HEAD_SECONDS = 20.0
"""How long the head may be silent. Ray gives up after 60."""

COUNT_SECONDS = 60.0
"""How often the machines are counted."""


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
    """Looks at a cluster now and then while it works.

    Args:
        chosen: What a part of the work needs.
    """

    def __init__(self, chosen: Plan) -> None:
        import ray

        self._chosen = chosen
        self._head = ray.get_runtime_context().gcs_address
        self._answered = self._asked = self._counted = time.monotonic()

    def look(self) -> None:
        """Look, if it is time.

        Raises:
            CaptionerError: The head does not answer any more, after which Ray would end this
                process without a word; or no machine that is left has room for the work.
        """
        now = time.monotonic()
        if now < self._asked + ASK_SECONDS:
            return
        self._asked = now
        if answers(self._head):
            self._answered = now
        elif now > self._answered + HEAD_SECONDS:
            raise CaptionerError(gone(self._head))
        if now == self._answered and now > self._counted + COUNT_SECONDS:
            self._counted = now
            check_room(self._chosen)

    def get(self, asked: Any) -> Any:
        """Return the answer of a task or an actor; without a head, `ray.get` would wait forever.

        Raises:
            CaptionerError: As of `look`.
        """
        import ray

        while not ray.wait([asked], timeout=1.0)[0]:
            self.look()
        return ray.get(asked)

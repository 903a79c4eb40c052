"""How the processors of a cluster are shared between networks and the tasks that decode photos.

Without GPUs, a network of `t` threads takes three quarters of `t` CPUs, and the remaining quarters
decode: the operating system evens out what these shares leave idle. With GPUs, each network takes
one GPU and one CPU, and the other CPUs decode.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from captioner.errors import CaptionerError, UsageError

TASK_SHARE = 0.25
"""CPUs of a decoding task beside networks that run on CPUs."""


@dataclass(frozen=True)
class Node:
    """The resources of one machine.

    Attributes:
        address: Its IP address.
        cpus: Number of CPUs.
        gpus: Number of GPUs.
        id: Ray's id of it.
    """

    address: str
    cpus: float
    gpus: float = 0.0
    id: str = ""


@dataclass(frozen=True)
class Plan:
    """Networks and tasks on a cluster.

    Attributes:
        actors: Number of networks.
        actor_cpus: CPUs of a network, for Ray's accounts.
        actor_gpus: GPUs of a network.
        threads: Threads of a network.
        tasks: Decoding tasks at the same time.
        task_cpus: CPUs of a decoding task.
    """

    actors: int
    actor_cpus: float
    actor_gpus: float
    threads: int
    tasks: int
    task_cpus: float

    @property
    def cpus_each(self) -> float:
        """CPUs of a network and a task that decodes for it."""
        return self.actor_cpus + self.task_cpus

    def fits(self, cpus: float, gpus: float) -> bool:
        """Return whether a network and a task have room in so many CPUs and GPUs of a machine."""
        return cpus >= self.cpus_each and gpus >= self.actor_gpus


def plan(
    nodes: Sequence[Node],
    actors: int | None = None,
    device: str = "auto",
    flag: str = "--actors",
) -> Plan:
    """Divide a cluster.

    Args:
        nodes: Its machines.
        actors: Number of networks; None for one per GPU, or one per CPU where there is none.
        device: Device of the networks; `cpu` leaves GPUs alone.
        flag: Name of the flag or argument that gives the number of networks.

    Raises:
        UsageError: The number of networks exceeds what the cluster has.
        CaptionerError: The cluster has no CPU, or no GPU for a device that needs one.

    Example:
        >>> plan([Node("10.0.0.1", cpus=8, gpus=2)])
        Plan(actors=2, actor_cpus=1.0, actor_gpus=1.0, threads=1, tasks=6, task_cpus=1.0)
        >>> plan([Node("10.0.0.1", cpus=4), Node("10.0.0.2", cpus=4)], actors=2)
        Plan(actors=2, actor_cpus=3.0, actor_gpus=0.0, threads=4, tasks=8, task_cpus=0.25)
    """
    cpus, gpus = int(sum(node.cpus for node in nodes)), int(sum(node.gpus for node in nodes))
    if cpus < 1:
        raise CaptionerError("the cluster offers no CPU; photos are decoded on at least one")
    wants_gpu = device.startswith(("cuda", "gpu"))
    if wants_gpu and gpus < 1:
        raise CaptionerError(f"device {device}: the cluster offers no GPU ({cpus} CPUs)")
    if gpus and not device.startswith("cpu"):
        return _on_gpus(nodes, gpus, actors, flag)
    most = sum(int(node.cpus) for node in nodes)
    if most < 1:
        raise CaptionerError("no machine of the cluster offers a whole CPU, which a network needs")
    if actors is not None and actors > most:
        raise UsageError(f"{flag} {actors}: at most {most} on this cluster ({cpus} CPUs)")
    chosen = actors or most
    threads = max(
        t
        for t in range(1, int(max(node.cpus for node in nodes)) + 1)
        if t == 1 or sum(int(node.cpus // t) for node in nodes) >= chosen
    )
    return Plan(chosen, (1 - TASK_SHARE) * threads, 0.0, threads, cpus, TASK_SHARE)


def _on_gpus(nodes: Sequence[Node], gpus: int, actors: int | None, flag: str) -> Plan:
    if actors is not None and actors > gpus:
        raise UsageError(f"{flag} {actors}: at most {gpus} on this cluster ({gpus} GPUs)")
    chosen = actors or gpus
    if all(node.cpus >= 2 * node.gpus for node in nodes):
        left = int(sum(node.cpus for node in nodes)) - chosen
        return Plan(chosen, 1.0, 1.0, 1, max(1, left), 1.0)
    # Few CPUs: networks take none, for otherwise they could hold all of them and nothing decodes.
    return Plan(chosen, 0.0, 1.0, 1, int(sum(node.cpus for node in nodes)), TASK_SHARE)


def nodes_of_cluster() -> list[Node]:
    """Return the live machines of the connected cluster that offer CPUs or GPUs."""
    import ray

    return [
        Node(
            one["NodeManagerAddress"],
            one["Resources"].get("CPU", 0.0),
            one["Resources"].get("GPU", 0.0),
            one["NodeID"],
        )
        for one in ray.nodes()
        if one["Alive"] and (one["Resources"].get("CPU") or one["Resources"].get("GPU"))
    ]

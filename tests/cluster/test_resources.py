"""How a cluster is divided between networks and decoding."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from captioner.cluster.resources import Node, plan
from captioner.errors import CaptionerError, UsageError

machines = st.lists(
    st.builds(Node, st.just("10.0.0.1"), st.integers(1, 64).map(float)), min_size=1, max_size=6
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(machines, st.integers(1, 8))
def test_networks_and_decoding_fit_on_cpus(nodes: list[Node], wanted: int) -> None:
    most = int(sum(node.cpus for node in nodes))
    chosen = plan(nodes, min(wanted, most))
    places = sum(int(node.cpus // chosen.threads) for node in nodes)
    assert places >= chosen.actors
    assert chosen.actors * chosen.actor_cpus + chosen.tasks * chosen.task_cpus <= most
    assert chosen.actor_gpus == 0


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(machines, st.integers(1, 8))
def test_one_network_for_each_gpu_leaves_cpus_to_decode(nodes: list[Node], gpus: int) -> None:
    nodes = [Node(one.address, one.cpus, float(gpus)) for one in nodes]
    chosen = plan(nodes)
    assert chosen.actors == gpus * len(nodes)
    used = chosen.actors * chosen.actor_cpus + chosen.tasks * chosen.task_cpus
    assert used <= sum(one.cpus for one in nodes)
    assert chosen.tasks >= 1
    for one in nodes:  # a machine full of networks still decodes
        assert one.gpus * chosen.actor_cpus + chosen.task_cpus <= one.cpus


def test_gpus_are_left_alone_where_the_device_is_cpu() -> None:
    assert plan([Node("10.0.0.1", 4.0, 2.0)], device="cpu").actor_gpus == 0


@pytest.mark.parametrize(
    ("nodes", "actors", "device", "kind", "told"),
    [
        ([Node("a", 2.0)], 3, "auto", UsageError, "--actors 3: at most 2 on this cluster (2 CPUs)"),
        ([Node("a", 8.0, 2.0)], 3, "auto", UsageError, "at most 2 on this cluster (2 GPUs)"),
        ([Node("a", 2.0)], None, "cuda", CaptionerError, "the cluster offers no GPU (2 CPUs)"),
        ([Node("a", 0.0, 1.0)], None, "auto", CaptionerError, "the cluster offers no CPU"),
        ([Node("a", 0.5), Node("b", 0.5)], None, "auto", CaptionerError, "no machine"),
        ([], None, "auto", CaptionerError, "the cluster offers no CPU"),
    ],
)
def test_too_few_resources_are_refused(nodes, actors, device, kind, told) -> None:
    with pytest.raises(kind) as error:
        plan(nodes, actors, device)
    assert told in str(error.value)

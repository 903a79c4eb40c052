"""Waits that nobody can end become errors; without Ray."""

import pytest

from captioner.cluster import room
from captioner.cluster.resources import Node, Plan
from captioner.cluster.room import Watch, check_room, wait_for_room
from captioner.errors import CaptionerError

WHOLE = Plan(2, 0.75, 0.0, 1, 2, 0.25)
"""Networks of one CPU, shared with a decoding task."""


def test_room_must_be_on_one_machine(monkeypatch) -> None:
    monkeypatch.setattr(room, "_free", lambda: [(0.5, 0.0), (0.75, 0.0)])
    with pytest.raises(CaptionerError) as error:
        wait_for_room(WHOLE, seconds=0.0)
    assert "has 1.25 CPUs and 0 GPUs free; the work needs 1 and 0 on one machine" in str(
        error.value
    )


def test_room_is_waited_for(monkeypatch, capsys) -> None:
    answers = iter([[(0.0, 0.0)], [(0.5, 0.0)], [(0.0, 0.0), (1.0, 0.0)]])
    monkeypatch.setattr(room, "_free", lambda: next(answers))
    monkeypatch.setattr(room.time, "sleep", lambda seconds: None)
    wait_for_room(WHOLE)
    assert capsys.readouterr().err.count("waiting for the cluster") == 1


@pytest.mark.parametrize(
    ("left", "chosen", "fits"),
    [
        ([Node("a", 1.0)], WHOLE, True),
        ([Node("a", 0.5), Node("b", 0.5)], WHOLE, False),
        ([], WHOLE, False),
        ([Node("a", 64.0)], Plan(1, 1.0, 1.0, 1, 1, 1.0), False),
        ([Node("a", 2.0, 1.0)], Plan(1, 1.0, 1.0, 1, 1, 1.0), True),
    ],
)
def test_machines_that_are_left(left, chosen, fits, monkeypatch) -> None:
    monkeypatch.setattr(room, "nodes_of_cluster", lambda: left)
    monkeypatch.setattr(room, "LOOK_SECONDS", -1.0)
    if fits:
        assert check_room(chosen) == len(left)
        Watch(chosen).look()
        return
    with pytest.raises(CaptionerError, match=f"lost its machines \\({len(left)} left\\)"):
        Watch(chosen).look()


def test_machines_are_counted_now_and_then(monkeypatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(room, "nodes_of_cluster", lambda: asked.append(1) or [Node("a", 1.0)])
    watch = Watch(WHOLE)
    for _ in range(100):
        watch.look()
    assert not asked

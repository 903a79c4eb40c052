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
    if fits:
        assert check_room(chosen) == len(left)
        return
    with pytest.raises(CaptionerError, match=f"lost its machines \\({len(left)} left\\)"):
        check_room(chosen)


class Clock:
    """Time that passes when the test says so, and a head that answers or does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.now = 0.0
        self.there = True
        self.counted = 0
        context = type("Context", (), {"gcs_address": "10.0.0.1:6379"})
        monkeypatch.setattr("ray.get_runtime_context", context)
        monkeypatch.setattr(room.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(room, "answers", lambda address: self.there)
        monkeypatch.setattr(room, "check_room", self._count)
        self.watch = Watch(WHOLE)

    def _count(self, chosen: Plan) -> None:
        self.counted += 1

    def answers_after(self, seconds: int) -> None:
        """Let Ray answer what it is asked after so many seconds."""

        def wait(asked: list[str], timeout: float) -> tuple[list[str], list[str]]:
            self.now = min(self.now + timeout, float(seconds))
            return (asked, []) if self.now >= seconds else ([], asked)

        self._patch.setattr("ray.wait", wait)
        self._patch.setattr("ray.get", lambda asked: f"the answer to {asked}")

    def passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            self.watch.look()


def test_machines_are_counted_now_and_then(monkeypatch) -> None:
    clock = Clock(monkeypatch)
    clock.passes(50)
    assert clock.counted == 0
    clock.passes(100)
    assert clock.counted == 2


def test_a_head_that_is_gone_is_an_error_before_ray_ends_the_process(monkeypatch) -> None:
    clock = Clock(monkeypatch)
    clock.passes(30)
    clock.there = False
    clock.passes(15)  # a moment's silence
    clock.there = True
    clock.passes(10)
    clock.there = False
    with pytest.raises(CaptionerError, match=r"head of the cluster \(10.0.0.1:6379\) does not"):
        clock.passes(40)
    assert clock.now < 30 + 15 + 10 + 40
    assert clock.counted == 0  # nobody is asked about the machines


def test_an_answer_is_waited_for_while_the_head_is_there(monkeypatch) -> None:
    clock = Clock(monkeypatch)
    clock.answers_after(30)
    assert clock.watch.get("asked") == "the answer to asked"
    assert clock.now == 30.0


def test_an_answer_that_cannot_come_is_an_error(monkeypatch) -> None:
    clock = Clock(monkeypatch)
    clock.answers_after(1000)
    clock.there = False
    with pytest.raises(CaptionerError, match="does not answer any more"):
        clock.watch.get("asked")
    assert clock.now < 40

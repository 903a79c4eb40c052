"""Work that kills its process is repeated a bounded number of times, and its photo is found."""

from collections.abc import Sequence

import pytest

from captioner.cluster import ledger
from captioner.cluster.ledger import TRIES, Ledger, carefully


class Handle:
    """Calls of a ledger in this process, as of an actor."""

    def __init__(self) -> None:
        self.own = Ledger()

    def __getattr__(self, name: str):
        return type("Method", (), {"remote": staticmethod(getattr(self.own, name))})


class KilledError(Exception):
    """The process has died."""


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch) -> None:
    monkeypatch.setattr(ledger.ray, "get", lambda value: value)


def repeated(handle: Handle, ids: Sequence[str], poison: set[str]) -> tuple[list[str], int]:
    """As Ray does it: the same call again after each death; the result and the deaths."""

    def do(places: Sequence[int]) -> list[str]:
        if poison & {ids[place] for place in places}:
            raise KilledError
        return [f"caption of {ids[place]}" for place in places]

    for deaths in range(100):
        try:
            return carefully(handle, "decode", ids, do, lambda place: "lost"), deaths
        except KilledError:
            continue
    raise AssertionError("tried for ever")


@pytest.mark.parametrize("poison", [set(), {"b"}, {"a", "d"}, {"a", "b", "c", "d"}])
def test_poison_is_lost_and_the_others_are_not(poison: set[str]) -> None:
    ids = ["a", "b", "c", "d"]
    found, deaths = repeated(Handle(), ids, poison)
    assert found == ["lost" if one in poison else f"caption of {one}" for one in ids]
    assert deaths == (TRIES + TRIES * len(poison) if poison else 0)


def test_a_lost_machine_is_no_photos_fault() -> None:
    handle = Handle()
    ids = ["a", "b"]
    assert handle.own.begin(ledger._key("decode", ids)) == 1  # and then its machine is lost
    assert repeated(handle, ids, set()) == (["caption of a", "caption of b"], 0)
    assert handle.own.account().repeated == 1


def test_what_is_done_is_forgotten() -> None:
    handle = Handle()
    repeated(handle, ["a", "b"], set())
    repeated(handle, ["c"], {"c"})
    assert len(handle.own._begun) == 1  # the photo that is lost stays lost


def test_no_work_asks_nobody() -> None:
    assert carefully(None, "decode", [], lambda places: [], lambda place: None) == []

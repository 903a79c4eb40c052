"""Ids: spelled as UTF-8, known in little memory."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from captioner.cluster import names

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(texts), st.lists(texts))
def test_seen_is_a_set(known: list[str], more: list[str]) -> None:
    seen = names.Seen(np.sort(names.digests(known)))
    met = set(known)
    for one in (more[: len(more) // 2], more[len(more) // 2 :]):
        expected = []
        for name in one:
            expected.append(name not in met)
            met.add(name)
        assert seen.new(one) == expected


@pytest.mark.parametrize("limit", [1, 3])
def test_recent_names_move_into_the_array(limit, monkeypatch) -> None:
    monkeypatch.setattr(names, "_UNSORTED", limit)
    seen = names.Seen()
    every = [f"{i % 7}" for i in range(20)]
    assert sum(seen.new([name])[0] for name in every) == 7


def test_any_file_name_has_an_id() -> None:
    name = b"caf\xe9.jpg".decode(errors="surrogateescape")
    assert names.spelled(name) == r"caf\udce9.jpg"
    assert names.spelled("café.jpg") == "café.jpg"

"""Splits by the hash of a photo's name."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.datasets.division import divide, parse_shares, split_of
from captioner.datasets.records import SPLITS, UNDIVIDED, Loaded, Record
from captioner.errors import UsageError


def undivided(count: int) -> Loaded:
    return Loaded(
        [Record(f"{n}.jpg", Path(f"{n}.jpg"), ("a dog",), UNDIVIDED) for n in range(count)]
    )


def test_shares_are_met_and_photos_stay_when_others_are_added() -> None:
    shares = parse_shares("80/10/10")
    many = {record.image_id: record.split for record in divide(undivided(5000), shares).records}
    counts = Counter(many.values())
    assert abs(counts["train"] - 4000) < 100
    assert abs(counts["val"] - 500) < 80
    fewer = divide(undivided(4000), shares).records
    assert all(many[record.image_id] == record.split for record in fewer)
    other = divide(undivided(5000), shares, seed=1).records
    assert any(many[record.image_id] != record.split for record in other)


@given(st.text(), st.integers(0, 5))
def test_a_name_has_one_split_in_any_unicode_form(name: str, seed: int) -> None:
    shares = (0.5, 0.3, 0.2)
    from unicodedata import normalize

    found = {split_of(normalize(form, name), shares, seed) for form in ("NFC", "NFD")}
    assert len(found) == 1
    assert found <= set(SPLITS)


@pytest.mark.parametrize("count", range(3, 12))
def test_no_split_of_a_small_set_is_empty(count: int) -> None:
    for seed in range(20):
        loaded = divide(undivided(count), parse_shares("80/10/10"), seed)
        assert {record.split for record in loaded.records} == set(SPLITS)
    assert loaded.notes[0].startswith(f"{count} photos without a split divided by their names")


@pytest.mark.parametrize("text", ["", "80", "80/x/10", "0/50/50", "-1/2/3", "nan/1/1", "1/2/3/4"])
def test_bad_shares(text: str) -> None:
    with pytest.raises(UsageError, match=r"data\.split: .* expected shares"):
        parse_shares(text)

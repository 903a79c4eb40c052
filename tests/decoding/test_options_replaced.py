"""Options that follow others when these are replaced."""

from captioner.decoding.options import SearchOptions


def test_the_minimum_length_falls_to_the_maximum() -> None:
    default = SearchOptions(min_length=4, max_length=20)
    assert default.replaced(max_length=3).min_length == 3
    assert default.replaced(max_length=9).min_length == 4
    assert default.replaced(max_length=9, min_length=0).min_length == 0

"""The demo's settings: what a query may ask for, and that it becomes flags of the command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.commands.caption import build_parser
from captioner.errors import UsageError
from captioner.pages.demo_settings import LIMITS, LONGEST_PHRASE, MOST_PHRASES, flags_of


def test_settings_become_flags() -> None:
    query = [("sample", "4"), ("top_p", "0.9"), ("seed", "7"), ("ban", "a man"), ("ban", "dog")]
    flags = flags_of(query)
    assert flags == ("--sample=4", "--top-p=0.9", "--seed=7", "--ban=a man", "--ban=dog")
    options = build_parser().parse_args(["x.jpg", *flags])
    assert (options.sample, options.top_p, options.seed) == (4, 0.9, 7)
    assert options.ban == ["a man", "dog"]


def test_a_phrase_that_looks_like_a_flag_stays_a_phrase() -> None:
    (flag,) = flags_of([("require", "--checkpoint=/etc/passwd")])
    options = build_parser().parse_args(["x.jpg", flag])
    assert options.require == ["--checkpoint=/etc/passwd"]
    assert options.checkpoint is None


def test_empty_values_are_not_given() -> None:
    assert flags_of([("beam_size", ""), ("require", " "), ("length_norm", "")]) == ()


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ([("beam_size", "21")], "beam_size: '21' is not a whole number from 1 to 20"),
        ([("beam_size", "2.5")], "beam_size: '2.5' is not a whole number from 1 to 20"),
        ([("beam_size", "٣x")], "beam_size: '٣x' is not a whole number from 1 to 20"),
        ([("temperature", "nan")], "temperature: 'nan' is not a number from 0.05 to 5.0"),
        ([("seed", "-1")], "seed: '-1' is not a whole number from 0 to 2,147,483,647"),
        ([("beam_size", "2"), ("beam_size", "3")], "beam_size: given twice"),
        ([("ban", "x")] * 11, "ban: given more than 10 times"),
        ([("ban", "x" * 61)], "ban: a phrase has 61 characters; at most 60 are allowed"),
        ([("beam", "3")], "unknown setting 'beam'; did you mean beam_size?"),
        ([("checkpoint", "/tmp/a")], "unknown setting 'checkpoint'; choose one of beam_size"),
        (
            [("length_norm", "long")],
            "length_norm: unknown 'long'; choose one of none, average, gnmt",
        ),
        ([("beam_size", "9" * 5000)], "beam_size: '999"),
    ],
)
def test_wrong_settings_are_refused_in_words(query: list[tuple[str, str]], reason: str) -> None:
    with pytest.raises(UsageError) as error:
        flags_of(query)
    assert str(error.value).startswith(reason)
    assert len(str(error.value)) < 300


NAMES = st.sampled_from([*LIMITS, "ban", "require", "x"])
PARSER = build_parser()


@given(st.lists(st.tuples(NAMES, st.text() | st.integers(0, 60).map(str)), max_size=6))
def test_any_query_gives_flags_within_the_limits_or_a_reason(query: list[tuple[str, str]]) -> None:
    try:
        flags = flags_of(query)
    except UsageError:
        return
    options = PARSER.parse_args(["x.jpg", *flags])
    for name, limit in LIMITS.items():
        value = getattr(options, name)
        assert value is None or limit.least <= value <= limit.most
    for phrases in (options.ban or [], options.require or []):
        assert len(phrases) <= MOST_PHRASES
        assert all(0 < len(phrase) <= LONGEST_PHRASE for phrase in phrases)

"""Words used more or less often than people do, against the formula written out."""

from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.evaluation.comparison import Outcome, count_wins
from captioner.evaluation.word_use import word_use

TEXTS = st.lists(st.lists(st.sampled_from("abcdef"), max_size=6), min_size=1, max_size=12)


def test_ranks_words_by_evidence() -> None:
    captions = [["a", "dog", "runs"]] * 30
    references = [["a", "dog"], ["a", "cat", "runs"], ["a", "bird"]] * 10
    found = {use.word: use for use in word_use(captions, references)}
    assert list(found)[:2] == ["runs", "dog"] or list(found)[:2] == ["dog", "runs"]
    assert found["dog"].captions == 1
    assert found["dog"].references == pytest.approx(1 / 3)
    assert found["a"].evidence == 0
    assert found["cat"].evidence < 0
    assert word_use([], references) == word_use(captions, []) == []


def test_rare_words_are_weak_evidence() -> None:
    captions = [["once"], *[["often"]] * 50, *[["x"]] * 49]
    references = [*[["often"]] * 25, *[["x"]] * 75]
    found = {use.word: use.evidence for use in word_use(captions, references)}
    assert found["often"] > found["once"] > 0


@given(TEXTS, TEXTS)
def test_evidence_is_the_log_likelihood_ratio(
    captions: list[list[str]], references: list[list[str]]
) -> None:
    uses = word_use(captions, references)
    assert [use.evidence for use in uses] == sorted((u.evidence for u in uses), reverse=True)
    assert {use.word for use in uses} == {word for text in captions + references for word in text}
    for use in uses:
        counts = [sum(use.word in text for text in side) for side in (captions, references)]
        totals = [len(captions), len(references)]
        both = sum(counts) / sum(totals)
        expected = 0.0
        for count, total in zip(counts, totals, strict=True):
            for observed, share in ((count, both), (total - count, 1 - both)):
                if observed:
                    expected += 2 * observed * log(observed / (total * share))
        assert abs(use.evidence) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10))))
def test_wins_ties_and_losses_add_up(scores: list[tuple[float, float]]) -> None:
    first, second = [a for a, _ in scores], [b for _, b in scores]
    found = count_wins(first, second)
    assert found.first + found.ties + found.second == len(scores)
    assert count_wins(second, first) == Outcome(found.second, found.ties, found.first)
    assert count_wins(first, first) == Outcome(0, len(first), 0)

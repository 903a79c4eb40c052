import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.metrics.rouge import rouge_l

words = st.lists(st.sampled_from("abcd"), min_size=1, max_size=90)


def common_subsequence(first: list[str], second: list[str]) -> int:
    """Compute the LCS with the textbook's table."""
    row = [0] * (len(second) + 1)
    for one in first:
        previous = row
        row = [0]
        for at, other in enumerate(second):
            row.append(previous[at] + 1 if one == other else max(row[at], previous[at + 1]))
    return row[-1]


@settings(deadline=None)
@given(words, st.lists(words, min_size=1, max_size=3))
def test_rouge_l_equals_the_tables(candidate, references):
    common = [common_subsequence(candidate, reference) for reference in references]
    precision = max(common) / len(candidate)
    recall = max(n / len(group) for n, group in zip(common, references, strict=True))
    expected = 0.0
    if precision and recall:
        expected = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    assert rouge_l([candidate], [references])[0] == pytest.approx(expected, abs=1e-12)


def test_by_hand():
    # Lin 2004: L = 3 of 4 and 4 words; P = R = 3/4 gives F = 3/4 whatever beta.
    candidate, reference = (
        ["police", "kill", "the", "gunman"],
        ["police", "killed", "the", "gunman"],
    )
    assert rouge_l([candidate], [[reference]]) == pytest.approx([0.75])


def test_precision_and_recall_may_come_from_different_references():
    references = [["a", "b", "c", "d"], ["a"]]
    # P = 2/2 with the first reference, R = 1/1 with the second.
    assert rouge_l([["a", "b"]], [references]) == pytest.approx([1.0])


def test_no_words_count_as_one_empty_word():
    assert rouge_l([[], [], ["a"]], [[[]], [["a"]], [[]]]).tolist() == [1.0, 0.0, 0.0]

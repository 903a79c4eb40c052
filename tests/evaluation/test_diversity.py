import numpy as np
import pytest

from captioner.errors import CaptionerError
from captioner.evaluation.diversity import describe, mean_self_cider, repeats_itself
from captioner.metrics.cider import DocumentFrequencies


def test_description_by_hand():
    found = describe(
        ["A dog runs.", "a dog runs", "a kite in the"],
        training=["A DOG RUNS!", "a cat"],
        vocabulary={"a", "dog", "runs", "kite", "in", "the", "cat", "on"},
    )
    assert found.n_captions == 3
    assert found.mean_length == pytest.approx(10 / 3)
    assert found.distinct_1 == pytest.approx(6 / 10)
    assert found.distinct_2 == pytest.approx(5 / 7)
    assert found.words_used == 6
    assert found.vocabulary_used == pytest.approx(6 / 8)
    assert found.distinct_captions == pytest.approx(2 / 3)
    assert found.seen == pytest.approx(2 / 3)
    assert found.novel == pytest.approx(1 / 3)
    assert found.bad_endings == pytest.approx(1 / 3)
    assert found.repetitions == 0


def test_what_is_not_given_is_not_told():
    found = describe(["", "a dog"])
    assert found.seen is found.novel is found.vocabulary_used is None
    assert found.mean_length == 1
    with pytest.raises(CaptionerError, match="no captions to describe"):
        describe([])


@pytest.mark.parametrize(
    ("caption", "repeats"),
    [
        ("a a dog", True),
        ("a man and a man and a dog", True),
        ("a red dog on a red dog on a hill", True),
        ("a dog and a cat and a dog", False),
        ("", False),
    ],
)
def test_repetition(caption, repeats):
    assert repeats_itself(caption.split()) is repeats


def test_self_cider_from_alike_to_all_different():
    alike = ["a dog runs on grass"] * 3
    different = ["red kite in sky", "two men eat lunch", "old train at station"]
    assert mean_self_cider({1: alike, 2: alike}) == pytest.approx(0, abs=1e-6)
    assert mean_self_cider({1: different, 2: alike}) == pytest.approx(0.5, abs=1e-6)


def test_self_cider_of_two_follows_from_their_similarity():
    # Two captions with similarity s: the eigenvalues are 1 + s and 1 - s.
    first, second = "a b c d", "a b c e"
    frequencies = DocumentFrequencies.of([[first.split()], [second.split()], [["x"]], [["y"]]])
    once, both = np.log(4), np.log(4 / 2)
    s = np.mean(
        [
            3 * both**2 / (3 * both**2 + once**2),
            2 * both**2 / (2 * both**2 + once**2),
            both**2 / (both**2 + once**2),
            0,
        ]
    )
    roots = np.sqrt([1 + s, 1 - s])
    expected = -np.log2(roots[0] / roots.sum())
    assert mean_self_cider({1: [first, second]}, frequencies) == pytest.approx(expected)


def test_self_cider_needs_two_captions():
    with pytest.raises(CaptionerError, match="1 of 2 images have fewer than two"):
        mean_self_cider({1: ["a", "b"], 2: ["a"]})

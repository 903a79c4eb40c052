import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.errors import UsageError
from captioner.evaluation.scores import score
from captioner.metrics.bleu import (
    SMOOTHINGS,
    bleu_from_statistics,
    bleu_statistics,
    smoothed_bleu,
)
from captioner.metrics.ngrams import NgramIndex

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from nltk.translate.bleu_score import corpus_bleu

words = st.lists(st.sampled_from("abcde"), min_size=4, max_size=12)
corpora = st.lists(
    st.tuples(words, st.lists(words, min_size=1, max_size=4)), min_size=1, max_size=6
)


def statistics(candidates, references):
    index, counts = NgramIndex.of([tokens for group in references for tokens in group])
    image_of = np.repeat(np.arange(len(references)), [len(group) for group in references])
    most = [one.most_in_group(image_of) for one in counts]
    return bleu_statistics(candidates, references, index.count(candidates), most)


@settings(deadline=None, max_examples=50)
@given(corpora)
def test_corpus_bleu_equals_nltks(corpus):
    candidates, references = [one for one, _ in corpus], [group for _, group in corpus]
    found = bleu_from_statistics(statistics(candidates, references).sum(axis=0))
    for order in range(1, 5):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nltk warns where no n-gram matches
            expected = corpus_bleu(references, candidates, weights=[1 / order] * order)
        # Without a match, nltk returns 0 and the official tool a tiny value.
        assert found[order - 1] == pytest.approx(expected, rel=1e-7, abs=2e-4)


def test_statistics_by_hand():
    # Papineni et al. 2002, example 2: "the" counts as often as one reference has it.
    candidate = ["the", "the", "the", "the", "the", "the", "the"]
    references = [
        ["the", "cat", "is", "on", "the", "mat"],
        ["there", "is", "a", "cat", "on", "the", "mat"],
    ]
    [found] = statistics([candidate], [references])
    assert found.tolist() == [2, 0, 0, 0, 7, 6, 5, 4, 7, 7]


def test_of_two_equally_close_lengths_the_shorter_counts():
    [found] = statistics([["a"] * 5], [[["a"] * 6, ["a"] * 4, ["a"] * 9]])
    assert found[-1] == 4


def test_brevity_penalty():
    [found] = statistics([["a"] * 5], [[["a"] * 10]])
    assert bleu_from_statistics(found)[0] == pytest.approx(np.exp(1 - 10 / 5), rel=1e-6)


def test_empty_candidate_and_empty_references():
    found = statistics([[], ["a"], []], [[["a", "b"]], [[]], [[]]])
    assert found[:, :4].sum() == 0
    scores = bleu_from_statistics(found)
    assert np.isfinite(scores).all()
    assert (scores[0] == 0).all()


def test_short_candidate_has_tiny_scores():
    [found] = bleu_from_statistics(statistics([["a", "b"]], [[["a", "b"]]]))
    # 1e-15 / 1e-9 for each missing order.
    np.testing.assert_allclose(found, [1, 1, 1e-6 ** (1 / 3), 1e-12 ** (1 / 4)], rtol=1e-6)


@pytest.mark.parametrize("method", SMOOTHINGS)
def test_smoothed_bleu_per_image_equals_nltks(method: int) -> None:
    """It equals BLEU for perfect captions and lies between 0 and 1 for others."""
    whole = [["a", "dog", "runs", "on", "grass"], ["two", "cats", "sleep", "here"]]
    same = smoothed_bleu(whole, [[caption] for caption in whole], method)
    assert same == pytest.approx(np.ones((2, 4)))
    some = smoothed_bleu([["a", "dog", "sleeps"], []], [[whole[0]], [whole[1]]], method)
    assert np.all(some[0] > 0)
    assert np.all(some <= 1)
    assert np.all(some[1] == 0)
    plain = score({1: "a dog sleeps"}, {1: ["a dog runs on grass"]}, metrics=["BLEU"])
    smooth = score(
        {1: "a dog sleeps"}, {1: ["a dog runs on grass"]}, metrics=["BLEU"], bleu_smoothing=method
    )
    assert smooth.corpus == plain.corpus
    assert plain.per_image["BLEU-4"][0] < 1e-3 < smooth.per_image["BLEU-4"][0]
    assert f"method {method}" in str(smooth.recipe["bleu_per_image"])


def test_unknown_smoothing_methods_are_refused() -> None:
    with pytest.raises(UsageError, match="BLEU smoothing 6: choose one of 1, 2, 3, 4"):
        smoothed_bleu([["a"]], [[["a"]]], 6)

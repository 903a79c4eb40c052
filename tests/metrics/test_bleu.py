import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.metrics.bleu import bleu_from_statistics, bleu_statistics
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
def test_corpus_bleu_is_nltk_s(corpus):
    candidates, references = [one for one, _ in corpus], [group for _, group in corpus]
    found = bleu_from_statistics(statistics(candidates, references).sum(axis=0))
    for order in range(1, 5):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nltk warns where no n-gram matches
            expected = corpus_bleu(references, candidates, weights=[1 / order] * order)
        # Where nothing matches nltk gives 0, and the official tool's constants something small.
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


def test_of_two_lengths_as_close_the_shorter_counts():
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


def test_short_candidate_has_tiny_scores_not_none():
    [found] = bleu_from_statistics(statistics([["a", "b"]], [[["a", "b"]]]))
    # One unit of 1e-15 over one of 1e-9 for each order that is missing.
    np.testing.assert_allclose(found, [1, 1, 1e-6 ** (1 / 3), 1e-12 ** (1 / 4)], rtol=1e-6)

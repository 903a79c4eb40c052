"""Beam search against brute force, against a slow reference, and against published toy cases."""

import doctest

import pytest
import torch
from exhaustive_search import END, all_captions, ranked, score, slow_beam_search
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import RandomModel

import captioner.decoding.beam_search as module
from captioner.decoding.beam_search import SearchOptions, beam_search

# The Markov model of im2txt's own test (tensorflow/models): word -> next word -> probability.
IM2TXT = {
    0: {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4},
    2: {5: 0.1, 6: 0.9},
    3: {1: 0.1, 7: 0.4, 8: 0.5},
    4: {1: 0.3, 9: 0.3, 10: 0.4},
    5: {1: 1.0},
    6: {1: 1.0},
    7: {1: 1.0},
    8: {1: 1.0},
    9: {1: 0.5, 11: 0.5},
    10: {1: 1.0},
    11: {1: 1.0},
}


def im2txt_step(ids, state):
    matrix = torch.zeros(12, 12)
    for word, following in IM2TXT.items():
        for next_word, probability in following.items():
            matrix[word, next_word] = probability
    return matrix.log()[ids], state


@pytest.mark.parametrize(
    ("beam_size", "expected"),
    [
        (1, {(4, 10): 0.16}),
        (2, {(4, 10): 0.16, (3, 8): 0.15}),
        (3, {(2, 6): 0.18, (4, 10): 0.16, (3, 8): 0.15}),
    ],
)
def test_im2txt_markov_model(beam_size, expected):
    options = SearchOptions(beam_size=beam_size, n_best=beam_size)
    found = beam_search(torch.tensor([0]), None, im2txt_step, 1, options)
    assert [tuple(words) for words in found.captions()[0]] == list(expected)
    assert found.log_probs[0].exp().tolist() == pytest.approx(list(expected.values()))


def test_example_of_the_module_docstring_runs():
    assert doctest.testmod(module).failed == 0


NORMS = st.sampled_from(["none", "average", "gnmt"])


@settings(deadline=None, max_examples=60)
@given(
    vocab_size=st.integers(4, 6),
    max_length=st.integers(4, 5),
    norm=NORMS,
    alpha=st.floats(0, 2),
    reward=st.sampled_from([0.0, -0.5, 0.7]),
    min_length=st.integers(0, 3),
    ends=st.booleans(),
    n_best=st.integers(1, 9),
    seed=st.integers(0, 2**31),
)
def test_full_width_equals_exhaustive_enumeration(
    vocab_size, max_length, norm, alpha, reward, min_length, ends, n_best, seed
):
    if vocab_size == 6:
        max_length = 4
    model = RandomModel(vocab_size, max_length, seed=seed, ends=ends)
    options = SearchOptions(
        beam_size=vocab_size**max_length,
        max_length=max_length,
        min_length=min_length,
        length_norm=norm,
        length_alpha=alpha,
        word_reward=reward,
        n_best=n_best,
    )
    found = beam_search(*model.start(), model.step, END, options)
    captions = all_captions(model.of_image(0), max_length, min_length)
    assert_same(found, 0, ranked(captions, norm, alpha, reward)[:n_best], norm, alpha, reward)


@settings(deadline=None, max_examples=100)
@given(
    vocab_size=st.integers(4, 6),
    max_length=st.integers(1, 4),
    width=st.integers(1, 8),
    norm=NORMS,
    alpha=st.floats(0, 2),
    reward=st.sampled_from([0.0, -0.5, 0.7]),
    min_length=st.integers(0, 3),
    ends=st.booleans(),
    best_fraction=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_narrow_beam_equals_the_slow_reference(
    vocab_size, max_length, width, norm, alpha, reward, min_length, ends, best_fraction, seed
):
    min_length = min(min_length, max_length)
    n_best = max(1, round(best_fraction * width))
    model = RandomModel(vocab_size, max_length, seed=seed, images=3, ends=ends)
    options = SearchOptions(width, max_length, min_length, norm, alpha, reward, n_best)
    found = beam_search(*model.start(), model.step, END, options)
    for image in range(3):
        expected = slow_beam_search(
            model.of_image(image), width, max_length, norm, alpha, reward, n_best, min_length
        )
        assert_same(found, image, expected, norm, alpha, reward)


def assert_same(found, image, expected, norm, alpha, reward):
    """The captions, total and per-word log-probabilities and scores of one image."""
    assert found.captions()[image] == [list(words) for words, _, _ in expected]
    log_probs = [log_prob for _, log_prob, _ in expected]
    count = len(expected)
    assert found.log_probs[image, :count].tolist() == pytest.approx(log_probs)
    assert found.word_log_probs[image, :count].sum(1).tolist() == pytest.approx(log_probs)
    scores = [score(log_prob, n, norm, alpha, reward) for _, log_prob, n in expected]
    assert found.scores[image, :count].tolist() == pytest.approx(scores)
    assert found.lengths[image, :count].tolist() == [len(words) for words, _, _ in expected]
    assert (found.scores[image, count:] == float("-inf")).all()
    assert (found.lengths[image, count:] == 0).all()

"""Sampling follows the model's distribution and does not depend on the batch."""

import math
from itertools import pairwise

import pytest
import torch
from exhaustive_search import END, all_captions, score
from random_models import RandomModel

from captioner.decoding.constraints import BannedWords, NoRepeatedNgram
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.options import SampleOptions
from captioner.decoding.sampling import draw, rerank, sample, uniform_numbers
from captioner.errors import CaptionerError, UsageError

KEYS = torch.tensor([11, 7, 500, -3])


def pick(state, rows):
    return tuple(tensor[rows] for tensor in state)


def test_samples_follow_the_distribution_of_the_model():
    model = RandomModel(4, 2, seed=1, spread=1.0)
    count = 10_000
    found = sample(
        *model.start(),
        model.step,
        END,
        SampleOptions(samples=count, max_length=2),
        image_keys=torch.tensor([0]),
    )
    drawn = [tuple(words) for words in found.captions()[0]]
    for words, log_prob, _ in all_captions(model.of_image(0), 2):
        p = math.exp(log_prob)
        assert abs(drawn.count(words) / count - p) < 5 * math.sqrt(p * (1 - p) / count)


def test_batch_size_and_order_change_nothing():
    model = RandomModel(5, 6, seed=2, images=4)
    ids, state = model.start()
    options = SampleOptions(samples=3, max_length=6, seed=9)
    together = sample(ids, state, model.step, END, options, image_keys=KEYS)
    for rows in ([0], [1], [2, 0], [3, 2, 1, 0]):
        apart = sample(
            ids[rows], pick(state, rows), model.step, END, options, image_keys=KEYS[rows]
        )
        assert torch.equal(apart.words, together.words[rows])
        assert torch.equal(apart.log_probs, together.log_probs[rows])


def test_seed_image_and_sample_each_matter():
    model = RandomModel(6, 5, seed=2)
    ids, state = model.start()

    def words(seed, key):
        options = SampleOptions(samples=8, max_length=5, seed=seed)
        found = sample(ids, state, model.step, END, options, image_keys=torch.tensor([key]))
        return found.captions()[0]

    assert words(1, 1) == words(1, 1)
    assert words(1, 1) != words(2, 1)
    assert words(1, 1) != words(1, 2)
    assert len({tuple(w) for w in words(1, 1)}) > 1


def test_probabilities_and_scores_are_those_of_the_model():
    model = RandomModel(5, 4, seed=4, images=2)
    options = SampleOptions(
        samples=6, temperature=0.5, top_p=0.9, max_length=4, length_norm="average", word_reward=0.1
    )
    found = sample(*model.start(), model.step, END, options, image_keys=KEYS[:2])
    for image in range(2):
        known = {
            words: (log_prob, n) for words, log_prob, n in all_captions(model.of_image(image), 4)
        }
        for k, words in enumerate(found.captions()[image]):
            log_prob, n = known[tuple(words)]
            assert found.log_probs[image, k].item() == pytest.approx(log_prob)
            assert found.word_log_probs[image, k].sum().item() == pytest.approx(log_prob)
            expected = score(log_prob, n, "average", 0.0, 0.1)
            assert found.scores[image, k].item() == pytest.approx(expected)


def test_minimum_length_and_constraints_hold():
    model = RandomModel(5, 5, seed=6, images=200)
    options = SampleOptions(samples=4, max_length=5, min_length=3)
    found = sample(
        *model.start(),
        model.step,
        END,
        options,
        image_keys=torch.arange(200),
        constraints=[BannedWords([2]), NoRepeatedNgram(2)],
    )
    for image in found.captions():
        for words in image:
            assert len(words) >= 3
            assert 2 not in words
            assert len(set(pairwise(words))) == len(words) - 1


def test_no_word_directly_follows_itself():
    model = RandomModel(5, 5, seed=6, images=200)
    options = SampleOptions(samples=4, max_length=5, no_repeat_word=True)
    found = sample(*model.start(), model.step, END, options, image_keys=torch.arange(200))
    assert all(a != b for image in found.captions() for words in image for a, b in pairwise(words))


@pytest.mark.parametrize(
    ("top_k", "top_p", "possible"),
    [
        (0, 1.0, {0, 1, 2, 3}),
        (2, 1.0, {1, 3}),
        (0, 0.6, {1, 3}),
        (0, 0.5, {3}),
        (3, 0.99, {1, 2, 3}),
    ],
)
def test_top_k_and_top_p_keep_the_right_words(top_k, top_p, possible):
    log_probs = torch.tensor([0.0, 0.3, 0.15, 0.55]).log()
    log_probs[0] = torch.tensor(1e-4).log()
    uniform = torch.linspace(0, 1, 100_001, dtype=torch.float64)[:-1]
    drawn = draw(log_probs.expand(len(uniform), 4), uniform, top_k, top_p)
    assert set(drawn.tolist()) == possible


def test_a_word_of_probability_zero_is_never_drawn():
    log_probs = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).log().expand(3, 5)
    uniform = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert draw(log_probs, uniform).tolist() == [1, 3, 3]


def test_random_numbers_are_uniform_and_uncorrelated():
    streams = torch.arange(20_000)
    u = torch.stack([uniform_numbers(streams, t) for t in range(1, 5)])
    assert (u >= 0).all()
    assert (u < 1).all()
    assert u.mean(dim=1).tolist() == pytest.approx([0.5] * 4, abs=0.01)
    assert (torch.corrcoef(u) - torch.eye(4)).abs().max() < 0.04


def test_rerank_sorts_drops_repeats_and_takes_any_score():
    found = Hypotheses(
        words=torch.tensor([[[1, 0], [2, 2], [1, 0], [2, 0]]]),
        lengths=torch.tensor([[1, 2, 1, 1]]),
        scores=torch.tensor([[-1.0, -3.0, -1.0, -2.0]]),
        log_probs=torch.tensor([[-1.0, -3.0, -1.0, -2.0]]),
        word_log_probs=torch.zeros(1, 4, 3),
    )
    assert rerank(found, 4).captions() == [[[1], [2], [2, 2]]]
    by = torch.tensor([[0.1, 0.9, 0.1, 0.5]])
    assert rerank(found, 2, by).captions() == [[[2, 2], [2]]]
    assert rerank(found, 2, by).log_probs.tolist() == [[-3.0, -2.0]]
    with pytest.raises(UsageError, match="n_best: 5 is more than the 4 captions of an image"):
        rerank(found, 5)
    with pytest.raises(UsageError, match=r"by: shape \(4,\); it should be \(1, 4\)"):
        rerank(found, 1, by[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature: 0 is not above 0"),
        ({"temperature": math.nan}, "temperature: nan is not a finite number"),
        ({"top_p": 0.0}, "top_p: 0 is not in the range above 0 up to 1"),
        ({"top_k": -1}, "top_k: -1 is not a whole number of at least 0"),
        ({"samples": 0}, "samples: 0 is not a whole number of at least 1"),
        ({"max_length": 0}, "max_length: 0 is not a whole number of at least 1"),
        ({"seed": "x"}, "seed: 'x' is not a whole number"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        SampleOptions(**options)


def test_errors_of_the_draw():
    model = RandomModel(4, 3, images=2)
    start = model.start()
    with pytest.raises(CaptionerError, match="no word is left to draw at word 1"):
        sample(*start, model.step, END, image_keys=KEYS[:2], constraints=[BannedWords(range(4))])
    with pytest.raises(UsageError, match=r"both should be \(images,\)"):
        sample(*start, model.step, END, image_keys=KEYS)
    with pytest.raises(CaptionerError, match="step: returned NaN or infinity by word 1"):
        sample(
            *start,
            lambda ids, state: (torch.full((len(ids), 4), math.nan), state),
            END,
            image_keys=KEYS[:2],
        )


def test_no_images_no_captions():
    model = RandomModel(4, 3)
    ids, state = model.start()
    found = sample(ids[:0], pick(state, []), model.step, END, image_keys=KEYS[:0])
    assert found.captions() == []

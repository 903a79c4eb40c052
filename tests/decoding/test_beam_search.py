"""Beam search against brute force, against a slow reference, and against published toy cases."""

import doctest
import math
from collections import namedtuple

import pytest
import torch
from exhaustive_search import (
    END,
    all_captions,
    ranked,
    score,
    slow_beam_search,
    slow_diverse_search,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from random_models import RandomModel

import captioner.decoding.running_search as module
from captioner.decoding.beam_search import SearchOptions, beam_search
from captioner.decoding.constraints import BannedEndings, BannedPhrases, NoRepeatedNgram
from captioner.decoding.pytree import tree_map
from captioner.errors import CaptionerError, UsageError

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


def test_a_matrix_worked_by_hand():
    # Words: 0 start, 1 end, 2 "a", 3 "man", 4 "dog", 5 "runs"; rows are the word before.
    p = torch.tensor(
        [
            [0.0, 0.0, 0.6, 0.4, 0.0, 0.0],
            [0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.3, 0.5, 0.2],
            [0.0, 0.7, 0.0, 0.0, 0.0, 0.3],
            [0.0, 0.2, 0.0, 0.0, 0.0, 0.8],
            [0.0, 0.9, 0.1, 0.0, 0.0, 0.0],
        ]
    )

    def search(**options):
        found = beam_search(
            torch.tensor([0]), None, lambda w, s: (p[w].log(), s), 1, SearchOptions(**options)
        )
        return found.captions()[0], found.log_probs[0].exp().tolist()

    # Greedy takes a (.6), dog (.5), runs (.8), end (.9).
    assert search(beam_size=1) == ([[2, 4, 5]], pytest.approx([0.216]))
    # Two beams also keep man (.4) and its end (.7), which is better.
    assert search(beam_size=2, n_best=2) == ([[3], [2, 4, 5]], pytest.approx([0.28, 0.216]))
    # Mean over words including the end: ln .28 / 2 = -.636 against ln .216 / 4 = -.383.
    assert search(beam_size=2, length_norm="average")[0] == [[2, 4, 5]]
    # Truncated after two words: "a dog" .3 and "man" .28.
    assert search(beam_size=2, n_best=2, max_length=2) == (
        [[2, 4], [3]],
        pytest.approx([0.3, 0.28]),
    )
    # At least two words: "a dog" .3 and "a man" .18 live on; then the former runs, the latter ends.
    assert search(beam_size=2, n_best=2, min_length=2) == (
        [[2, 4, 5], [2, 3]],
        pytest.approx([0.216, 0.126]),
    )


def test_the_gnmt_penalty_flips_an_order():
    # "2" with its end: .5 * 1; "3 4" with its end: .5 * .9 * .9, a little less but longer.
    p = torch.zeros(5, 5)
    p[0, 2], p[0, 3], p[2, 1], p[3, 4], p[4, 1] = 0.5, 0.5, 1.0, 0.9, 0.9
    p[3, 1], p[4, 2] = 0.1, 0.1

    def best(alpha):
        options = SearchOptions(beam_size=3, length_norm="gnmt", length_alpha=alpha)
        found = beam_search(torch.tensor([0]), None, lambda w, s: (p[w].log(), s), 1, options)
        return found.captions()[0][0], found.scores.item()

    # lp(2) = (7/6) ** alpha and lp(3) = (8/6) ** alpha; ln .5 = -.6931 and ln .405 = -.9039.
    assert best(0.0) == ([2], pytest.approx(-0.6931, abs=1e-4))
    assert best(1.0) == ([2], pytest.approx(-0.5941, abs=1e-4))
    assert best(3.0) == ([3, 4], pytest.approx(-0.3813, abs=1e-4))


@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 1},
        {"beam_size": 4, "n_best": 3, "length_norm": "average"},
        {"beam_size": 6, "n_best": 4, "groups": 3},
    ],
)
def test_batches_of_1_7_and_64_give_the_same_captions(options):
    model = RandomModel(5, 5, seed=8, images=64)
    ids, state = model.start()
    options = SearchOptions(max_length=5, **options)
    together = beam_search(ids, state, model.step, END, options)
    for size in (1, 7):
        for first in range(0, 64, size):
            rows = slice(first, first + size)
            own = (state[0][rows], state[1][rows])
            part = beam_search(ids[rows], own, model.step, END, options)
            for name in ("words", "lengths", "scores", "log_probs", "word_log_probs"):
                assert torch.equal(getattr(part, name), getattr(together, name)[rows])


SEARCHES = [
    {"beam_size": 1},
    {"beam_size": 4, "n_best": 3, "length_norm": "average"},
    {"beam_size": 4, "n_best": 2, "length_norm": "gnmt", "word_reward": -0.3, "min_length": 2},
    {"beam_size": 6, "n_best": 4, "groups": 3},
]


@pytest.mark.parametrize("options", SEARCHES)
def test_rare_synchronisation_gives_the_same_captions(options, monkeypatch):
    """Run the GPU path on CPU: done images are detected late and leave the batch late."""
    model = RandomModel(5, 6, seed=5, images=40)
    options = SearchOptions(max_length=6, **options)
    asked = beam_search(*model.start(), model.step, END, options)
    monkeypatch.setattr(module, "answers_at_once", lambda device: False)
    seldom = beam_search(*model.start(), model.step, END, options)
    for name in ("words", "lengths", "scores", "log_probs", "word_log_probs"):
        assert torch.equal(getattr(asked, name), getattr(seldom, name))


@pytest.mark.gpu
@pytest.mark.parametrize("options", SEARCHES)
def test_a_gpu_gives_the_same_captions(options):
    model = RandomModel(5, 6, seed=5, images=40)
    options = SearchOptions(max_length=6, **options)
    constraints = [NoRepeatedNgram(2), BannedEndings([[1]]), BannedPhrases([[2, 3]])]
    on_cpu, on_gpu = (
        beam_search(*m.start(), m.step, END, options, constraints=constraints)
        for m in (model, model.to("cuda"))
    )
    assert on_gpu.captions() == on_cpu.captions()
    torch.testing.assert_close(on_gpu.log_probs.cpu(), on_cpu.log_probs)


def test_a_large_vocabulary_in_single_precision_is_the_same_in_every_batch():
    torch.manual_seed(0)
    words, embedding = torch.randn(997, 24), torch.randn(997, 24)

    def step(ids, h):
        h = torch.tanh(0.6 * h + embedding[ids])
        return h @ words.T, h

    h = torch.randn(64, 24)
    options = SearchOptions(beam_size=5, max_length=12, n_best=5)
    together = beam_search(torch.ones(64, dtype=torch.int64), h, step, 0, options)
    for size in (1, 7):
        parts = [
            beam_search(torch.ones(len(part), dtype=torch.int64), part, step, 0, options)
            for part in h.split(size)
        ]
        assert [c for part in parts for c in part.captions()] == together.captions()


def test_per_word_log_probabilities_are_those_of_a_teacher_forced_pass():
    model = RandomModel(5, 5, seed=8, images=4)
    found = beam_search(*model.start(), model.step, END, SearchOptions(4, 5, n_best=4))
    for image in range(4):
        for k, words in enumerate(found.captions()[image]):
            ids, state = model.start()
            forced = []
            for word in [*words, END][:5]:
                logits, state = model.step(ids, state)
                forced.append(logits[image].log_softmax(0)[word].item())
                ids = torch.full_like(ids, word)
            forced += [0.0] * (6 - len(forced))
            assert found.word_log_probs[image, k].tolist() == pytest.approx(forced)
            assert found.log_probs[image, k].item() == pytest.approx(sum(forced))
            assert found.words[image, k, len(words) :].tolist() == [END] * (5 - len(words))


def test_shared_tensors_follow_their_image_and_are_not_copied_per_beam():
    model = RandomModel(5, 5, seed=8, images=9)
    ids, state = model.start()
    bias = torch.randn(9, 5, dtype=torch.float64)
    sizes = []

    def shared_step(ids, state, shared):
        logits, state = model.step(ids, state)
        sizes.append((len(ids), len(shared["bias"])))
        return logits + shared["bias"].repeat_interleave(len(ids) // len(shared["bias"]), 0), state

    def carried_step(ids, state):
        logits, inner = model.step(ids, state["inner"])
        return logits + state["bias"], {"inner": inner, "bias": state["bias"]}

    options = SearchOptions(3, 5)
    shared = beam_search(ids, state, shared_step, END, options, shared={"bias": bias, "none": None})
    carried = beam_search(ids, {"inner": state, "bias": bias}, carried_step, END, options)
    assert torch.equal(shared.words, carried.words)
    assert torch.equal(shared.log_probs, carried.log_probs)
    assert sizes[0] == (9, 9)
    assert all(rows == 3 * images for rows, images in sizes[1:])
    assert sizes[-1][1] < 9  # done images have left


def test_done_images_stop_and_the_search_stops_with_the_last():
    steps = []

    def step(ids, state):
        steps.append(len(ids))
        log_probs = torch.tensor([0.9, 0.05, 0.05]).log()
        return log_probs.expand(len(ids), 3), state

    beam_search(torch.tensor([1, 1]), None, step, 0, SearchOptions(2, max_length=1000))
    assert steps == [2]  # .9 at once: nothing that lives on can reach it


def test_diverse_beam_search_by_hand():
    # A unigram model; 0 is the end.
    p = torch.tensor([0.01, 0.4, 0.3, 0.2, 0.09])

    def words(**options):
        found = beam_search(
            torch.tensor([1]),
            None,
            lambda ids, state: (p.log().expand(len(ids), 5), state),
            0,
            SearchOptions(max_length=2, **options),
        )
        return found.captions()[0], found.log_probs[0].exp().tolist()

    # Penalty 1: .4 / e = .147 < .2, so each of three groups says another word.
    assert words(beam_size=3, n_best=3, groups=3, diversity=1.0) == (
        [[1, 1], [2, 2], [3, 3]],
        pytest.approx([0.16, 0.09, 0.04]),
    )
    # Without a penalty, three groups find the same.
    assert words(beam_size=3, n_best=3, groups=3, diversity=0.0)[0] == [[1, 1]] * 3
    # Groups of two: the second avoids 1 and 2 at the first step, and so on.
    assert words(beam_size=4, n_best=2, groups=2, diversity=5.0)[0] == [[1, 1], [3, 3]]


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 3),
    groups=st.integers(2, 3),
    max_length=st.integers(1, 4),
    diversity=st.sampled_from([0.3, 1.0, 3.0]),
    norm=NORMS,
    reward=st.sampled_from([0.0, -0.5, 0.7]),
    ends=st.booleans(),
    best_fraction=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
@example(3, 2, 4, 1.0, "none", 0.0, True, 0.33, 34)  # a group's first is not its most probable
def test_diverse_search_equals_the_slow_reference(
    width, groups, max_length, diversity, norm, reward, ends, best_fraction, seed
):
    n_best = max(1, round(best_fraction * width * groups))
    model = RandomModel(5, max_length, seed=seed, images=3, ends=ends)
    options = SearchOptions(
        width * groups,
        max_length,
        length_norm=norm,
        word_reward=reward,
        n_best=n_best,
        groups=groups,
        diversity=diversity,
    )
    found = beam_search(*model.start(), model.step, END, options)
    for image in range(3):
        expected = slow_diverse_search(
            model.of_image(image), width, groups, diversity, max_length, norm, 0.6, reward, n_best
        )
        assert_same(found, image, expected, norm, 0.6, reward)


@settings(deadline=None, max_examples=30)
@given(width=st.integers(1, 4), groups=st.integers(2, 3), seed=st.integers(0, 2**31), norm=NORMS)
def test_groups_without_diversity_find_the_same_captions(width, groups, seed, norm):
    model = RandomModel(5, 4, seed=seed, images=3)
    alone = beam_search(
        *model.start(), model.step, END, SearchOptions(width, 4, length_norm=norm, n_best=width)
    )
    options = SearchOptions(
        width * groups, 4, length_norm=norm, n_best=width * groups, groups=groups, diversity=0.0
    )
    found = beam_search(*model.start(), model.step, END, options)
    for image in range(3):
        expected = [words for words in alone.captions()[image] for _ in range(groups)]
        assert found.captions()[image] == expected


def test_states_may_be_nested_and_half_precision_is_summed_in_single():
    State = namedtuple("State", ["h", "layers"])

    def step(ids, state):
        assert state.layers["keys"][1] is None
        return state.h.half()[:, :4] + ids.unsqueeze(1).half(), state

    state = State(torch.randn(3, 8), {"keys": [torch.randn(3, 2), None]})
    found = beam_search(torch.zeros(3, dtype=torch.int64), state, step, 0, SearchOptions(2, 3))
    assert found.log_probs.dtype == torch.float32
    with pytest.raises(TypeError, match="is not a tensor, None or a container of tensors"):
        tree_map(torch.neg, (torch.zeros(1), "state"))


def test_results_can_be_used_with_gradients():
    model = RandomModel(5, 3, seed=1)
    found = beam_search(*model.start(), model.step, END, SearchOptions(2, 3))
    table = torch.zeros(5, 2, requires_grad=True)
    torch.nn.functional.embedding(found.words, table).sum().backward()
    assert table.grad is not None


def test_no_images_no_captions():
    found = beam_search(
        torch.zeros(0, dtype=torch.int64), None, lambda w, s: (torch.zeros(0, 4), s), 0
    )
    assert found.captions() == []
    assert found.words.shape == (0, 1, 20)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([math.nan, 0.0, 0.0], "step: returned NaN or infinity by word 2"),
        ([math.inf, 0.0, 0.0], "step: returned NaN or infinity by word 2"),
        ([-math.inf] * 3, "step: all words are -inf at word 2"),
    ],
)
def test_a_step_that_returns_no_distribution(row, message):
    def step(ids, state):
        scores = torch.tensor([[-9.0, 0.0, 1.0], row])
        return scores[state], torch.ones_like(state)

    start = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(CaptionerError, match=message):
        beam_search(torch.tensor([1, 1]), start, step, 0, SearchOptions(2))


@pytest.mark.parametrize("max_length", [1, 3])
def test_no_caption_of_the_minimum_length_is_an_error_not_a_loop(max_length):
    def step(ids, state):  # the end is the only word there is
        return torch.tensor([0.0, -math.inf]).expand(len(ids), 2), state

    options = SearchOptions(2, max_length=max_length, min_length=1)
    message = r"image 0 of the batch .* has no caption left at word 1"
    with pytest.raises(CaptionerError, match=message):
        beam_search(torch.tensor([1]), None, step, 0, options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "beam_size: 0 is not a whole number of at least 1"),
        ({"beam_size": 2.0}, "beam_size: 2.0 is not a whole number of at least 1"),
        ({"max_length": 0}, "max_length: 0 is not a whole number of at least 1"),
        ({"min_length": -1}, "min_length: -1 is not a whole number of at least 0"),
        ({"min_length": 21}, "min_length: 21 is more than max_length 20; at most 20"),
        ({"length_norm": "mean"}, "length_norm: unknown 'mean'; choose one of none, average, gnmt"),
        ({"length_alpha": -0.1}, "length_alpha: -0.1 is not a finite number of at least 0"),
        ({"word_reward": math.inf}, "word_reward: inf is not a finite number"),
        ({"n_best": 6}, "n_best: 6 is more than beam_size 5; at most 5, or widen the beam"),
        ({"groups": 2}, "groups: 2 does not divide beam_size 5; choose a divisor of 5"),
        ({"diversity": -1.0}, "diversity: -1.0 is not a finite number of at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        SearchOptions(**options)


@pytest.mark.parametrize(
    ("ids", "end_id", "shape", "message"),
    [
        (torch.tensor([[1]]), 0, (1, 4), r"start_ids: shape \(1, 1\); it should be \(images,\)"),
        (torch.tensor([1]), 4, (1, 4), "end_id: 4 is not in the vocabulary of 4 words"),
        (torch.tensor([1]), -1, (1, 4), "end_id: -1 is not in the vocabulary of 4 words"),
        (torch.tensor([1]), 0, (1, 1, 4), r"scores of shape \(1, 1, 4\) for 1 words"),
        (torch.tensor([1]), 0, (2, 4), r"scores of shape \(2, 4\) for 1 words"),
    ],
)
def test_bad_calls_are_refused(ids, end_id, shape, message):
    with pytest.raises(UsageError, match=message):
        beam_search(ids, None, lambda w, s: (torch.zeros(shape), s), end_id)

"""The search in numpy equals the search in torch, on random models, options and constraints."""

import numpy as np
import pytest
import torch
from exhaustive_search import END
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import RandomModel

from captioner.decoding import constraints, numpy_constraints
from captioner.decoding import numpy_search as in_numpy
from captioner.decoding.beam_search import beam_search
from captioner.decoding.options import LENGTH_NORMS, SearchOptions
from captioner.decoding.topk import top_words
from captioner.errors import CaptionerError, UsageError

VOCABULARY, MAX_LENGTH = 5, 5


def numpy_step(model, attention):
    """The step of a model as the search in numpy calls it; regions see the previous word."""

    def step(words, state, shared):
        image, node = (torch.from_numpy(tensor).flatten() for tensor in state)
        logits, after = model.step(torch.from_numpy(words).flatten(), (image, node))
        log_probs = logits.float().log_softmax(1).view(*words.shape, -1).numpy()
        seen = None
        if attention:
            seen = np.stack([after[1], after[1] % 3], axis=1).reshape(*words.shape, 2)
        return log_probs, tuple(one.view(words.shape).numpy() for one in after), seen

    return step


def of_torch(model, options, forbid=(), attention=False):
    start, state = model.start()

    def step(ids, own):
        logits, own = model.step(ids, own)
        return logits.float(), own

    return beam_search(
        start,
        state,
        step,
        END,
        options,
        constraints=[getattr(constraints, name)(*given) for name, given in forbid],
        looked=(lambda own: torch.stack([own[1], own[1] % 3], 1).float()) if attention else None,
    )


def of_numpy(model, options, forbid=(), attention=False):
    return in_numpy.beam_search(
        -1,
        tuple(tensor.numpy() for tensor in model.start()[1]),
        (),
        numpy_step(model, attention),
        END,
        options,
        [getattr(numpy_constraints, name)(*given) for name, given in forbid],
    )


def check_equal(expected, found):
    for image, captions in enumerate(expected.captions()):
        own = found[image]
        assert [one.words for one in own] == captions
        for place, one in enumerate(own):
            assert one.score == pytest.approx(expected.scores[image, place].item(), abs=1e-5)
            assert one.log_prob == pytest.approx(expected.log_probs[image, place].item(), abs=1e-5)
            parts = expected.word_log_probs[image, place, : len(one.word_log_probs)]
            np.testing.assert_allclose(one.word_log_probs, parts, atol=1e-5)
            assert sum(one.word_log_probs) == pytest.approx(one.log_prob, abs=1e-4)
            if expected.attention is not None:
                seen = expected.attention[image, place]
                np.testing.assert_array_equal(one.attention, seen[: len(one.attention)])
                assert not seen[len(one.attention) :].any()


words = st.integers(0, VOCABULARY - 1).filter(lambda word: word != END)
phrases = st.lists(st.lists(words, min_size=1, max_size=3), min_size=1, max_size=3)
forbidden = st.lists(
    st.one_of(
        st.tuples(st.just("BannedWords"), st.tuples(st.lists(words, min_size=1, max_size=1))),
        st.tuples(st.just("BannedPhrases"), st.tuples(phrases)),
        st.tuples(st.just("BannedEndings"), st.tuples(phrases)),
        st.tuples(st.just("NoRepeatedNgram"), st.tuples(st.integers(1, 3))),
        st.tuples(st.just("NoWordTwiceInARow"), st.just(())),
    ),
    max_size=2,
)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(1, 12),
    beam=st.integers(1, 6),
    lengths=st.tuples(st.integers(1, MAX_LENGTH), st.integers(0, MAX_LENGTH)).map(sorted),
    norm=st.sampled_from(LENGTH_NORMS),
    reward=st.sampled_from([0.0, 0.4, -0.3]),
    n_best=st.integers(1, 6),
    forbid=forbidden,
    attention=st.booleans(),
    once=st.booleans(),
)
def test_both_searches_find_the_same(
    seed, images, beam, lengths, norm, reward, n_best, forbid, attention, once
):
    model = RandomModel(VOCABULARY, MAX_LENGTH, seed=seed, images=images)
    options = SearchOptions(
        beam_size=beam,
        max_length=max(lengths[1], 1),
        min_length=lengths[0],
        length_norm=norm,
        word_reward=reward,
        n_best=min(n_best, beam),
        no_repeat_word=once,
    )
    found = []
    for search in (of_torch, of_numpy):
        try:
            found.append(search(model, options, forbid, attention))
        except CaptionerError as error:  # no caption is left under the constraints: in both
            found.append(str(error).partition(" has ")[2])
    if isinstance(found[0], str):
        assert found[0] == found[1]
    else:
        check_equal(*found)


def test_captions_that_never_end_are_cut():
    model = RandomModel(VOCABULARY, MAX_LENGTH, seed=1, images=3, ends=False)
    options = SearchOptions(beam_size=3, max_length=4, n_best=2)
    check_equal(of_torch(model, options), of_numpy(model, options))


@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 7),
    width=st.integers(3, 700),
    k=st.integers(1, 9),
    dead=st.floats(0, 1),
)
@settings(deadline=None)
def test_the_best_words_are_those_of_torch(seed, rows, width, k, dead):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((rows, width)).astype(np.float32)
    scores[rng.random(scores.shape) < dead] = -np.inf
    k = min(k, width)
    values, columns = in_numpy.top_words(scores, k)
    expected, _ = top_words(torch.from_numpy(scores), k)
    np.testing.assert_array_equal(values, expected.numpy())
    np.testing.assert_array_equal(np.take_along_axis(scores, columns, axis=1), values)


def test_a_step_without_numbers_is_an_error():
    def step(words, state, shared):
        return np.full((*words.shape, 4), np.nan, dtype=np.float32), state, None

    with pytest.raises(CaptionerError, match="returned NaN or infinity by word 1"):
        in_numpy.beam_search(0, (np.zeros((2, 1)),), (), step, END, SearchOptions())


def test_groups_are_refused():
    with pytest.raises(UsageError, match="groups: not supported"):
        in_numpy.beam_search(
            0, (np.zeros((1, 1)),), (), None, END, SearchOptions(beam_size=4, groups=2)
        )

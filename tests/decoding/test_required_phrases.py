"""Required phrases occur in every caption, and the search finds good captions."""

from itertools import pairwise

import pytest
from exhaustive_search import END, all_captions
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import RandomModel

from captioner.decoding.beam_search import SearchOptions, beam_search
from captioner.decoding.constraints import BannedEndings, BannedWords, NoWordTwiceInARow
from captioner.decoding.required_phrases import RequiredPhrases
from captioner.errors import CaptionerError, UsageError

PHRASES = [[[1]], [[3], [2]], [[2, 1]], [[1, 2, 1], [3]], [[1, 2, 3], [2, 1]], [[4, 4]]]


def says(words, phrase):
    return any(words[i : i + len(phrase)] == phrase for i in range(len(words)))


@pytest.mark.parametrize("phrases", PHRASES)
@pytest.mark.parametrize("beam_size", [1, 3, 6])
def test_no_required_phrase_is_missing_over_a_thousand_models(phrases, beam_size):
    models = RandomModel(5, 5, seed=beam_size, images=1000, spread=3.0)
    found = beam_search(
        *models.start(),
        models.step,
        END,
        SearchOptions(beam_size, max_length=5, n_best=beam_size),
        required=RequiredPhrases(phrases),
    )
    for image in found.captions():
        assert image
        assert all(says(words, phrase) for words in image for phrase in phrases)


@settings(deadline=None, max_examples=40)
@given(
    phrases=st.sampled_from(PHRASES[:4]), seed=st.integers(0, 2**31), groups=st.sampled_from([1, 2])
)
def test_full_width_finds_the_best_caption_with_the_phrases(phrases, seed, groups):
    model = RandomModel(4, 4, seed=seed)
    found = beam_search(
        *model.start(),
        model.step,
        END,
        # The banks share the beam evenly, so full width is wider than all captions.
        SearchOptions(2048, max_length=4, n_best=6, groups=groups, diversity=0.0),
        constraints=[NoWordTwiceInARow()],
        required=RequiredPhrases(phrases),
    )
    expected = [
        c
        for c in all_captions(model.of_image(0), 4)
        if all(says(list(c[0]), phrase) for phrase in phrases)
        and all(a != b for a, b in pairwise(c[0]))
    ]
    expected.sort(key=lambda c: c[1], reverse=True)
    best = [list(words) for words, _, _ in expected[: 6 // groups]]
    # Each group searches independently and finds the same captions.
    assert found.captions()[0] == [words for words in best for _ in range(groups)]


def test_phrases_that_fill_the_caption_are_found():
    models = RandomModel(5, 5, seed=1, images=50)
    found = beam_search(
        *models.start(),
        models.step,
        END,
        SearchOptions(3, max_length=5),
        required=RequiredPhrases([[1, 2], [3, 4, 1]]),
    )
    allowed = ([1, 2, 3, 4, 1], [3, 4, 1, 1, 2])
    for image in found.captions():
        assert image[0] in allowed or (says(image[0], [1, 2]) and says(image[0], [3, 4, 1]))


def test_required_and_banned_together():
    models = RandomModel(6, 5, seed=2, images=300)
    found = beam_search(
        *models.start(),
        models.step,
        END,
        SearchOptions(4, max_length=5),
        constraints=[BannedEndings([[2]]), BannedWords([5])],
        required=RequiredPhrases([[2]]),
    )
    for image in found.captions():
        assert 2 in image[0]
        assert image[0][-1] != 2
        assert 5 not in image[0]


def test_impossible_phrases_are_a_clear_error():
    model = RandomModel(5, 3)
    options = SearchOptions(3, max_length=3)

    def search(phrases, *constraints):
        required = RequiredPhrases(phrases)
        beam_search(
            *model.start(), model.step, END, options, constraints=constraints, required=required
        )

    with pytest.raises(UsageError, match="4 required words do not fit into max_length 3"):
        search([[1, 2], [3, 4]])
    with pytest.raises(CaptionerError, match=r"image 0 of the batch .* has no caption left"):
        search([[2]], BannedWords([2]))
    with pytest.raises(UsageError, match="phrases: the list is empty"):
        RequiredPhrases([])

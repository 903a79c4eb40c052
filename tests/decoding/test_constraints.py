"""Constraints over many random models: forbidden words never occur, nothing else changes."""

from itertools import pairwise

import pytest
import torch
from exhaustive_search import END, all_captions
from random_models import RandomModel

from captioner.decoding.beam_search import SearchOptions, beam_search
from captioner.decoding.constraints import (
    BannedEndings,
    BannedPhrases,
    BannedWords,
    NoRepeatedNgram,
    NoWordTwiceInARow,
)
from captioner.errors import CaptionerError, UsageError

MANY = 1000
MAX_LENGTH = 5


@pytest.fixture(scope="module")
def models():
    return RandomModel(5, MAX_LENGTH, seed=3, images=MANY)


def captions(models, constraints, **options):
    options = {"beam_size": 4, "max_length": MAX_LENGTH, "n_best": 4, **options}
    found = beam_search(
        *models.start(), models.step, END, SearchOptions(**options), constraints=constraints
    )
    return found.captions()


def ngrams(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_ngram_is_repeated_over_a_thousand_models(models, n):
    free, bound = (captions(models, c, min_length=4) for c in ([], [NoRepeatedNgram(n)]))
    repeats = [w for image in free for w in image if len(set(ngrams(w, n))) < len(ngrams(w, n))]
    assert repeats  # the models would repeat themselves
    for image in bound:
        assert image
        for words in image:
            assert len(set(ngrams(words, n))) == len(ngrams(words, n))


def test_no_word_twice_in_a_row_over_a_thousand_models(models):
    for image in captions(models, [NoWordTwiceInARow()]):
        for words in image:
            assert all(a != b for a, b in pairwise(words))


def test_the_option_is_the_constraint(models):
    assert captions(models, [], no_repeat_word=True) == captions(models, [NoWordTwiceInARow()])


def test_banned_words_are_absent_over_a_thousand_models(models):
    assert not any(
        {2, 4} & set(w) for image in captions(models, [BannedWords([2, 4])]) for w in image
    )


def test_banned_phrases_are_absent_over_a_thousand_models(models):
    phrases = [(2, 4), (1, 1, 3), (3, 3)]
    free, bound = (captions(models, c) for c in ([], [BannedPhrases(phrases)]))

    def holding(found):
        return sum(p in ngrams(w, len(p)) for image in found for w in image for p in phrases)

    assert holding(free)
    assert not holding(bound)
    assert any(
        {2, 4} <= set(words) for image in bound for words in image
    )  # each word alone is fine


def test_a_banned_phrase_of_one_word_is_a_banned_word(models):
    both = [BannedPhrases([[2], [4]]), BannedWords([2, 4])]
    assert captions(models, both[:1]) == captions(models, both[1:])


def test_banned_endings_are_absent_over_a_thousand_models_ended_or_cut(models):
    for image in captions(models, [BannedEndings([[1], [3, 2]])]):
        assert image
        for words in image:
            assert words[-1:] != [1]
            assert words[-2:] != [3, 2]


def test_constraints_compose_and_full_width_finds_the_best_allowed_caption():
    model = RandomModel(5, 4, seed=5)
    constraints = [
        NoRepeatedNgram(2),
        NoWordTwiceInARow(),
        BannedWords([4]),
        BannedPhrases([[2, 3, 1]]),
        BannedEndings([[3], [1, 2]]),
    ]
    found = beam_search(
        *model.start(),
        model.step,
        END,
        SearchOptions(beam_size=625, max_length=4, n_best=10),
        constraints=constraints,
    )

    def allowed(words):
        return (
            4 not in words
            and words[-1:] != (3,)
            and words[-2:] != (1, 2)
            and (2, 3, 1) not in ngrams(words, 3)
            and len(set(ngrams(words, 2))) == len(ngrams(words, 2))
            and all(a != b for a, b in pairwise(words))
        )

    expected = [c for c in all_captions(model.of_image(0), 4) if allowed(c[0])]
    expected.sort(key=lambda c: c[1], reverse=True)
    assert found.captions()[0] == [list(words) for words, _, _ in expected[:10]]
    # The probabilities are the model's own, as if nothing were forbidden.
    log_probs = [log_prob for _, log_prob, _ in expected[:10]]
    assert found.log_probs[0].tolist() == pytest.approx(log_probs)


def test_constraints_that_forbid_nothing_change_nothing_to_the_bit(models):
    options = SearchOptions(beam_size=4, max_length=MAX_LENGTH, n_best=4)
    idle = [NoRepeatedNgram(6), BannedWords([]), BannedPhrases([]), BannedEndings([])]
    free = beam_search(*models.start(), models.step, END, options)
    bound = beam_search(*models.start(), models.step, END, options, constraints=idle)
    for name in ("words", "lengths", "scores", "log_probs", "word_log_probs"):
        assert torch.equal(getattr(free, name), getattr(bound, name))


def test_forbidding_everything_is_a_clear_error():
    model = RandomModel(4, 3, images=2)
    everything = [BannedWords(range(4))]
    with pytest.raises(CaptionerError, match=r"image 0 of the batch .* has no caption left"):
        beam_search(*model.start(), model.step, END, SearchOptions(3, 3), constraints=everything)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoRepeatedNgram(0), "n: 0 is not a whole number of at least 1"),
        (lambda: BannedWords([-1]), "words: -1 is not a whole number of at least 0"),
        (
            lambda: BannedPhrases([[]]),
            "phrases: a phrase is empty; each needs at least one word id",
        ),
        (
            lambda: BannedEndings([[]]),
            "endings: a phrase is empty; each needs at least one word id",
        ),
    ],
)
def test_bad_constraints_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_a_banned_word_beyond_the_vocabulary_is_refused():
    model = RandomModel(4, 3)
    with pytest.raises(UsageError, match="word id 9 is not in the vocabulary of 4 words"):
        beam_search(*model.start(), model.step, END, constraints=[BannedWords([9])])

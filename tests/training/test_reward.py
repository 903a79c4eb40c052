"""The reward equals the scorers it combines, and is independent of everything else."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config.schema import Config, ScoreConfig
from captioner.datasets.records import Record
from captioner.metrics.bleu import bleu_from_statistics, bleu_statistics
from captioner.metrics.cider import CiderScorer
from captioner.metrics.ngrams import NgramIndex
from captioner.text.tokenizer import tokenize
from captioner.text.vocabulary import UNKNOWN, Vocabulary
from captioner.training.parts import build_objective
from captioner.training.reward import END_TOKEN, Reward, document_frequencies, with_end
from captioner.training.stages import Stage

TRAIN = {
    7: ["A man rides a horse.", "a man on a brown horse", "someone rides"],
    "b.jpg": ["Two dogs run on a beach", "a dog runs"],
    9: ["A man on a beach with a dog", "the man walks <end> his dog", "a dog <unk> a man"],
}
VOCABULARY = Vocabulary.build((c for group in TRAIN.values() for c in group), min_count=2)
IDS = st.integers(UNKNOWN + 1, len(VOCABULARY) - 1)


def reward(train=TRAIN, **weights):
    references = with_end(train)
    return Reward(references, VOCABULARY, document_frequencies(references), **weights)


def ids(caption):
    return VOCABULARY.encode(caption)


@settings(deadline=None, max_examples=50)
@given(
    captions=st.lists(
        st.tuples(st.sampled_from(list(TRAIN)), st.lists(IDS, max_size=9)), min_size=1, max_size=8
    )
)
def test_is_cider_of_captions_and_references_with_the_end_token(captions):
    ended = [[*map(tokenize, group)] for group in TRAIN.values()]
    references = dict(zip(TRAIN, [[[*t, "END"] for t in group] for group in ended], strict=True))
    tokens = [[*(VOCABULARY.words[i] for i in words), "END"] for _, words in captions]
    expected = CiderScorer(references).score([image for image, _ in captions], tokens)
    images, words = zip(*captions, strict=True)
    found = reward()(images, words, [True] * len(words))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@settings(deadline=None, max_examples=25)
@given(
    captions=st.lists(
        st.tuples(st.sampled_from(list(TRAIN)), st.lists(IDS, max_size=9)), min_size=1, max_size=5
    ),
    weight=st.sampled_from([0.5, 2.0]),
)
def test_bleu_joins_by_its_weight(captions, weight):
    images, words = zip(*captions, strict=True)
    found = reward(cider=0.0, bleu=weight)(images, words, [True] * len(words))
    for image, caption, value in zip(images, words, found, strict=True):
        tokens = [[*(VOCABULARY.words[i] for i in caption), "END"]]
        references = [[[*tokenize(c), "END"] for c in TRAIN[image]]]
        index, counts = NgramIndex.of(references[0])
        most = [entries.most_in_group(np.zeros(len(references[0]), int)) for entries in counts]
        statistics = bleu_statistics(tokens, references, index.count(tokens), most)
        assert value == pytest.approx(weight * bleu_from_statistics(statistics)[0, -1])
    both = reward(cider=1.0, bleu=weight)(images, words, [True] * len(words))
    np.testing.assert_allclose(both, found + reward()(images, words, [True] * len(words)))


def test_a_cut_caption_gets_nothing():
    caption = ids("a man rides a horse")
    whole, cut = reward()([7, 7], [caption, caption], [True, False])
    assert whole > 0
    assert cut == 0


def test_ending_in_the_wrong_place_costs():
    """Without the end token "a man on a" would score as well as it can."""
    good, bad = reward()([7, 7], [ids("a man"), ids("a man on a")], [True, True])
    closed = reward({7: ["a man", "a man"], 8: ["a man on a", "a dog"]})
    good, bad = closed([7, 7], [ids("a man"), ids("a man a")], [True, True])
    assert good > bad


def test_the_unknown_word_matches_nothing():
    """Neither rare words of the references nor a reference that spells its name."""
    assert UNKNOWN in ids("the rider")
    value = reward()([9], [[UNKNOWN]], [True])
    only_end = CiderScorer({k: [[*tokenize(c), "END"] for c in v] for k, v in TRAIN.items()})
    assert value == pytest.approx(only_end.score([9], [["no such word", "END"]]))
    assert "<unk>" in tokenize("a dog <unk> a man")


def test_a_reference_that_spells_the_end_word_does_not_end():
    assert "<end>" in tokenize("the man walks <end> his dog")
    plain = {**TRAIN, 9: [c.replace("<end>", "walks") for c in TRAIN[9]]}
    frequencies = [document_frequencies(with_end(which)) for which in (TRAIN, plain)]
    assert [f.n_images for f in frequencies] == [3, 3]
    ends = [dict(zip(f.index.vocabulary, f.counts[0], strict=True))["\n"] for f in frequencies]
    assert ends == [3, 3]


def test_dev_captions_change_no_reward():
    """Frequencies come from the training references only."""
    frequencies = document_frequencies(with_end(TRAIN))
    dev = {1: ["a man on a horse"], 2: ["two dogs"]}
    other = {1: ["a man on a horse"], 2: ["a man on a horse", "a man on a horse runs"]}
    values = [
        Reward(with_end(split), VOCABULARY, frequencies)([1], [ids("a man on a horse")], [True])
        for split in (dev, other)
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize("bleu", ["0", "0.5"])
def test_a_run_with_other_dev_captions_has_the_same_rewards(bleu: str, tmp_path: Path) -> None:
    """The rewards of a run's score stage, from its configuration and records."""
    config = replace(Config(), score=replace(ScoreConfig(), epochs=1, bleu=float(bleu)))
    train = [Record(i, tmp_path, tuple(c), "train") for i, c in TRAIN.items()]
    words, images = [ids(c) for group in TRAIN.values() for c in group], []
    for image, group in TRAIN.items():
        images += [image] * len(group)
    found = []
    for captions in (["a man on a horse"], ["two dogs run", "a man rides a horse on a beach"]):
        records = {"train": train, "val": [Record("v", tmp_path, tuple(captions), "val")]}
        prepared = SimpleNamespace(records=records, vocabulary=VOCABULARY)
        objective, samples = build_objective(config, prepared, Stage("score"))  # type: ignore
        found.append(objective.reward(images, words, [True] * len(words)))
        assert samples is not None
    assert found[0].max() > 0
    np.testing.assert_array_equal(found[0], found[1])


def test_references_use_the_tokenizer_of_the_vocabulary() -> None:
    assert with_end({1: ["一只狗"]}, "cjk") == {1: [["一", "只", "狗", END_TOKEN]]}

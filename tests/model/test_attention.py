"""Attention: the same numbers by steps and by captions, exact zeros on padding, one projection."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captioner.build import build_decoder
from captioner.config.checks import check
from captioner.config.schema import Config, DecoderConfig, EncoderConfig
from captioner.datasets.batches import Item, collate
from captioner.errors import CaptionerError, UsageError
from captioner.model.attention import Attention, Places, mean_of_regions
from captioner.model.captioner import Captioner, doubly_stochastic
from captioner.model.decoder import Decoder, select_rows
from captioner.model.kernels.additive_scores import additive_scores

KINDS: dict[str, dict[str, Any]] = {
    "soft": {"attention": "soft"},
    "gated soft": {"attention": "soft", "attention_gate": True},
    "spatial": {"attention": "spatial"},
    "adaptive": {"attention": "adaptive"},
    "top-down": {"attention": "top_down", "layers": 2},
}
CELLS: dict[str, dict[str, Any]] = {
    "elman": {"cell": "elman"},
    "logistic elman": {"cell": "elman", "activation": "logistic"},
    "jordan": {"cell": "jordan"},
    "taught jordan": {"cell": "jordan", "teacher": "word"},
    "lstm": {"cell": "lstm"},
    "peepholes": {"cell": "lstm", "peepholes": True},
    "gru": {"cell": "gru"},
    "reset before": {"cell": "gru", "reset_after": False},
    "deep lstm": {"cell": "lstm", "transition_depth": 2},
    "deep gru": {"cell": "gru", "transition_depth": 2},
}
SCORES = ["dot", "scaled", "additive"]


def built(**settings: Any) -> Decoder:
    torch.manual_seed(0)
    config = DecoderConfig(
        embedding_size=5, hidden_size=7, attention_size=3, dropout=0.0, **settings
    )
    return build_decoder(config, vocab_size=11, feature_size=6)


def padded(*regions: int) -> Tensor:
    """Features of images with so many regions each."""
    features = torch.full((len(regions), max(regions), 6), math.nan)
    for image, n in enumerate(regions):
        features[image, :n] = torch.randn(n, 6)
    return features


def agree(decoder: Decoder) -> None:
    """`step` by `step`, by the step of a search, and `unroll` give the same."""
    features = padded(4, 2)
    sizes, image_of = [3, 3, 2, 1], torch.tensor([0, 1, 0])
    words = torch.randint(0, 11, (9,))
    regions = decoder.regions(features)
    assert regions is not None
    state = select_rows(decoder.initial_state(features), image_of)
    unrolled = decoder.unroll(words, torch.tensor(sizes), state, regions, image_of)
    assert unrolled.weights is not None
    logits, weights = decoder.logits(unrolled), unrolled.weights
    search_step = decoder.search_step()
    searched_state = state
    whole = decoder.regions(features[image_of])  # a row an image
    pairs = zip(words.split(sizes), logits.split(sizes), weights.split(sizes), strict=True)
    for t, (now, expected, seen) in enumerate(pairs):
        kept = torch.arange(len(now))
        here = type(whole)(*(None if one is None else one[kept] for one in whole))  # type: ignore
        state, searched_state = select_rows(state, kept), select_rows(searched_state, kept)
        if decoder.teacher == "word" and t > 0:
            state = decoder._feed_back_words(now, state)
            searched_state = decoder._feed_back_words(now, searched_state)
        searched, searched_state = search_step(now, searched_state, here)
        step_logits, state = decoder.step(now, state, here)
        torch.testing.assert_close(step_logits, expected)
        torch.testing.assert_close(decoder.weights(state), seen)
        torch.testing.assert_close((searched, searched_state), (step_logits, state))


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS.keys())
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_step_by_step_equals_unroll_and_so_does_the_step_of_a_search(
    kind: dict[str, Any], cell: dict[str, Any]
) -> None:
    agree(built(**kind, **cell).eval())


@pytest.mark.parametrize("place", ["pre", "par", "merge"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_so_it_is_in_the_other_places(kind: dict[str, Any], place: str) -> None:
    if place == "merge" and kind["attention"] not in ("spatial", "adaptive"):
        pytest.skip("refused by the configuration")
    agree(built(**kind, place=place, cell="gru").eval())


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_so_it_is_with_every_score_and_in_deep_networks(kind: dict[str, Any], score: str) -> None:
    deep = {**kind, "layers": 3, "residual": True, "output_depth": 1}
    agree(built(**deep, attention_score=score).eval())


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_padding_weighs_nothing_and_changes_nothing(kind: dict[str, Any], score: str) -> None:
    decoder = built(**kind, attention_score=score).eval()
    features = torch.randn(2, 4, 6)
    more = torch.cat((features, torch.full((2, 3, 6), math.nan)), 1)
    word = torch.tensor([1, 1])
    alone, state = decoder.step(word, decoder.initial_state(features), decoder.regions(features))
    beside, padded_state = decoder.step(word, decoder.initial_state(more), decoder.regions(more))
    torch.testing.assert_close(alone, beside)
    weights, with_padding = decoder.weights(state), decoder.weights(padded_state)
    assert bool((with_padding[:, 4:7] == 0).all())
    real = torch.cat((with_padding[:, :4], with_padding[:, 7:]), 1)
    torch.testing.assert_close(real, weights)
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    assert weights.shape[1] == 4 + (kind["attention"] == "adaptive")


def test_mean_leaves_padding_out() -> None:
    features = padded(3, 1)
    expected = torch.stack([features[0].mean(0), features[1, 0]])
    torch.testing.assert_close(mean_of_regions(features), expected)


def test_pooled_features_are_refused_in_one_line() -> None:
    with pytest.raises(CaptionerError, match=r"set encoder\.features grid"):
        built(attention="spatial").regions(torch.randn(2, 6))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_places_lay_rows_out_by_image_and_back(images: list[int]) -> None:
    places = Places.of(torch.tensor(images), 4)
    rows = torch.randn(len(images), 2)
    laid = places.lay(rows)
    assert laid.shape == (4, max(images.count(i) for i in range(4)), 2)
    assert torch.equal(places.take(laid), rows)
    for image in range(4):
        own = rows[[i == image for i in images]]
        assert torch.equal(laid[image, : len(own)], own)
        assert not laid[image, len(own) :].any()


@pytest.mark.parametrize("score", SCORES)
def test_weights_are_the_softmax_of_the_scores_as_written(score: Any) -> None:
    torch.manual_seed(0)
    attention = Attention(6, 7, 3, score)
    features, h = torch.randn(2, 4, 6), torch.randn(2, 7)
    context, weights = attention(h, attention.regions(features))
    for i in range(2):
        values = [torch.relu(attention.value(attention.norm(a)[None]))[0] for a in features[i]]
        q = attention.query(h[i : i + 1])[0]
        keys = [attention.key.weight @ v for v in values]
        if score == "additive":
            e = torch.stack([attention.weight @ torch.tanh(q + k) for k in keys])
        else:
            e = torch.stack([q @ k for k in keys]) / (math.sqrt(3) if score == "scaled" else 1)
        alpha = e.softmax(0)
        torch.testing.assert_close(weights[i], alpha)
        torch.testing.assert_close(
            context[i], sum(a * v for a, v in zip(alpha, values, strict=True))
        )


def test_additive_scores_have_the_gradient_of_autograd() -> None:
    tensors = [
        torch.randn(2, 3, 4, dtype=torch.double, requires_grad=True),
        torch.randn(2, 5, 4, dtype=torch.double, requires_grad=True),
        torch.randn(4, dtype=torch.double, requires_grad=True),
    ]
    assert torch.autograd.gradcheck(additive_scores, tensors)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_gradient_is_that_of_finite_differences(kind: dict[str, Any]) -> None:
    """Among others the gradient of the LSTM's cells, which the sentinel reads."""
    decoder = built(**kind).eval().double()
    features = torch.randn(2, 3, 6, dtype=torch.double)
    sizes, image_of = torch.tensor([3, 2]), torch.tensor([1, 0, 1])
    words, targets = torch.randint(0, 11, (5,)), torch.randint(0, 11, (5,))

    def loss() -> Tensor:
        state = select_rows(decoder.initial_state(features), image_of)
        regions = decoder.regions(features)
        unrolled = decoder.unroll(words, sizes, state, regions, image_of)
        return decoder.loss(unrolled, targets)

    loss().backward()
    for name, weight in decoder.named_parameters():
        assert weight.grad is not None, name
        direction = torch.randn_like(weight)
        with torch.no_grad():
            weight += 1e-5 * direction
            above = loss()
            weight -= 2e-5 * direction
            below = loss()
            weight += 1e-5 * direction
        slope = (above - below) / 2e-5
        torch.testing.assert_close((weight.grad * direction).sum(), slope, atol=1e-7, rtol=1e-4)


def captioner(**settings: Any) -> Captioner:
    return Captioner(nn.Identity(), built(**settings))  # type: ignore[arg-type]


def items() -> list[Item]:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(3, 5, 6, generator=generator)
    return [
        Item(i, features[i], [torch.randint(4, 11, (2 + (i + k) % 3,)).tolist() for k in range(2)])
        for i in range(3)
    ]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_packing_changes_neither_loss_nor_penalty(kind: dict[str, Any]) -> None:
    model = captioner(**kind)
    every = items()

    def loss_of(some: list[Item]) -> Tensor:
        batch = collate(some)
        sizes = torch.tensor(batch.batch_sizes)
        return model.loss(
            batch.images, batch.inputs, batch.targets, sizes, batch.rows, attention_penalty=0.5
        )

    words = sum(len(caption) + 1 for item in every for caption in item.captions)
    apart = sum(
        loss_of([item._replace(captions=[caption])]) * (len(caption) + 1) / words
        for item in every
        for caption in item.captions
    )
    torch.testing.assert_close(loss_of(every), apart)


def test_penalty_is_zero_where_each_region_was_looked_at_once() -> None:
    weights = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    torch.testing.assert_close(doubly_stochastic(weights, [2, 1], 2), torch.tensor(0.5 / 3))
    padding = torch.tensor([[False, False], [True, True]])
    torch.testing.assert_close(doubly_stochastic(weights, [2, 1], 2, padding), torch.tensor(0.0))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_keys_are_projected_once_an_image_in_training(kind: dict[str, Any]) -> None:
    model = captioner(**kind)
    rows: list[int] = []
    model.decoder.attention.key.register_forward_hook(
        lambda _, given, __: rows.append(len(given[0]))
    )
    batch = collate(items())
    sizes = torch.tensor(batch.batch_sizes)
    model.loss(batch.images, batch.inputs, batch.targets, sizes, batch.rows)
    assert rows == [3 * 5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": "spatial", "grid": False}, "set encoder.features grid"),
        ({"attention": "top_down"}, "set decoder.layers 2"),
        ({"attention": "soft", "place": "merge"}, "use spatial or adaptive"),
        ({"attention": "spatial", "attention_gate": True}, "belongs to decoder.attention soft"),
        ({"attention": "spatial", "attention_size": 0}, "attention_size: 0 is out of range"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    grid = settings.pop("grid", True)
    config = Config(
        encoder=EncoderConfig(features="grid" if grid else "pooled"),
        decoder=DecoderConfig(**settings),
    )
    with pytest.raises(UsageError, match=message):
        check(config)


def test_no_weight_or_gradient_is_next_to_nothing() -> None:
    """Subnormal numbers make a processor slow; what they stand for is 0."""
    torch.manual_seed(0)
    attention = Attention(6, 7, 3)
    features = torch.randn(1, 50, 6)
    query = torch.randn(2, 7) * 200  # scores that are hundreds apart
    query.requires_grad_(True)
    regions = attention.regions(features)
    context, weights = attention(query, regions)
    apart = attention._scores(attention.query(query).view(1, 2, -1), regions.keys)
    exact = apart.double().softmax(2)[0]
    assert bool(((exact > 0) & (exact < 1e-30)).any())
    assert torch.allclose(weights.double(), exact, atol=1e-6)
    assert bool((weights[weights > 0] > 1e-19).all())
    assert torch.allclose(weights.sum(1), torch.ones(2))
    (context.sum() * 1e-15).backward()
    assert attention.key.weight.grad is not None
    for gradient in (query.grad, attention.key.weight.grad):
        assert gradient is not None
        size = gradient.abs()
        assert bool(((size == 0) | (size > torch.finfo(torch.float32).tiny)).all())

"""Cross-entropy and scheduled sampling on networks of a few words."""

import pytest
import torch
from small_networks import FEATURES, WORDS, batch, gradient, network, worth

from captioner.model.kernels.dropout import Dropout
from captioner.training.objectives import CrossEntropy, with_drawn_words, without_dropout
from captioner.training.self_critical import (
    Sampling,
    SelfCritical,
)


def teacher_forced(captioner, data):
    torch.manual_seed(9)
    sizes = torch.tensor(data.batch_sizes)
    return captioner.loss(data.images, data.inputs, data.targets, sizes, data.rows)


def test_scheduled_sampling_at_probability_0_is_teacher_forcing_to_the_bit():
    captioner, data = network(dropout=0.5), batch()
    torch.manual_seed(9)
    objective = CrossEntropy(sampling_probability=0.5, sampling_epochs=4)
    assert [objective.probability(epoch) for epoch in (0, 2, 4, 9)] == [0, 0.25, 0.5, 0.5]
    assert CrossEntropy(sampling_probability=0.5).probability(0) == 0.5
    first = objective(captioner, data, epoch=0, step=0)
    assert torch.equal(first.mean, teacher_forced(captioner, data))
    assert torch.equal(
        gradient(captioner, first.mean), gradient(captioner, teacher_forced(captioner, data))
    )


@pytest.mark.parametrize("attention", ["soft", "spatial", "adaptive"])
def test_objectives_attend(attention):
    """Captions attend to their own image: alone and in a batch they give the same."""
    captioner, data = network(attention=attention), batch(images=3)
    torch.manual_seed(4)
    images = torch.randn(3, 5, FEATURES)
    objective = SelfCritical(worth, {i: 30 + i for i in range(3)}, Sampling(4, max_length=5))
    together = objective(captioner, data._replace(images=images), epoch=0, step=8)
    alone = [
        objective(captioner, data._replace(image_ids=[i], images=images[[i]]), epoch=0, step=8)
        for i in range(3)
    ]
    value = sum(loss.mean.detach() * loss.words for loss in alone) / together.words
    torch.testing.assert_close(together.mean.detach(), value)
    drawn = CrossEntropy(sampling_probability=0.5)
    loss = drawn(captioner, data._replace(images=images), epoch=0, step=0)
    assert torch.isfinite(loss.mean)
    assert gradient(captioner, loss.mean).norm() > 0


@pytest.mark.parametrize("place", ["init", "pre", "par", "merge"])
def test_scheduled_sampling_replaces_all_but_the_first_word(place):
    captioner, data = network(place=place), batch(images=3)
    state = captioner.decoder.initial_state(data.images)
    state = tuple(tuple(t.index_select(0, data.rows) for t in part) for part in state)
    captions = len(data.rows)
    changed = torch.zeros(len(data.inputs), dtype=torch.bool)
    for seed in range(30):
        torch.manual_seed(seed)
        fed = with_drawn_words(captioner.decoder, state, data.inputs, data.batch_sizes, 0.999)
        assert torch.equal(fed[:captions], data.inputs[:captions])
        assert set(fed[captions:].tolist()) <= set(WORDS)
        changed |= fed != data.inputs
    assert bool(changed[captions:].all())
    same = with_drawn_words(captioner.decoder, state, data.inputs, data.batch_sizes, 0.0)
    assert torch.equal(same, data.inputs)


def test_no_gradient_goes_through_a_drawn_word():
    """The gradient equals that of teacher forcing with the same words."""
    captioner, data = network(), batch()
    torch.manual_seed(3)
    loss = CrossEntropy(sampling_probability=0.9)(captioner, data, epoch=0, step=0).mean
    torch.manual_seed(3)
    state = captioner.decoder.initial_state(data.images)
    state = tuple(tuple(t.index_select(0, data.rows) for t in part) for part in state)
    fed = with_drawn_words(captioner.decoder, state, data.inputs, data.batch_sizes, 0.9)
    assert not torch.equal(fed, data.inputs)
    expected = teacher_forced(captioner, data._replace(inputs=fed))
    assert torch.equal(loss, expected)
    assert torch.equal(gradient(captioner, loss), gradient(captioner, expected))


def test_without_dropout_only_dropout_is_off():
    captioner = network(dropout=0.5)
    with without_dropout(captioner.decoder):
        off = {type(m) for m in captioner.modules() if not m.training}
    assert off == {Dropout}
    captioner.eval()
    with without_dropout(captioner.decoder):
        pass
    assert not any(m.training for m in captioner.modules())

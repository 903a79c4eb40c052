"""Self-critical training on networks of a few words, where the exact gradient can be computed."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import VOCABULARY, WORDS, batch, gradient, network, worth

from captioner.decoding.hypotheses import Hypotheses
from captioner.model.cells import GRU, LSTM, Jordan
from captioner.text.vocabulary import END, PAD, START, UNKNOWN
from captioner.training.self_critical import (
    Sampling,
    SelfCritical,
    beside_the_others,
    draw,
    pack_drawn,
    policy_loss,
)


def exact(network, features, max_length):
    """Compute the expected reward by enumerating all captions, in evaluation mode."""
    network.eval()
    total = 0.0
    for image in range(len(features)):
        for length in range(max_length + 1):
            for words in itertools.product(WORDS, repeat=length):
                state, regions = network.decoder.begin(features[image : image + 1])
                probability, before = torch.ones(()), START
                for word in (*words, END)[:max_length]:
                    logits, state = network.decoder.step(torch.tensor([before]), state, regions)
                    logits = logits.clone()
                    logits[:, [PAD, START, UNKNOWN]] = float("-inf")
                    probability = probability * logits.softmax(1)[0, word]
                    before = word
                value = worth([image], [list(words)], [length < max_length])[0]
                total = total + value * probability
    network.train()
    return total


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("baseline", ["others", "greedy"])
@pytest.mark.parametrize("attention", ["none", "spatial"])
def test_the_mean_gradient_is_the_policy_gradient(dropout, baseline, attention):
    captioner, data = network(dropout=dropout, attention=attention), batch(images=2)
    data = data._replace(images=data.images[:, None] * torch.tensor([[[1.0], [-0.5], [0.2]]]))
    expected = gradient(captioner, exact(captioner, data.images, 2)) / 2  # a mean over images
    samples, rounds, found = 1000, 12, []
    objective = SelfCritical(worth, {0: 11, 1: 12}, Sampling(samples, max_length=2), baseline)
    for step in range(rounds):
        loss = objective(captioner, data, epoch=0, step=step)
        found.append(gradient(captioner, -loss.mean * loss.words / (2 * samples)))
    mean, deviation = torch.stack(found).mean(0), torch.stack(found).std(0)
    assert (mean - expected).norm() < 2.5 * (deviation / rounds**0.5).norm()
    assert (mean - expected).norm() < 0.07 * expected.norm()


def test_training_raises_the_expected_reward():
    captioner, data = network(dropout=0.2, attention="spatial"), batch(images=2)
    data = data._replace(images=data.images[:, None] * torch.tensor([[[1.0], [-0.5]]]))
    objective = SelfCritical(worth, {0: 11, 1: 12}, Sampling(5, max_length=3))
    optimizer = torch.optim.Adam(captioner.parameters(), lr=0.03)
    before = float(exact(captioner, data.images, 3).detach())
    for step in range(60):
        optimizer.zero_grad()
        objective(captioner, data, epoch=0, step=step).mean.backward()
        optimizer.step()
    after = float(exact(captioner, data.images, 3).detach())
    possible = 2 * 6 + 1  # the best caption of each image
    assert after > before + 0.5 * (possible - before)


@pytest.mark.parametrize("cell", [GRU, LSTM, lambda e, h: Jordan(e, h, VOCABULARY)])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_gradient_is_of_the_distribution_drawn_from(cell, temperature):
    """The loss of one caption is its log-probability, renormalised, at the temperature."""
    captioner, data = network(cell), batch(images=1)
    state = captioner.decoder.initial_state(data.images)
    options = replace(Sampling(4, temperature, 5), seed=3).options(0)
    found = draw(captioner, state, torch.tensor([5]), options)
    for k in range(4):
        only = torch.zeros(1, 4)
        only[0, k] = 1.0
        value, words = policy_loss(captioner.decoder, state, found, only, temperature)
        log_prob, before, own = torch.zeros(()), START, state
        length = int(found.lengths[0, k])
        for word in [*found.words[0, k, :length].tolist(), END][:5]:
            logits, own = captioner.decoder.step(torch.tensor([before]), own)
            logits = logits.clone() / temperature
            logits[:, [PAD, START, UNKNOWN]] = float("-inf")
            log_prob, before = log_prob + logits.log_softmax(1)[0, word], word
        torch.testing.assert_close(-value * words, log_prob)
        torch.testing.assert_close(
            gradient(captioner, -value * words), gradient(captioner, log_prob), atol=1e-5, rtol=1e-4
        )


def test_special_words_are_never_drawn():
    captioner, data = network(), batch(images=3)
    with torch.no_grad():
        captioner.decoder.projection.bias[[PAD, START, UNKNOWN]] = 20.0
    state = captioner.decoder.initial_state(data.images)
    found = draw(captioner, state, torch.arange(3), Sampling(50, max_length=8).options(0))
    assert set(found.words.flatten().tolist()) == {END, *WORDS}
    loss, _ = policy_loss(captioner.decoder, state, found, torch.ones(3, 50))
    (of_bias,) = torch.autograd.grad(loss, captioner.decoder.projection.bias)
    assert torch.isfinite(loss)
    assert of_bias[[PAD, START, UNKNOWN]].tolist() == [0.0] * 3


def test_words_after_the_end_change_nothing_and_words_are_counted():
    captioner, data = network(), batch(images=2)
    state = captioner.decoder.initial_state(data.images)
    found = draw(captioner, state, torch.arange(2), Sampling(6, max_length=4).options(0))
    advantages = torch.randn(2, 6)
    place = torch.arange(4).expand_as(found.words)
    changed = torch.where(place > found.lengths.unsqueeze(2), 5, found.words)
    assert not torch.equal(changed, found.words)
    other = replace(found, words=changed)
    one, words = policy_loss(captioner.decoder, state, found, advantages)
    two, same = policy_loss(captioner.decoder, state, other, advantages)
    assert torch.equal(one, two)
    assert words == same == int((found.lengths + 1).clamp(max=4).sum())


@settings(deadline=None, max_examples=30)
@given(
    lengths=st.lists(st.lists(st.integers(0, 4), min_size=2, max_size=2), min_size=1, max_size=4)
)
def test_samples_are_packed_like_true_captions(lengths):
    """Every caption is fed and predicted as a caption of the data would be."""
    most = 4
    lengths = torch.tensor(lengths)
    words = torch.randint(4, 9, (*lengths.shape, most))
    place = torch.arange(most).expand_as(words)
    words = torch.where(place < lengths.unsqueeze(2), words, END)
    nothing = torch.zeros(lengths.shape)
    packed = pack_drawn(Hypotheses(words, lengths, nothing, nothing, nothing))
    fed, predicted = {}, {}
    begin = 0
    for size in packed.batch_sizes:
        for i in range(begin, begin + size):
            caption = int(packed.caption[i])
            fed.setdefault(caption, []).append(int(packed.inputs[i]))
            predicted.setdefault(caption, []).append(int(packed.targets[i]))
        begin += size
    assert begin == len(packed.inputs)
    assert packed.batch_sizes == sorted(packed.batch_sizes, reverse=True)
    for caption, (row, length) in enumerate(
        zip(words.flatten(0, 1), lengths.flatten(), strict=True)
    ):
        whole = [*row[: int(length)].tolist(), END][:most]
        assert predicted[caption] == whole
        assert fed[caption] == [START, *whole[:-1]]
    assert packed.rows.tolist() == [i // 2 for i in packed.caption[: len(packed.rows)].tolist()]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.floats(0, 10), min_size=3, max_size=3), min_size=1, max_size=4))
def test_the_baseline_is_the_mean_of_the_others(rewards):
    rewards = np.array(rewards)
    advantages = beside_the_others(rewards)
    np.testing.assert_allclose(advantages.sum(1), 0, atol=1e-9)
    for k in range(3):
        others = np.delete(rewards, k, axis=1).mean(1)
        np.testing.assert_allclose(advantages[:, k], rewards[:, k] - others, atol=1e-9)


@pytest.mark.parametrize("baseline", ["others", "greedy"])
@pytest.mark.parametrize("value", [0.0, 0.1, 3.7])
def test_equal_rewards_give_no_gradient(baseline, value):
    def same(images, captions, ended):
        return np.full(len(captions), value)

    captioner, data = network(), batch(images=3)
    objective = SelfCritical(same, {0: 0, 1: 1, 2: 2}, Sampling(5), baseline)
    assert gradient(captioner, objective(captioner, data, epoch=0, step=0).mean).abs().max() == 0


def test_a_process_gets_its_share_of_the_gradient():
    """The same photos and samples on one process or two: the sums over words are the same."""
    captioner, data = network(dropout=0.4), batch(images=4)
    objective = SelfCritical(worth, {i: 30 + i for i in range(4)}, Sampling(3, max_length=4))
    together = objective(captioner, data, epoch=0, step=8)
    shares = []
    for rank in range(2):
        mine = list(range(4))[rank::2]
        part = data._replace(image_ids=mine, images=data.images[mine])
        shares.append(objective(captioner, part, epoch=0, step=8))
    assert sum(share.words for share in shares) == together.words
    summed = sum(gradient(captioner, share.mean) * share.words for share in shares)
    torch.testing.assert_close(
        summed / together.words, gradient(captioner, together.mean), atol=1e-6, rtol=1e-4
    )
    nobody = objective(captioner, data._replace(image_ids=[]), epoch=0, step=8)
    assert nobody.words == 0


def test_other_steps_draw_other_captions_and_no_generator_is_used():
    captioner, data = network(dropout=0.4), batch(images=2)
    objective = SelfCritical(worth, {0: 0, 1: 1}, Sampling(40, max_length=4))
    before = torch.get_rng_state()
    values = [float(objective(captioner, data, epoch=0, step=n).mean.detach()) for n in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert torch.equal(before, torch.get_rng_state())
    assert all(m.training for m in captioner.modules())


def test_a_backward_decoder_is_rewarded_for_captions_in_reading_order():
    seen = []

    def noted(images, captions, ended):
        seen.append(captions)
        return worth(images, captions, ended)

    captioner, data = network(seed=2), batch(images=1)
    with torch.no_grad():  # close to chance, so that captions are of both words
        captioner.decoder.projection.weight.mul_(0.1)
        captioner.decoder.projection.bias.zero_()
    for captioner.backward in (False, True):
        SelfCritical(noted, {0: 0}, Sampling(20))(captioner, data, epoch=0, step=0)
    assert seen[0] == [caption[::-1] for caption in seen[1]]
    assert seen[0] != seen[1]


@pytest.mark.parametrize("attention", ["soft", "spatial", "adaptive"])
@pytest.mark.parametrize("baseline", ["others", "greedy"])
def test_keys_are_projected_once_an_image_for_drawing_baseline_and_gradient(attention, baseline):
    captioner, data = network(attention=attention, dropout=0.3), batch(images=3)
    data = data._replace(images=torch.randn(3, 5, data.images.shape[1]))
    rows = []
    captioner.decoder.attention.key.register_forward_hook(lambda _, x, __: rows.append(len(x[0])))
    objective = SelfCritical(worth, {0: 0, 1: 1, 2: 2}, Sampling(6, max_length=4), baseline)
    objective(captioner, data, epoch=0, step=0).mean.backward()
    assert rows == [3 * 5]

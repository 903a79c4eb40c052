"""The decoder's contract: step equals unroll, padding and image copies never enter the products."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.model.cells import GRU, LSTM
from captioner.model.decoder import Decoder, select_rows


def make(kind: type, layers: int = 1, dropout: float = 0.0) -> Decoder:
    torch.manual_seed(0)
    return Decoder(
        vocab_size=11,
        feature_size=6,
        cell=kind,
        embedding_size=5,
        hidden_size=7,
        layers=layers,
        dropout=dropout,
    )


@pytest.mark.parametrize("kind", [LSTM, GRU])
@pytest.mark.parametrize("layers", [1, 3])
def test_step_by_step_equals_unroll(kind: type, layers: int) -> None:
    decoder = make(kind, layers).eval()
    batch_sizes = [3, 3, 2, 1]
    words = torch.randint(0, 11, (9,))
    state = decoder.initial_state(torch.randn(3, 6))
    logits = decoder.projection(decoder.unroll(words, torch.tensor(batch_sizes), state))
    for now, expected in zip(words.split(batch_sizes), logits.split(batch_sizes), strict=True):
        state = select_rows(state, torch.arange(len(now)))
        step_logits, state = decoder.step(now, state)
        torch.testing.assert_close(step_logits, expected)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_image_decides_the_state(kind: type) -> None:
    decoder = make(kind).eval()
    one, two = torch.randn(1, 6), torch.randn(1, 6)
    a, b = decoder.initial_state(one), decoder.initial_state(two)
    assert len(a) == 1
    assert len(a[0]) == decoder.cells[0].n_states
    assert all(s.shape == (1, 7) for s in a[0])
    assert not torch.allclose(a[0][0], b[0][0])


def test_grid_is_averaged() -> None:
    decoder = make(GRU).eval()
    grid = torch.randn(2, 9, 6)
    torch.testing.assert_close(
        decoder.initial_state(grid)[0][0], decoder.initial_state(grid.mean(1))[0][0]
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_cross_entropy_of_the_logits(smoothing: float) -> None:
    decoder = make(LSTM)
    outputs, targets = torch.randn(4, 7), torch.tensor([1, 5, 0, 10])
    expected = F.cross_entropy(decoder.projection(outputs), targets, label_smoothing=smoothing)
    torch.testing.assert_close(decoder.loss(outputs, targets, smoothing), expected)


def test_loss_without_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(F, "linear_cross_entropy", raising=False)
    test_loss_is_cross_entropy_of_the_logits(0.1)


def test_select_rows_repeats_an_image_for_its_captions() -> None:
    state = make(LSTM, layers=2).eval().initial_state(torch.randn(2, 6))
    rows = select_rows(state, torch.tensor([0, 0, 1]))
    for before, after in zip(state, rows, strict=True):
        for x, y in zip(before, after, strict=True):
            assert torch.equal(y, x[[0, 0, 1]])


def test_dropout_is_active_in_training_alone() -> None:
    decoder = make(GRU, dropout=0.5)
    words, features = torch.randint(0, 11, (5,)), torch.randn(2, 6)

    def outputs() -> Tensor:
        return decoder.unroll(words, torch.tensor([2, 2, 1]), decoder.initial_state(features))

    assert not torch.equal(outputs(), outputs())
    decoder.eval()
    assert torch.equal(outputs(), outputs())

"""Cells against torch's own modules, against finite differences, and step against unroll."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captioner.model.cells import GRU, LSTM, Cell

CELLS = [LSTM, GRU]


def first_state(cell: Cell, batch: int, hidden: int) -> tuple[Tensor, ...]:
    return tuple(torch.randn(batch, hidden, dtype=torch.float64) for _ in range(cell.n_states))


@pytest.mark.parametrize("kind", CELLS)
@settings(deadline=None, max_examples=20)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    size=st.integers(1, 5),
    hidden=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_step_by_step_equals_unroll(
    kind: type, lengths: list[int], size: int, hidden: int, seed: int
) -> None:
    torch.manual_seed(seed)
    cell = kind(size, hidden).double()
    batch_sizes = [sum(length > t for length in lengths) for t in range(max(lengths))]
    xs = torch.randn(sum(lengths), size, dtype=torch.float64)
    state = first_state(cell, len(lengths), hidden)
    unrolled = cell.unroll(xs, torch.tensor(batch_sizes), state)
    assert unrolled.shape == (sum(lengths), hidden)
    steps = zip(xs.split(batch_sizes), unrolled.split(batch_sizes), strict=True)
    for x, expected in steps:
        h, state = cell.step(x, tuple(s[: len(x)] for s in state))
        torch.testing.assert_close(h, expected)
        assert torch.equal(state[0], h)


@pytest.mark.parametrize("kind", CELLS)
def test_gradients_equal_finite_differences(kind: type) -> None:
    torch.manual_seed(0)
    cell = kind(3, 2).double()
    xs = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    state = tuple(s.requires_grad_() for s in first_state(cell, 2, 2))

    def hidden_states(xs: Tensor, *state: Tensor) -> Tensor:
        return cell.unroll(xs, torch.tensor([2, 2, 1]), state)

    assert torch.autograd.gradcheck(hidden_states, (xs, *state))


def test_lstm_is_torchs_cell() -> None:
    torch.manual_seed(0)
    ours, theirs = LSTM(3, 4), nn.LSTMCell(3, 4)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        other.data.copy_(mine)
    x, h, c = torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4)
    hidden, (_, cell) = ours.step(x, (h, c))
    expected_hidden, expected_cell = theirs(x, (h, c))
    torch.testing.assert_close(hidden, expected_hidden)
    torch.testing.assert_close(cell, expected_cell)


def test_gru_is_torchs_cell() -> None:
    torch.manual_seed(0)
    ours, theirs = GRU(3, 4), nn.GRUCell(3, 4)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        other.data.copy_(mine)
    x, h = torch.randn(2, 3), torch.randn(2, 4)
    torch.testing.assert_close(ours.step(x, (h,))[0], theirs(x, h))


def test_lstm_equations_by_hand() -> None:
    """One unit, all weights 1 and biases 0 but the forget gate's 1; x = 0.5, h = 0.1, c = 0.2."""
    cell = LSTM(1, 1)
    for name, weight in cell.recurrence.named_parameters():
        if name.startswith("weight"):
            weight.data.fill_(1.0)
    h, (_, c) = cell.step(torch.tensor([[0.5]]), (torch.tensor([[0.1]]), torch.tensor([[0.2]])))
    # s(0.6) = 0.645656, s(1.6) = 0.832018, tanh(0.6) = 0.537050, tanh(0.513153) = 0.472397
    assert c.item() == pytest.approx(0.832018 * 0.2 + 0.645656 * 0.537050, abs=1e-5)
    assert h.item() == pytest.approx(0.645656 * 0.472397, abs=1e-5)


def test_the_gate_that_keeps_the_state_starts_open() -> None:
    h = torch.ones(1, 4)
    kept, _ = GRU(3, 4).step(torch.zeros(1, 3), (h,))
    assert kept.min() > 0.75  # s(2) = 0.88 of it, and something of a candidate


def test_starting_weights() -> None:
    cell = LSTM(6, 4)
    w_hh = dict(cell.recurrence.named_parameters())["weight_hh_l0"]
    for gate in w_hh.split(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(4), atol=1e-5, rtol=0)
    biases = sum(b for n, b in cell.recurrence.named_parameters() if n.startswith("bias"))
    assert isinstance(biases, Tensor)
    assert biases.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8  # gates i, f, c, o

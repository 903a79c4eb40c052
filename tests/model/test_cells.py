"""Cells against torch's modules, numbers worked by hand and finite differences."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from captioner.model.cells import (
    GRU,
    LSTM,
    Cell,
    DeepTransition,
    Elman,
    Jordan,
    PeepholeLSTM,
    ResetBeforeGRU,
)


def deep(kind: type, input_size: int, hidden_size: int) -> Cell:
    return DeepTransition(kind(input_size, hidden_size), hidden_size, 2)


MAKERS: dict[str, Callable[[int, int], Cell]] = {
    "Elman tanh": Elman,
    "Elman relu": partial(Elman, activation="relu"),
    "Elman logistic": partial(Elman, activation="logistic"),
    "LSTM": LSTM,
    "peephole LSTM": PeepholeLSTM,
    "GRU": GRU,
    "GRU, reset before": ResetBeforeGRU,
    "deep Elman": partial(deep, Elman),
    "deep LSTM": partial(deep, LSTM),
    "deep GRU": partial(deep, GRU),
}
cells = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def with_random_vectors(cell: Cell) -> Cell:
    """Biases and peepholes that do something, for they start at 0."""
    for weight in cell.parameters():
        if weight.dim() == 1:
            nn.init.normal_(weight)
    return cell


def first_state(cell: Cell, batch: int, hidden: int) -> tuple[Tensor, ...]:
    return tuple(torch.randn(batch, hidden, dtype=torch.float64) for _ in range(cell.n_states))


@cells
@settings(deadline=None, max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    size=st.integers(1, 5),
    hidden=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_step_by_step_equals_unroll(
    make: Callable[[int, int], Cell], lengths: list[int], size: int, hidden: int, seed: int
) -> None:
    torch.manual_seed(seed)
    cell = with_random_vectors(make(size, hidden)).double()
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
        assert len(state) == cell.n_states


@cells
def test_gradients_equal_finite_differences(make: Callable[[int, int], Cell]) -> None:
    torch.manual_seed(0)
    cell = with_random_vectors(make(3, 2)).double()
    xs = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    state = tuple(s.requires_grad_() for s in first_state(cell, 2, 2))
    weights = tuple(cell.parameters())

    def hidden_states(xs: Tensor, *rest: Tensor) -> Tensor:
        return cell.unroll(xs, torch.tensor([2, 2, 1]), rest[: len(state)])

    assert torch.autograd.gradcheck(hidden_states, (xs, *state, *weights))


def copy_weights(ours: Cell, theirs: nn.Module) -> None:
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        other.data.copy_(mine)


def test_lstm_is_torchs_cell() -> None:
    torch.manual_seed(0)
    ours, theirs = with_random_vectors(LSTM(3, 4)), nn.LSTMCell(3, 4)
    copy_weights(ours, theirs)
    x, h, c = torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4)
    hidden, (_, cell) = ours.step(x, (h, c))
    expected_hidden, expected_cell = theirs(x, (h, c))
    torch.testing.assert_close(hidden, expected_hidden)
    torch.testing.assert_close(cell, expected_cell)


def test_gru_is_torchs_cell() -> None:
    torch.manual_seed(0)
    ours, theirs = with_random_vectors(GRU(3, 4)), nn.GRUCell(3, 4)
    copy_weights(ours, theirs)
    x, h = torch.randn(2, 3), torch.randn(2, 4)
    torch.testing.assert_close(ours.step(x, (h,))[0], theirs(x, h))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_elman_is_torchs_cell(activation: str) -> None:
    torch.manual_seed(0)
    ours = with_random_vectors(Elman(3, 4, activation))  # type: ignore[arg-type]
    theirs = nn.RNNCell(3, 4, nonlinearity=activation)
    copy_weights(ours, theirs)
    x, h = torch.randn(2, 3), torch.randn(2, 4)
    torch.testing.assert_close(ours.step(x, (h,))[0], theirs(x, h))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["torch", "oneDNN"])
@pytest.mark.parametrize("kind", [LSTM, GRU])
@settings(deadline=None, max_examples=25)
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_gradients_through_time_are_torchs(
    kind: type, dtype: torch.dtype, lengths: list[int], seed: int
) -> None:
    """What is derived by hand for the CPU against autograd through torch's own unroll.

    In float32, as in training, oneDNN multiplies.
    """
    torch.manual_seed(seed)
    cell = with_random_vectors(kind(3, 4)).to(dtype)
    sizes = torch.tensor([sum(n > t for n in lengths) for t in range(max(lengths))])
    xs = torch.randn(sum(lengths), 3, dtype=dtype, requires_grad=True)
    state = tuple(h.to(dtype).requires_grad_() for h in first_state(cell, len(lengths), 4))
    close = {} if dtype == torch.float64 else {"atol": 1e-4, "rtol": 1e-4}
    first = state[0][None] if kind is GRU else tuple(h[None] for h in state)
    theirs = cell.recurrence(PackedSequence(xs, sizes), first)[0].data
    ours = cell.unroll(xs, sizes, state)
    torch.testing.assert_close(ours, theirs, **close)
    weights = (xs, *state, *cell.parameters())
    upstream = torch.randn_like(ours)
    for mine, other in zip(
        torch.autograd.grad(ours, weights, upstream),
        torch.autograd.grad(theirs, weights, upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, **close)


def test_mixed_precision_unrolls() -> None:
    xs, state = torch.randn(3, 3), (torch.randn(2, 4),)
    cell = GRU(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = cell.unroll(xs, torch.tensor([2, 1]), state)
    torch.testing.assert_close(
        mixed.float(), cell.unroll(xs, torch.tensor([2, 1]), state), atol=0.05, rtol=0.05
    )


def test_peephole_lstm_without_peepholes_is_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = with_random_vectors(PeepholeLSTM(3, 4)), nn.LSTMCell(3, 4)
    assert isinstance(ours, PeepholeLSTM)
    for peephole in (ours.peephole_input, ours.peephole_forget, ours.peephole_output):
        nn.init.zeros_(peephole)
    theirs.weight_ih.data.copy_(ours.weight_ih)
    theirs.weight_hh.data.copy_(ours.weight_hh)
    theirs.bias_ih.data.copy_(ours.bias)
    nn.init.zeros_(theirs.bias_hh)
    x, h, c = torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4)
    _, state = ours.step(x, (h, c))
    torch.testing.assert_close(state, theirs(x, (h, c)))


def test_reset_before_and_after_agree_where_nothing_is_reset() -> None:
    """With the reset gate wide open the two forms of the GRU are one function."""
    torch.manual_seed(0)
    after, before = GRU(3, 4), ResetBeforeGRU(3, 4)
    w, u, b, _ = after.recurrence.all_weights[0]
    nn.init.constant_(b.detach()[:4], 50.0)
    before.weight_ih.data.copy_(w)
    before.weight_hh.data.copy_(u)
    before.bias.data.copy_(b)
    x, h = torch.randn(2, 3), torch.randn(2, 4)
    torch.testing.assert_close(before.step(x, (h,))[0], after.step(x, (h,))[0])


def s(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def ones(cell: Cell) -> Cell:
    """All matrices and peepholes 1, biases as they start."""
    for name, weight in cell.named_parameters():
        if weight.dim() > 1 or "peephole" in name:
            weight.data.fill_(1.0)
    return cell


def scalar(value: float) -> Tensor:
    return torch.tensor([[value]])


def test_lstm_equations_by_hand() -> None:
    """One unit, all weights 1 and biases 0 but the forget gate's 1; x = 0.5, h = 0.1, c = 0.2."""
    h, (_, c) = ones(LSTM(1, 1)).step(scalar(0.5), (scalar(0.1), scalar(0.2)))
    # s(0.6) = 0.645656, s(1.6) = 0.832018, tanh(0.6) = 0.537050, tanh(0.513153) = 0.472397
    assert c.item() == pytest.approx(0.832018 * 0.2 + 0.645656 * 0.537050, abs=1e-5)
    assert h.item() == pytest.approx(0.645656 * 0.472397, abs=1e-5)


def test_peephole_lstm_equations_by_hand() -> None:
    """The same numbers with peepholes of 1: i and f see c = 0.2, o sees the new cell."""
    h, (_, c) = ones(PeepholeLSTM(1, 1)).step(scalar(0.5), (scalar(0.1), scalar(0.2)))
    new = s(0.6 + 0.2 + 1) * 0.2 + s(0.6 + 0.2) * math.tanh(0.6)
    assert c.item() == pytest.approx(new, abs=1e-6)
    assert h.item() == pytest.approx(s(0.6 + new) * math.tanh(new), abs=1e-6)


def test_reset_before_gru_equations_by_hand() -> None:
    """x = 0.5, h = 0.1, the update gate's bias 2."""
    h, _ = ones(ResetBeforeGRU(1, 1)).step(scalar(0.5), (scalar(0.1),))
    r, z = s(0.6), s(2.6)
    assert h.item() == pytest.approx((1 - z) * math.tanh(0.5 + r * 0.1) + z * 0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("activation", "f"),
    [("tanh", math.tanh), ("relu", lambda x: max(x, 0.0)), ("logistic", s)],
)
def test_elman_by_hand(activation: str, f: Callable[[float], float]) -> None:
    """Two steps with W = 1, U = 1: h_2 = f(x_2 + f(x_1 + h_0))."""
    cell = ones(Elman(1, 1, activation))  # type: ignore[arg-type]
    hidden = cell.unroll(torch.tensor([[0.5], [-0.2]]), torch.tensor([1, 1]), (scalar(0.1),))
    assert hidden.flatten().tolist() == pytest.approx([f(0.6), f(-0.2 + f(0.6))], abs=1e-6)


def test_jordan_by_hand() -> None:
    """h_1 = tanh(W x + U y_0); the state that follows is U y_1, whatever h_1 was."""
    cell = Jordan(1, 1, output_size=3)
    cell.input.weight.data.fill_(1.0)
    cell.feedback.data.copy_(torch.tensor([[1.0], [-1.0], [3.0]]))
    h, state = cell.step(scalar(0.5), (scalar(0.1),))
    assert h.item() == pytest.approx(math.tanh(0.6), abs=1e-6)
    (fed,) = cell.feed_back(torch.tensor([[0.2, 0.5, 0.3]]), state)
    assert fed.item() == pytest.approx(0.2 - 0.5 + 0.9, abs=1e-6)
    (certain,) = cell.feed_back_words(torch.tensor([2]), state)
    assert certain.item() == pytest.approx(3.0)


def test_jordan_certain_of_a_word_is_fed_that_word() -> None:
    torch.manual_seed(0)
    cell = DeepTransition(Jordan(2, 4, output_size=5), 4, 1)
    _, state = cell.step(torch.randn(2, 2), (torch.zeros(2, 4),))
    y = torch.eye(5)[[1, 4]]
    torch.testing.assert_close(
        cell.feed_back(y, state), cell.feed_back_words(torch.tensor([1, 4]), state)
    )


def test_deep_transition_by_hand() -> None:
    """h = tanh(D tanh(x + h_0)) with D = 2, and the LSTM's c passes by."""
    elman = DeepTransition(ones(Elman(1, 1)), 1, 1)
    elman.transition[0].weight.data.fill_(2.0)
    h, _ = elman.step(scalar(0.5), (scalar(0.1),))
    assert h.item() == pytest.approx(math.tanh(2 * math.tanh(0.6)), abs=1e-6)
    inner = ones(LSTM(1, 1))
    state = (scalar(0.1), scalar(0.2))
    _, (_, c) = DeepTransition(inner, 1, 2).step(scalar(0.5), state)
    assert torch.equal(c, inner.step(scalar(0.5), state)[1][1])


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (LSTM, {"input", "forget", "output"}),
        (PeepholeLSTM, {"input", "forget", "output"}),
        (GRU, {"reset", "update"}),
        (ResetBeforeGRU, {"reset", "update"}),
        (Elman, set()),
    ],
)
def test_gates_are_those_of_the_step(kind: type, names: set[str]) -> None:
    """What `gates` tells must rebuild what `step` does."""
    torch.manual_seed(0)
    cell = with_random_vectors(kind(3, 4))
    x, state = torch.randn(2, 3), tuple(torch.randn(2, 4) for _ in range(cell.n_states))
    gates = cell.gates(x, state)
    assert set(gates) == names
    h, new = cell.step(x, state)
    if "output" in gates:
        torch.testing.assert_close(h, gates["output"] * new[1].tanh())
        candidate = (new[1] - gates["forget"] * state[1]) / gates["input"]
        assert candidate.abs().max() <= 1 + 1e-4
    if "update" in gates:
        candidate = (h - gates["update"] * state[0]) / (1 - gates["update"])
        assert candidate.abs().max() <= 1 + 1e-4


def test_the_gate_that_keeps_the_state_starts_open() -> None:
    h = torch.ones(1, 4)
    for kind in (GRU, ResetBeforeGRU):
        kept, _ = kind(3, 4).step(torch.zeros(1, 3), (h,))
        assert kept.min() > 0.75  # s(2) = 0.88 of it, and something of a candidate
    for kind in (LSTM, PeepholeLSTM):
        gates = kind(3, 4).gates(torch.zeros(1, 3), (torch.zeros(1, 4), torch.zeros(1, 4)))
        torch.testing.assert_close(gates["forget"], torch.full((1, 4), s(1.0)))


def test_starting_weights() -> None:
    cell = LSTM(6, 4)
    w_hh = dict(cell.recurrence.named_parameters())["weight_hh_l0"]
    for gate in w_hh.split(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(4), atol=1e-5, rtol=0)
    biases = sum(b for n, b in cell.recurrence.named_parameters() if n.startswith("bias"))
    assert isinstance(biases, Tensor)
    assert biases.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8  # gates i, f, c, o

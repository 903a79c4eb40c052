"""Products and their gradients are those of torch, whoever multiplies."""

import pytest
import torch
from torch import nn

from captioner.model.cells import GRU, LSTM
from captioner.model.kernels.linear import Linear, onednn_multiplies, rounded


def layers(inputs: int, outputs: int) -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    ours, theirs = Linear(inputs, outputs), nn.Linear(inputs, outputs)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("rows", [0, 1, 5, 16, 17, 33, 600])
def test_the_product_is_torchs_to_rounding(rows: int) -> None:
    ours, theirs = layers(24, 37)
    x = torch.randn(rows, 48)[:, ::2]  # not contiguous
    with torch.inference_mode():
        assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    with torch.no_grad():
        out = ours(x)
    assert out.layout == torch.strided
    assert torch.equal(out + 1, out + 1)  # a plain tensor, fit for anything


@pytest.mark.parametrize("wanted", ["both", "rows", "weight"])
def test_gradients_are_torchs_to_rounding(wanted: str) -> None:
    ours, theirs = layers(24, 37)
    found = []
    for layer in (ours, theirs):
        layer.weight.requires_grad_(wanted != "rows")
        x = torch.arange(120.0).view(5, 24).sin().requires_grad_(wanted != "weight")
        layer(x).square().sum().backward()
        found.append((x.grad, layer.weight.grad, layer.bias.grad))
    for mine, other in zip(*found, strict=True):
        if other is None:
            assert mine is None
        else:
            assert torch.allclose(mine, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cell", [LSTM, GRU])
def test_a_step_of_a_cell_is_torchs_to_rounding(cell: type[LSTM | GRU]) -> None:
    torch.manual_seed(0)
    layer = cell(24, 16)
    for weight in layer.parameters():
        nn.init.normal_(weight)
    x = torch.randn(7, 24)
    state = tuple(torch.randn(7, 16) for _ in range(layer.n_states))
    kernel = torch.lstm_cell if cell is LSTM else torch.gru_cell
    weights = layer.recurrence.all_weights[0]
    by_torch = kernel(x, state if cell is LSTM else state[0], *weights)
    by_torch = by_torch if cell is LSTM else (by_torch,)
    by_onednn = layer.step(x, state)[1]
    for ours, theirs in zip(by_onednn, by_torch, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_batches_share_few_shapes() -> None:
    """Each shape costs oneDNN memory and time, and batches of captions have a thousand."""
    lengths = {len(rounded(torch.zeros(rows, 2))) for rows in range(1, 4097)}
    assert len(lengths) < 150
    for rows in (1, 16, 17, 100, 1000, 1730):
        x = torch.randn(rows, 2)
        assert torch.equal(rounded(x)[:rows], x)
        assert rounded(x)[rows:].abs().sum() == 0
        assert len(rounded(x)) <= max(rows + 15, rows * 17 / 16)


def test_what_onednn_leaves_to_torch() -> None:
    with torch.no_grad():
        assert onednn_multiplies(torch.randn(2, 3)) == torch.backends.mkldnn.is_available()
        assert not onednn_multiplies(torch.randn(2, 3, dtype=torch.float64))
        assert not onednn_multiplies(torch.randn(2, 3, 4))
        assert not onednn_multiplies(torch.randn(0, 3))
        with torch.autocast("cpu", torch.bfloat16):
            assert not onednn_multiplies(torch.randn(2, 3))
    ours, theirs = layers(4, 6)
    x = torch.randn(2, 3, 4)
    with torch.inference_mode():
        assert torch.equal(ours(x), theirs(x))


def test_it_can_be_exported() -> None:
    ours, theirs = layers(4, 6)
    x = torch.randn(2, 4)
    with torch.no_grad():
        exported = torch.export.export(ours, (x,))
        assert torch.allclose(exported.module()(x), theirs(x), atol=1e-6)

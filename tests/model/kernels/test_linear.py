"""Products and their gradients are those of torch, whoever multiplies."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from captioner.errors import CaptionerError
from captioner.model.cells import GRU, LSTM
from captioner.model.kernels import all_steps
from captioner.model.kernels import linear as products
from captioner.model.kernels.all_steps import one_gradient_for_all_steps
from captioner.model.kernels.linear import (
    FewRows,
    FixedWeights,
    Linear,
    library,
    linear,
    onednn_multiplies,
    onednn_wins,
    processor,
    rounded,
    sum_of_products,
    use_library,
    weights_fixed,
)


@pytest.fixture(params=["mkl", "onednn"], autouse=True)
def multiplied_by(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test, with either library."""
    use_library(request.param)
    yield request.param
    use_library(None)


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


@pytest.mark.parametrize(
    ("maker", "faster"), [("GenuineIntel", "mkl"), ("AuthenticAMD", "onednn"), ("", "onednn")]
)
def test_the_maker_of_the_processor_decides(
    maker: str, faster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "processor", lambda: maker)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    products.faster_library.cache_clear()
    use_library(None)
    assert library() == faster
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    products.faster_library.cache_clear()
    assert library() == "onednn"
    products.faster_library.cache_clear()


def test_the_maker_is_read_from_the_system(tmp_path: Path) -> None:
    known = tmp_path / "cpuinfo"
    known.write_text("processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: a: b\n")
    assert processor(known) == "GenuineIntel"
    known.write_bytes(b"\xff: \xfe\n")  # as on processors that name no vendor
    assert isinstance(processor(known), str)
    assert isinstance(processor(tmp_path / "absent"), str)


def test_only_libraries_that_exist_can_be_chosen() -> None:
    with pytest.raises(CaptionerError, match="'blas' is not one of mkl, onednn"):
        use_library("blas")


@pytest.mark.parametrize(("rows", "outputs"), [(3, 3000), (5, 3000), (15, 2500), (30, 2501)])
def test_rows_of_a_search_are_torchs_to_rounding(rows: int, outputs: int) -> None:
    ours, theirs = layers(24, outputs)
    x = torch.randn(rows, 24)
    with torch.inference_mode():
        assert torch.allclose(ours(x), theirs(x), atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "outputs", "wins"),
    [
        (5, 9488, True),
        (15, 2543, True),
        (320, 9488, True),
        (3, 9488, False),
        (5, 2543, False),
        (613, 9488, False),
        (50, 2048, False),
    ],
)
def test_few_rows_of_many_outputs_are_onednns(rows: int, outputs: int, wins: bool) -> None:
    assert onednn_wins(rows, outputs) == wins


@pytest.mark.parametrize(("rows", "left", "right"), [(1, 3, 5), (17, 40, 8), (60, 8, 40)])
def test_sums_of_products_are_torchs_to_rounding(rows: int, left: int, right: int) -> None:
    a, b = torch.randn(rows, left), torch.randn(rows, right)
    assert torch.allclose(sum_of_products(a, b), a.t() @ b, atol=1e-5)


def gradients_of_steps(shared: bool, before: str = "nothing") -> list[Tensor]:
    """Gradients of a recurrence whose weights are read at every step, one of them a slice."""
    torch.manual_seed(0)
    layer, u = Linear(6, 5), nn.Parameter(torch.randn(5, 9))
    unused = Linear(6, 5)
    xs = torch.randn(4, 3, 6, requires_grad=True)
    with one_gradient_for_all_steps() if shared else nullcontext():
        h, of_state = torch.zeros(3, 5), u[:, :5].contiguous()
        for t, x in enumerate(xs):
            n = 3 - t // 2  # rows end
            h = torch.tanh(layer(x[:n]) + linear(h[:n], of_state))
        h = h + layer.weight.sum()  # a gradient by another way, too
        unused(xs[0])
    if before == "part":  # the pass ends before the gradients of the weights
        torch.autograd.grad(h.sum(), xs, retain_graph=True)
    elif before == "all":
        h.sum().backward(retain_graph=True)
        for tensor in (layer.weight, layer.bias, u, xs):
            tensor.grad = None
    h.sum().backward()
    assert unused.weight.grad is None
    found = [tensor.grad for tensor in (layer.weight, layer.bias, u, xs)]
    return [gradient for gradient in found if gradient is not None]


@pytest.mark.parametrize("before", ["nothing", "all", "part"])
def test_one_gradient_for_all_steps_is_the_sum_of_theirs(before: str) -> None:
    ours, theirs = gradients_of_steps(True, before), gradients_of_steps(False)
    assert len(ours) == len(theirs) == 4
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def test_frozen_weights_of_steps_get_no_gradient() -> None:
    layer = Linear(6, 5).requires_grad_(False)
    x = torch.randn(3, 6, requires_grad=True)
    with one_gradient_for_all_steps():
        layer(x).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, layer.weight.sum(0).expand(3, 6), atol=1e-6)
    assert layer.weight.grad is None


@pytest.mark.parametrize("view", ["transposed", "slice"])
def test_views_made_at_each_step_share_one_gradient(view: str) -> None:
    """A new view at each step is the same weight: its gradient is one product over all steps."""
    u = nn.Parameter(torch.randn(7, 5) if view == "transposed" else torch.randn(12, 7))
    xs = torch.randn(4, 3, 7)

    def weight() -> Tensor:
        return u.t() if view == "transposed" else u[:5]

    with one_gradient_for_all_steps():
        ys = [linear(x, weight()) for x in xs]
        assert len(all_steps._shared.get() or {}) == 1
    torch.cat(ys).square().sum().backward()
    ours, u.grad = u.grad, None
    (xs.flatten(0, 1) @ weight().t()).square().sum().backward()
    assert ours is not None
    assert u.grad is not None
    assert torch.allclose(ours, u.grad, atol=1e-4)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 50])
def test_few_rows_are_torchs_to_rounding(rows: int, transpose: bool) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(9, 6), torch.randn(9)
    x, gradient = torch.randn(rows, 6), torch.randn(rows, 9)
    for stored in (weight, weight.t().contiguous().t()):
        few = FewRows(stored, transpose=transpose)
        assert torch.allclose(few.forward(x), x @ weight.t(), atol=1e-5)
        assert torch.allclose(few.forward(x, bias), x @ weight.t() + bias, atol=1e-5)
        assert torch.allclose(few.back(gradient), gradient @ weight, atol=1e-5)
        few = FewRows(stored, bias, transpose=transpose)
        assert torch.allclose(few.forward(x), x @ weight.t() + bias, atol=1e-5)
        assert torch.allclose(few.back(gradient), gradient @ weight, atol=1e-5)


def test_fixed_weights_keep_their_layouts_and_nothing_else() -> None:
    """Parameters are laid out once; other weights and rows with gradients are left alone."""
    layer, x = Linear(6, 9), torch.randn(5, 6)
    layouts: FixedWeights = {}
    with weights_fixed(layouts):
        with torch.no_grad():
            found = [layer(x), layer(x), linear(x, layer.weight[:4])]
            without_bias = linear(x, layer.weight)
            for i in range(20):  # a bias that is no parameter may change, also at one address
                shifted = linear(x, layer.weight, layer.bias + float(i))
                assert torch.allclose(shifted, found[0] + i, atol=1e-4)
        layer(x).sum().backward()
    assert len(layouts) == 2  # with its bias and without
    assert torch.allclose(without_bias, found[0] - layer.bias, atol=1e-5)
    assert layer.weight.grad is not None
    whole = nn.functional.linear(x, layer.weight, layer.bias)
    for one, wanted in zip(found, (whole, whole, x @ layer.weight[:4].t()), strict=True):
        assert torch.allclose(one, wanted, atol=1e-5)

"""Additive scores equal the sums written out, with and without padded queries."""

import pytest
import torch
from torch import Tensor

from captioner.model.kernels import additive_scores as kernel
from captioner.model.kernels.additive_scores import additive_scores

COUNTS = [3, 0, 5]


@pytest.mark.parametrize("most", [1, 100, 2**18])
@pytest.mark.parametrize("counts", [None, COUNTS])
def test_scores_and_gradients_are_those_written_out(
    counts: list[int] | None, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of any size give the same; padded queries get score and gradient 0."""
    monkeypatch.setattr(kernel, "MOST", most)
    torch.manual_seed(0)
    leaves = [torch.randn(size, requires_grad=True) for size in ((3, 5, 4), (3, 6, 4), (4,))]
    is_query = torch.ones(3, 5, dtype=torch.bool)
    if counts is not None:
        is_query = torch.arange(5) < torch.tensor(counts).unsqueeze(1)
    upstream = torch.randn(3, 5, 6) * is_query.unsqueeze(2)

    def written_out(queries: Tensor, keys: Tensor, weight: Tensor) -> Tensor:
        sums = torch.tanh(queries.unsqueeze(2) + keys.unsqueeze(1)) @ weight
        return sums * is_query.unsqueeze(2)

    ours = additive_scores(*leaves, counts)
    theirs = written_out(*leaves)
    assert torch.allclose(ours, theirs, atol=1e-6)
    for mine, other in zip(
        torch.autograd.grad(ours, leaves, upstream),
        torch.autograd.grad(theirs, leaves, upstream),
        strict=True,
    ):
        assert torch.allclose(mine, other, atol=1e-5)


@pytest.mark.parametrize("size", [30.0, 50.0, 1e4])
def test_large_queries_and_keys(size: float) -> None:
    """Opposite ones cancel, where the product of their exponentials could overflow."""
    torch.manual_seed(0)
    far = torch.randn(3, 1, 4).sign() * size
    queries = (torch.randn(3, 5, 4, dtype=torch.float64) + far).requires_grad_()
    keys = (torch.randn(3, 6, 4, dtype=torch.float64) - far).requires_grad_()
    weight = torch.randn(4, dtype=torch.float64, requires_grad=True)
    leaves = [queries, keys, weight]
    theirs = torch.tanh(queries.unsqueeze(2) + keys.unsqueeze(1)) @ weight
    ours = additive_scores(*leaves)
    assert torch.allclose(ours, theirs, atol=1e-9)
    for mine, other in zip(
        torch.autograd.grad(ours.square().sum(), leaves),
        torch.autograd.grad(theirs.square().sum(), leaves),
        strict=True,
    ):
        assert torch.allclose(mine, other, atol=1e-8)


@pytest.mark.parametrize("counts", [None, COUNTS])
def test_scores_are_the_same_without_gradients(counts: list[int] | None) -> None:
    torch.manual_seed(0)
    queries, keys, weight = torch.randn(3, 5, 4), torch.randn(3, 6, 4), torch.randn(4)
    trained = additive_scores(queries.requires_grad_(), keys, weight, counts)
    with torch.no_grad():
        assert torch.allclose(additive_scores(queries, keys, weight, counts), trained, atol=1e-6)


def test_half_precision_does_not_overflow() -> None:
    """The exponential of 12 is more than float16 holds."""
    torch.manual_seed(0)
    queries, keys, weight = torch.randn(3, 5, 4) + 6, torch.randn(3, 6, 4) - 6, torch.randn(4)
    exact = additive_scores(queries, keys, weight)
    found = additive_scores(queries.half(), keys.half(), weight.half())
    assert torch.allclose(found.float(), exact, atol=0.05)


def test_mixed_precision_has_a_gradient() -> None:
    """Autocast makes queries and keys bfloat16, and leaves the weight."""
    torch.manual_seed(0)
    leaves = [torch.randn(size, requires_grad=True) for size in ((3, 5, 4), (3, 6, 4), (4,))]
    queries, keys, weight = leaves
    ours = additive_scores(queries.bfloat16(), keys.bfloat16(), weight)
    found = torch.autograd.grad(ours.float().square().sum(), leaves)
    exact = torch.autograd.grad(additive_scores(*leaves).square().sum(), leaves)
    for mine, other in zip(found, exact, strict=True):
        assert torch.allclose(mine, other, atol=0.05 * float(other.abs().max()))

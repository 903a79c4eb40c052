"""The gradient of what all steps share is the sum of what autograd finds step by step."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from captioner.model.kernels.additive_scores import additive_scores
from captioner.model.kernels.all_steps import batched_product, one_gradient_for_all_steps

ROWS = (4, 3, 3, 1)
"""Rows of each image at each step."""


def by_products(h: Tensor, keys: Tensor, weight: Tensor) -> Tensor:
    return batched_product(h * weight, keys.transpose(1, 2))


def gradients(
    score: Callable[..., Tensor], shared: bool, before: str = "nothing"
) -> tuple[Tensor, ...]:
    """Gradients of a recurrence that attends at every step, with keys that are read elsewhere."""
    torch.manual_seed(0)
    keys, values = torch.randn(2, 5, 6).requires_grad_(), torch.randn(2, 5, 6).requires_grad_()
    weight, first = torch.randn(6).requires_grad_(), torch.randn(2, 4, 6).requires_grad_()
    h = first
    with one_gradient_for_all_steps() if shared else nullcontext():
        for rows in ROWS:
            h = h[:, :rows]
            context = batched_product(score(h, keys, weight).softmax(2), values)
            h = torch.tanh(h + context)
    loss = h.square().sum() + keys.square().sum()
    leaves = keys, values, weight, first
    if before == "all":
        torch.autograd.grad(loss, leaves, retain_graph=True)
    elif before == "part":  # the pass ends before the gradients of keys and values
        torch.autograd.grad(loss, first, retain_graph=True)
    return torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("before", ["nothing", "all", "part"])
@pytest.mark.parametrize("score", [additive_scores, by_products])
def test_attention_of_all_steps(score: Callable[..., Tensor], before: str) -> None:
    """Another backward pass over the same graph, whole or in part, changes nothing."""
    ours, theirs = gradients(score, True, before), gradients(score, False)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def test_each_tensor_is_combined_once() -> None:
    """Not at each step: the big sums run once per backward pass."""
    keys = torch.randn(2, 5, 6).requires_grad_()
    with one_gradient_for_all_steps():
        ys = [batched_product(torch.randn(2, rows, 5), keys) for rows in ROWS]
    nodes = {y.grad_fn.next_functions[1][0] for y in ys if y.grad_fn is not None}
    assert len(nodes) == 1
    frozen = keys.detach()
    with one_gradient_for_all_steps():
        x = torch.randn(2, 3, 5).requires_grad_()
        batched_product(x, frozen).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, frozen.sum(2).unsqueeze(1).expand(2, 3, 5))


def test_two_weights_may_share_keys() -> None:
    torch.manual_seed(0)
    keys = torch.randn(2, 5, 6).requires_grad_()
    weights = [torch.randn(6).requires_grad_() for _ in range(2)]
    queries = [torch.randn(2, rows, 6) for rows in ROWS]

    def loss() -> Tensor:
        found = [additive_scores(q, keys, weights[t % 2]) for t, q in enumerate(queries)]
        return torch.cat(found, 1).square().sum()

    with one_gradient_for_all_steps():
        ours = torch.autograd.grad(loss(), [keys, *weights])
    theirs = torch.autograd.grad(loss(), [keys, *weights])
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, atol=1e-5)

"""Cross-entropy against torch's, in value and gradient."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.model.kernels.cross_entropy import cross_entropy


@settings(deadline=None, max_examples=40)
@given(
    words=st.integers(1, 9),
    vocabulary=st.integers(2, 20),
    scale=st.sampled_from([1e-3, 1.0, 50.0, 1e4]),
    smoothing=st.sampled_from([0.0, 0.1, 0.9]),
    seed=st.integers(0, 1000),
)
def test_is_torchs(words: int, vocabulary: int, scale: float, smoothing: float, seed: int) -> None:
    torch.manual_seed(seed)
    logits = (scale * torch.randn(words, vocabulary, dtype=torch.float64)).requires_grad_()
    targets = torch.randint(0, vocabulary, (words,))
    found, gradients = [], []
    for function in (cross_entropy, F.cross_entropy):
        loss = function(logits, targets, label_smoothing=smoothing)
        found.append(loss.detach())
        gradients.append(torch.autograd.grad(3 * loss, logits)[0])
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*gradients)


def test_gradient_by_finite_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([1, 4, 4])
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, targets, 0.1), (logits,))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(value: float) -> None:
    logits = torch.zeros(2, 3)
    logits[1, 2] = value
    assert not torch.isfinite(cross_entropy(logits, torch.tensor([0, 1])))

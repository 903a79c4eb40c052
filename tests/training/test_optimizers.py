"""Optimisers and schedules."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from captioner.training.optimizers import build_optimizer, build_schedules

PLATEAU: dict[str, Any] = {
    "monitor": "val/loss",
    "higher_is_better": False,
    "plateau_factor": 0.5,
    "plateau_patience": 0,
}


@pytest.mark.parametrize("name", ["rmsprop", "adam", "adamw", "sgd"])
def test_every_optimiser_reduces_a_loss(name: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 1)
    inputs, targets = torch.randn(32, 4), torch.randn(32, 1)
    optimizer = build_optimizer(name, layer.parameters(), learning_rate=0.02)

    def loss() -> torch.Tensor:
        return (layer(inputs) - targets).square().mean()

    before = loss().item()
    for _ in range(50):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.9 * before


def test_rmsprop_by_hand() -> None:
    """One step from 1 with gradient 2: v = 0.01 * 4, step 0.1 * 2 / sqrt(v)."""
    weight = nn.Parameter(torch.tensor(1.0))
    optimizer = build_optimizer("rmsprop", [weight], learning_rate=0.1)
    weight.grad = torch.tensor(2.0)
    optimizer.step()
    assert weight.item() == pytest.approx(1 - 0.1 * 2 / math.sqrt(0.04), abs=1e-6)


def rates(name: str, warmup: int, steps: int = 10) -> list[float]:
    optimizer = build_optimizer("sgd", nn.Linear(1, 1).parameters(), learning_rate=1.0)
    schedules = build_schedules(name, optimizer, steps=steps, warmup_steps=warmup, **PLATEAU)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for schedule in schedules:
            if schedule["interval"] == "step":
                schedule["scheduler"].step()
    return seen


def test_constant_after_warmup() -> None:
    assert rates("constant", 4) == pytest.approx([0.25, 0.5, 0.75] + [1.0] * 7)
    assert rates("constant", 0) == [1.0] * 10


def test_cosine_falls_from_the_rate_to_zero() -> None:
    seen = rates("cosine", 2)
    assert seen[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert seen[6] == pytest.approx(0.5)  # half way from step 2 to step 10
    assert seen == sorted(seen[:2]) + sorted(seen[2:], reverse=True)


def test_plateau_after_warmup() -> None:
    optimizer = build_optimizer("sgd", nn.Linear(1, 1).parameters(), learning_rate=1.0)
    rise, plateau = build_schedules("plateau", optimizer, steps=10, warmup_steps=4, **PLATEAU)
    for _ in range(6):
        optimizer.step()
        rise["scheduler"].step()  # type: ignore[call-arg]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1.0)
    assert isinstance(plateau["scheduler"], ReduceLROnPlateau)
    for value in (3.0, 3.1):
        plateau["scheduler"].step(value)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5)
    assert plateau["monitor"] == "val/loss"

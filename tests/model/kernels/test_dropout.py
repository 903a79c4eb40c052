"""Dropout: what is dropped, how the rest is scaled, and where torch's own layer is used."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.model.kernels.dropout import LEVELS, Dropout, random_levels


@settings(deadline=None)
@given(p=st.floats(0.001, 0.999), seed=st.integers(0, 2**31))
def test_units_are_dropped_with_their_probability_and_the_mean_stays(p: float, seed: int) -> None:
    torch.manual_seed(seed)
    count = 20_000
    y = Dropout(p)(torch.ones(100, 200))
    kept = int((y != 0).sum())
    deviation = math.sqrt(count * p * (1 - p))
    assert abs(kept - count * (1 - p)) < 6 * deviation
    torch.testing.assert_close(y.unique()[-1], torch.tensor(1 / (1 - p)), rtol=0.02, atol=0)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.3])
def test_the_expected_value_is_exact(p: float) -> None:
    """The scale is that of the rounded probability, not of p."""
    torch.manual_seed(0)
    scale = Dropout(p)(torch.ones(1000, dtype=torch.float64)).max()
    dropped = round(p * LEVELS) / LEVELS
    assert float(scale) == 1 / (1 - dropped)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_gradient_is_the_mask(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 5, dtype=dtype, requires_grad=True)
    y = Dropout(0.4)(x)
    y.sum().backward()
    assert y.dtype == dtype
    assert x.grad is not None
    torch.testing.assert_close(x * x.grad, y)
    assert 0 < int((x.grad == 0).sum()) < 35


def test_a_seed_repeats_its_masks_and_calls_differ() -> None:
    layer, x = Dropout(0.5), torch.ones(64)
    torch.manual_seed(3)
    one, two = layer(x), layer(x)
    torch.manual_seed(3)
    assert layer(x).equal(one)
    assert not one.equal(two)


def test_evaluation_and_the_ends_of_the_range_change_or_drop_everything() -> None:
    x = torch.randn(10)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x).equal(x)
    assert not Dropout(1.0)(x).any()


def test_the_default_device_does_not_matter() -> None:
    x = torch.ones(8)
    with torch.device("meta"):
        assert Dropout(0.5)(x).device.type == "cpu"


def test_in_place_changes_its_input() -> None:
    x = torch.ones(8)
    assert Dropout(0.5, inplace=True)(x) is x


def test_columns_and_empty_rows_have_masks_too() -> None:
    columns = torch.ones(300, 40).t()
    share = (Dropout(0.5)(columns) == 0).float().mean(1)
    assert bool(((share > 0.3) & (share < 0.7)).all())
    assert Dropout(0.5)(torch.ones(0, 4)).shape == (0, 4)


def test_levels_are_uniform() -> None:
    """Range, mean and deviation fit, and the four numbers of a word are uncorrelated."""
    torch.manual_seed(0)
    levels = random_levels(torch.Size((2**18, 4))).float()
    assert levels.min() == -(LEVELS // 2)
    assert levels.max() == LEVELS // 2 - 1
    expected = LEVELS / math.sqrt(12)
    assert bool((levels.mean(0).abs() < 6 * expected / 2**9).all())
    torch.testing.assert_close(levels.std(0), torch.full((4,), expected), rtol=0.01, atol=0)
    correlation = torch.corrcoef(levels.t()) - torch.eye(4)
    assert float(correlation.abs().max()) < 6 / 2**9

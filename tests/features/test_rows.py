"""Rows of a store in 8 bits: no number is off by more than half a step of its region."""

from pathlib import Path

import numpy as np
import pytest
from conftest import write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from captioner.cli import main
from captioner.features.header import size_in_bytes
from captioner.features.journal import Entry
from captioner.features.rows import decoded, encoded, row_bytes
from captioner.features.store import FeatureStore
from captioner.features.writer import FeatureWriter

FEATURES = arrays.arrays(
    np.float32,
    st.one_of(
        st.tuples(st.integers(0, 3), st.integers(1, 5)),
        st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 5)),
    ),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)


@settings(deadline=None, max_examples=150)
@given(FEATURES)
def test_8_bits_are_off_by_half_a_step_at_most(features: np.ndarray) -> None:
    shape = features.shape[1:]
    rows = encoded(features, "int8")
    assert rows.shape == (len(features), row_bytes(shape, "int8"))
    assert rows.dtype == np.uint8
    again = decoded(rows, shape, "int8")
    assert again.shape == features.shape
    assert again.dtype == np.float32
    exact = features.astype(np.float64)
    if not len(features):
        return
    step = (exact.max(-1, keepdims=True) - exact.min(-1, keepdims=True)) / 255
    slack = 1e-6 * np.abs(exact).max(-1, keepdims=True) + 1e-37  # of float32 itself
    assert (np.abs(again - exact) <= step / 2 + slack).all()


def test_a_region_of_zeros_stays_zero_and_regions_have_their_own_scale() -> None:
    features = np.array([[[0, 0, 0], [0, 3, 6], [5000, 5000, 5000]]], np.float32)
    again = decoded(encoded(features, "int8"), (3, 3), "int8")
    np.testing.assert_allclose(again, features, atol=6 / 510)
    np.testing.assert_array_equal(again[0, [0, 2]], features[0, [0, 2]])


def test_a_store_of_8_bits(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).gamma(1.0, size=(3, 4, 7)).astype(np.float32)
    with FeatureWriter(tmp_path, {}, (4, 7), "int8") as writer:
        writer.append([Entry(i, f"{i}", 1, 2, "d") for i in range(3)], rows)
    store = FeatureStore.open(tmp_path, {})
    assert (tmp_path / "features.bin").stat().st_size == size_in_bytes(3, (4, 7), "int8") == 180
    again = decoded(encoded(rows, "int8"), (4, 7), "int8")
    np.testing.assert_array_equal(store.read([2, 0]), again[[2, 0]])
    assert store.verify() == []
    content = bytearray((tmp_path / "features.bin").read_bytes())
    content[61] ^= 1
    (tmp_path / "features.bin").write_bytes(content)
    assert FeatureStore.open(tmp_path, {}).verify() == [1]


def test_prepare_says_the_size_of_8_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_jsonl(tmp_path / "data", train=4, val=2, test=1)
    flags = ["--data.format", "jsonl", "--data.root", str(root), "--encoder.name", "squeezenet1_1"]
    flags += ["--encoder.weights", "none", "--encoder.size", "64", "--encoder.features", "grid"]
    flags += ["--data.features", str(tmp_path / "features"), "--output", str(tmp_path / "run")]
    assert main(["prepare", *flags, "--encoder.dtype", "int8"]) == 0
    assert "computing 7 more (0.0 MB)" in capsys.readouterr().err
    (file,) = (tmp_path / "features").rglob("features.bin")
    assert file.stat().st_size == 7 * 9 * (512 + 8)

"""What several processes found, joined: here with one process; with two in test_ddp.py."""

import pytest
import torch

from captioner.errors import CaptionerError
from captioner.training.gather import gather_rows, total


def test_rows_come_in_the_order_of_their_ids() -> None:
    assert list(gather_rows([(9, "c"), (10, "a"), (2, "b")]).items()) == [
        (2, "b"),
        (9, "c"),
        (10, "a"),
    ]


def test_an_image_captioned_twice_is_refused() -> None:
    with pytest.raises(CaptionerError, match="image id 'x' occurs more than once"):
        gather_rows([("x", "a"), ("x", "a")])


def test_total_of_one_process() -> None:
    assert total([1.5, 2.0], torch.device("cpu")) == [1.5, 2.0]

"""What is looked up is what would have been computed, in whatever order it was asked for."""

from functools import partial

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from captioner.model.kernels.input_cache import WordProducts
from captioner.model.kernels.linear import linear

VOCAB_SIZE = 3 * WordProducts.BLOCK + 5
torch.manual_seed(0)
EMBEDDING, WEIGHT, BIAS = torch.randn(VOCAB_SIZE, 12), torch.randn(20, 12), torch.randn(20)


def products() -> WordProducts:
    return WordProducts(EMBEDDING, partial(linear, weight=WEIGHT, bias=BIAS))


WORDS = st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=9)


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_the_same_to_the_last_digit_whatever_came_before(asked: list[list[int]]) -> None:
    everything = products()(torch.arange(VOCAB_SIZE))
    torch.testing.assert_close(everything, EMBEDDING @ WEIGHT.t() + BIAS)
    looked_up = products()
    for words in asked:
        assert torch.equal(looked_up(torch.tensor(words)), everything[words])


def test_a_block_is_computed_once_and_only_if_it_is_needed() -> None:
    computed = []

    def product(xs: Tensor) -> Tensor:
        computed.append(len(xs))
        return linear(xs, WEIGHT, BIAS)

    looked_up = WordProducts(EMBEDDING, product)
    for words in ([0, 5, 0], [5], [VOCAB_SIZE - 1, 1], [0, VOCAB_SIZE - 2]):
        looked_up(torch.tensor(words))
    assert computed == [WordProducts.BLOCK, 5]

"""`top_words` equals `torch.topk`."""

import pytest
import torch

from captioner.decoding.topk import top_words


@pytest.mark.parametrize("width", [7, 64, 1000, 1024, 9488])
@pytest.mark.parametrize("k", [1, 5])
def test_equal_to_topk(width, k):
    scores = torch.randn(11, width, generator=torch.Generator().manual_seed(width))
    scores[3, : width - k] = float("-inf")
    values, columns = top_words(scores, k)
    assert torch.equal(values, scores.topk(k, dim=1).values)
    assert torch.equal(values, scores.gather(1, columns))


def test_ties_are_found_once_each_and_nan_ranks_first():
    scores = torch.zeros(2, 2000)
    scores[1, 1234] = float("nan")
    values, columns = top_words(scores, 5)
    assert len(set(columns[0].tolist())) == 5
    assert columns[1, 0] == 1234
    assert values[1, 0].isnan()

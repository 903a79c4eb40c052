"""Ranking samples by what they have in common."""

import pytest
import torch

from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.options import Rerank
from captioner.errors import UsageError
from captioner.inference.generator import consensus, reranked

END = 2


def drawn(*captions: list[int], scores: list[float]) -> Hypotheses:
    """One image's samples, cut after five words."""
    words = torch.tensor([[caption + [END] * (5 - len(caption)) for caption in captions]])
    lengths = torch.tensor([[len(caption) for caption in captions]])
    numbers = torch.tensor([scores])
    return Hypotheses(words, lengths, numbers, numbers, torch.zeros(1, len(captions), 6))


def test_consensus_by_hand() -> None:
    """Mean ROUGE-L, beta 1.2, of [4 5 6], [4 5 6], [4 5] and [] against the other three."""
    found = drawn([4, 5, 6], [4, 5, 6], [4, 5], [], scores=[-3.0, -3.0, -2.0, -1.0])
    square = 1.2**2
    longer = (1 + square) * (2 / 3) / (1 + square * 2 / 3)  # [4 5 6] against [4 5]: P 2/3, R 1
    shorter = (1 + square) * (2 / 3) / (2 / 3 + square)  # [4 5] against [4 5 6]: P 1, R 2/3
    expected = [(1 + longer) / 3, (1 + longer) / 3, 2 * shorter / 3, 0]
    assert consensus(found)[0].tolist() == pytest.approx(expected)
    best = reranked(found, Rerank("consensus", n_best=2))
    assert best.captions() == [[[4, 5, 6], [4, 5]]]  # the repeated caption once
    assert best.scores[0].tolist() == pytest.approx([expected[0], expected[2]])
    assert reranked(found, Rerank("score")).captions() == [[[]]]


def test_one_sample_agrees_with_nothing() -> None:
    found = drawn([4], scores=[-1.0])
    assert consensus(found).tolist() == [[0.0]]
    assert reranked(found, Rerank("consensus")).captions() == [[[4]]]


def test_bad_ranking() -> None:
    with pytest.raises(UsageError, match="rerank: unknown 'cider'; choose one of score, consensus"):
        Rerank("cider")
    with pytest.raises(UsageError, match="n_best: 0 is not a whole number of at least 1"):
        Rerank(n_best=0)

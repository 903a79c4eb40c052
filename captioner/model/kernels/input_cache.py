"""What words contribute to the first recurrent layer, computed once for each.

Letters: M rows, E embedding, H hidden, G gates of a cell, V vocabulary.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


class WordProducts:
    """W x + b of the embedding x of any word, from memory after the first time.

    Captions are written with the same few hundred words again and again, and what one contributes
    to the gates of the first layer never changes. Looked up, it saves a decoder with E = H = 512 a
    seventh of its products at V = 9,488 and a third at V = 2,500. The memory of V * G * H numbers
    (78 MB for an LSTM of 512 at V = 9,488) is used as far as there are words.

    Words are computed in blocks that do not depend on what is asked for, so that a word's numbers
    are the same, to the last digit, whatever was written before. Weights must not change meanwhile.

    Args:
        embedding: of all words (V, E).
        product: inputs (M, E) to what they contribute to all gates (M, G * H).
    """

    BLOCK = 64
    """Words computed at once: frequent words stand together, at the vocabulary's beginning."""

    def __init__(self, embedding: Tensor, product: Callable[[Tensor], Tensor]) -> None:
        self._product = product
        self._blocks = embedding.split(self.BLOCK)
        self._is_there = torch.zeros(len(self._blocks), dtype=torch.bool)
        self._table: Tensor | None = None

    def __call__(self, words: Tensor) -> Tensor:
        """Words (M,) on a CPU to their products (M, G * H)."""
        blocks = words.div(self.BLOCK, rounding_mode="floor")
        is_there = self._is_there[blocks]
        if not bool(is_there.all()):
            for block in blocks[~is_there].unique().tolist():
                self._compute(block)
        assert self._table is not None  # there is one after the first word
        return F.embedding(words, self._table)

    @torch.inference_mode()
    def _compute(self, block: int) -> None:
        rows = self._product(self._blocks[block])
        if self._table is None:
            words = sum(map(len, self._blocks))
            self._table = rows.new_empty(words, rows.shape[1])
        self._table[block * self.BLOCK :][: len(rows)] = rows
        self._is_there[block] = True

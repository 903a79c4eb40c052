"""What a search returns: captions as word ids, with the probabilities that ranked them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from captioner.decoding.pytree import tree_map


@dataclass(frozen=True)
class Hypotheses:
    """The captions found for each image, best first.

    B images, K captions per image (``n_best``), T the maximum length. A caption either ends with
    the end word or is cut after T words; the probabilities of all captions of a model then sum to
    one. A caption that does not exist (fewer than K were found) has score -inf and length 0.

    Attributes:
        words: (B, K, T) int64. The words without the end word; filled up with the end id.
        lengths: (B, K) int64. Number of words, the end word not counted. T means cut.
        scores: (B, K). The length-normalised score by which captions are ranked.
        log_probs: (B, K). Natural logarithm of the caption's probability under the model, the
            end word included where there is one.
        word_log_probs: (B, K, T + 1). Its summands: word t at column t, the end word at column
            ``lengths``; zero beyond. The last column only lines it up with "words, then end".
        attention: (B, K, T + 1, R) or None. The weights with which each word was looked for, in
            the columns of ``word_log_probs``; zero beyond.
    """

    words: Tensor
    lengths: Tensor
    scores: Tensor
    log_probs: Tensor
    word_log_probs: Tensor
    attention: Tensor | None = None

    def captions(self) -> list[list[list[int]]]:
        """The existing captions of each image as lists of word ids, best first."""
        rows = zip(self.words.tolist(), self.lengths.tolist(), self.scores.tolist(), strict=True)
        return [
            [
                words[:length]
                for words, length, score in zip(*row, strict=True)
                if score != float("-inf")
            ]
            for row in rows
        ]

    @staticmethod
    def empty(n_best: int, max_length: int, device: torch.device) -> "Hypotheses":
        """The captions of no images."""
        none = torch.zeros(0, n_best, device=device)
        words = torch.zeros(0, n_best, max_length, dtype=torch.int64, device=device)
        word_log_probs = torch.zeros(0, n_best, max_length + 1, device=device)
        return Hypotheses(words, none.to(torch.int64), none, none.clone(), word_log_probs)

    def best(self, n_best: int, by: Tensor | None = None) -> "Hypotheses":
        """The ``n_best`` captions of each image, best first.

        Args:
            n_best: How many, at most K.
            by: (B, K), what to rank by instead of ``scores``, which then become this.
        """
        ranking = self.scores if by is None else by
        scores, places = ranking.topk(n_best, dim=1)
        row = torch.arange(len(places), device=places.device).unsqueeze(1)
        return replace(self._map(lambda tensor: tensor[row, places]), scores=scores)

    def reversed(self) -> "Hypotheses":
        """The same captions with their words in the opposite order, the end word still last."""
        length = self.lengths.unsqueeze(2)
        place = torch.arange(self.words.shape[2] + 1, device=self.words.device)
        place = torch.where(place < length, length - 1 - place, place)
        attention = self.attention
        if attention is not None:
            columns = place.unsqueeze(3).expand_as(attention)
            attention = attention.gather(2, columns)
        return Hypotheses(
            self.words.gather(2, place[..., :-1]),
            self.lengths,
            self.scores,
            self.log_probs,
            self.word_log_probs.gather(2, place),
            attention,
        )

    def grouped(self, groups: int) -> "Hypotheses":
        """Rows (B * G, K) as (B, G * K): one image's captions, found by G groups."""
        return self._map(lambda one: one.unflatten(0, (-1, groups)).flatten(1, 2).contiguous())

    def of_images(self, images: Tensor) -> "Hypotheses":
        """The rows of the given images, (B',) int64, in that order."""
        return self._map(lambda tensor: tensor.index_select(0, images))

    @staticmethod
    def concatenate(parts: Sequence["Hypotheses"]) -> "Hypotheses":
        """The images of all parts, one part after the other."""
        columns: Any = zip(*(part._tensors() for part in parts), strict=True)
        joined: Any = [None if column[0] is None else torch.cat(column) for column in columns]
        return Hypotheses(*joined)

    def clone(self) -> "Hypotheses":
        """The same captions in memory of their own."""
        return self._map(torch.clone)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Hypotheses":
        mapped: Hypotheses = tree_map(function, self)
        return mapped

    def _tensors(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))

"""The result of a search: captions as word ids, with their scores and log-probabilities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from captioner.decoding.pytree import tree_map


@dataclass(frozen=True)
class Hypotheses:
    """The captions found for each image, best first.

    Dimensions: B images, K captions per image (`n_best`), T maximum length, R image regions.

    A caption ends with the end word or is truncated after T words. With this rule the
    probabilities of all captions sum to one. Where fewer than K captions were found, the missing
    ones have score -inf and length 0.

    Attributes:
        words: (B, K, T) int64. The words without the end word, padded with the end id.
        lengths: (B, K) int64. Number of words without the end word. T means truncated.
        scores: (B, K). The length-normalised score by which captions are ranked.
        log_probs: (B, K). Log-probability of the caption under the model, in nats, including the
            end word if there is one.
        word_log_probs: (B, K, T + 1). Log-probability of each word, in nats: word t in column t,
            the end word in column `lengths`, then zeros. Each row sums to `log_probs`.
        attention: (B, K, T + 1, R) or None. Attention weights used to predict each word, in the
            columns of `word_log_probs`, then zeros.
    """

    words: Tensor
    lengths: Tensor
    scores: Tensor
    log_probs: Tensor
    word_log_probs: Tensor
    attention: Tensor | None = None

    def captions(self) -> list[list[list[int]]]:
        """Return the captions found for each image as lists of word ids, best first."""
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
        """Return the result of a batch without images."""
        none = torch.zeros(0, n_best, device=device)
        words = torch.zeros(0, n_best, max_length, dtype=torch.int64, device=device)
        word_log_probs = torch.zeros(0, n_best, max_length + 1, device=device)
        return Hypotheses(words, none.to(torch.int64), none, none.clone(), word_log_probs)

    def best(self, n_best: int, by: Tensor | None = None) -> "Hypotheses":
        """Return the `n_best` captions of each image, best first.

        Args:
            n_best: Number of captions per image, at most K.
            by: (B, K). Ranks by these values instead of `scores`, and stores them as `scores`.
        """
        ranking = self.scores if by is None else by
        scores, places = ranking.topk(n_best, dim=1)
        row = torch.arange(len(places), device=places.device).unsqueeze(1)
        return replace(self._map(lambda tensor: tensor[row, places]), scores=scores)

    def reversed(self) -> "Hypotheses":
        """Return the captions with their words reversed; the end word stays last."""
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
        """Reshape (B * G, K) to (B, G * K): join the captions that G groups found per image."""
        return self._map(lambda one: one.unflatten(0, (-1, groups)).flatten(1, 2).contiguous())

    def of_images(self, images: Tensor) -> "Hypotheses":
        """Return the rows of the given images, (B',) int64, in that order."""
        return self._map(lambda tensor: tensor.index_select(0, images))

    @staticmethod
    def concatenate(parts: Sequence["Hypotheses"]) -> "Hypotheses":
        """Concatenate results along the image dimension."""
        columns: Any = zip(*(part._tensors() for part in parts), strict=True)
        joined: Any = [None if column[0] is None else torch.cat(column) for column in columns]
        return Hypotheses(*joined)

    def clone(self) -> "Hypotheses":
        """Return a copy that shares no memory with this one."""
        return self._map(torch.clone)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Hypotheses":
        mapped: Hypotheses = tree_map(function, self)
        return mapped

    def _tensors(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))

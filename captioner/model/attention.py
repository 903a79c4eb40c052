r"""Attention over the regions of an image: which of them the decoder looks at for each word.

Letters: B images, M rows (captions or hypotheses) or words, P rows of an image, R regions,
F feature size, H hidden size, A attention size.

Keys and values are projected once per image, however many captions or beams share it:

    v_i = relu(W_v norm(a_i) + b_v)         value of region i, from its features a_i
    k_i = W_k v_i                           its key

A query q = W_q h + b_q gives each region a score; the scores give weights and a context:

    e_i = q . k_i                           `dot`
    e_i = q . k_i / sqrt(A)                 `scaled`    (Vaswani et al. 2017)
    e_i = w . tanh(q + k_i)                 `additive`  (Bahdanau et al. 2015)
    alpha = softmax(e),   context = \sum_i alpha_i v_i

The decoder's `Kind` says which state queries, and what reads the context z_t:

- `soft` (Xu et al. 2015): h_{t-1} of the last layer queries, and z_t, multiplied by the gate
  s(w . h_{t-1} + b) if there is one, joins the first layer's input;
- `spatial` (Lu et al. 2017): h_t of the last layer queries, and h_t + z_t replaces h_t in the
  output. The recurrence does not depend on z_t;
- `adaptive` (Lu et al. 2017): the same, with a sentinel beside the regions;
- `top_down` (Anderson et al. 2018): h_t of the first layer queries, z_t joins the second layer's
  input, and h_{t-1} of the last layer joins the first layer's.

Images may have different numbers of regions: a region whose features are NaN is padding. It is
masked before the softmax, so its weight is exactly 0.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from captioner.errors import CaptionerError
from captioner.model.kernels.additive_scores import additive_scores
from captioner.model.kernels.all_steps import batched_product
from captioner.model.kernels.dropout import Dropout
from captioner.model.kernels.linear import Linear

Kind = Literal["none", "soft", "spatial", "adaptive", "top_down"]
"""Which state attends, and what reads the context; see above."""

Score = Literal["dot", "scaled", "additive"]


NEGLIGIBLE = 40.0
"""Scores this far below the largest give a region less than 1e-17 of that one's weight."""


class Places(NamedTuple):
    """Positions of rows that are laid out image by image.

    Attributes:
        numbers: position of each row among B * P (M,).
        images: B.
        each: P, rows of an image at most.
        image_of: image of each row (M,).
        rank: number of earlier rows of the same image (M,).
        widest: largest rank among the first rows, for each number of them.
    """

    numbers: Tensor
    images: int
    each: int
    image_of: Tensor
    rank: Tensor
    widest: list[int]

    @staticmethod
    def of(image_of: Tensor, images: int) -> "Places":
        """Return the positions of rows that belong to these images (M,), counted from 0."""
        order = image_of.argsort(stable=True)
        counts = torch.bincount(image_of, minlength=images)
        firsts = counts.cumsum(0) - counts
        rank = torch.empty_like(image_of)
        rank[order] = torch.arange(len(image_of), device=image_of.device) - firsts[image_of[order]]
        widest = rank.cummax(0).values.tolist() if len(rank) else []
        return Places(rank, images, 0, image_of, rank, widest).first(len(rank))

    def first(self, rows: int) -> "Places":
        """Return the positions of the first rows only."""
        each = self.widest[rows - 1] + 1 if rows else 0
        image_of, rank = self.image_of[:rows], self.rank[:rows]
        return self._replace(
            numbers=image_of * each + rank, each=each, image_of=image_of, rank=rank
        )

    def counts(self) -> list[int]:
        """Return how many rows each image has."""
        found: list[int] = torch.bincount(self.image_of, minlength=self.images).tolist()
        return found

    def lay(self, rows: Tensor) -> Tensor:
        """Lay out rows (M, N) as (B, P, N); empty positions are 0."""
        empty = rows.new_zeros(self.images * self.each, rows.shape[1])
        return empty.index_copy(0, self.numbers, rows).view(self.images, self.each, -1)

    def take(self, laid: Tensor) -> Tensor:
        """Take rows (M, N) back from (B, P, N)."""
        return laid.flatten(0, 1).index_select(0, self.numbers)


class Regions(NamedTuple):
    """What all captions of an image share.

    Attributes:
        keys: (B, R, A).
        values: (B, R, H).
        padding: (B, R) bool, True where there is no region; None if there is no padding.
        places: positions of the rows that attend; None if the rows are ordered by image, equally
            many of each, as in a beam search.
    """

    keys: Tensor
    values: Tensor
    padding: Tensor | None = None
    places: Places | None = None

    def read_by(self, image_of: Tensor) -> "Regions":
        """Return these regions for rows that belong to the given images (M,)."""
        return self._replace(places=Places.of(image_of, len(self.keys)))

    def of_first(self, rows: int) -> "Regions":
        """Return these regions for the first rows only."""
        return self if self.places is None else self._replace(places=self.places.first(rows))


class Attention(nn.Module):
    """Keys, values and weights; the decoder chooses the query and the reader of the context.

    Args:
        feature_size: numbers in a region's features, F.
        hidden_size: numbers in a query's state and in a context, H.
        size: numbers in a key, A.
        score: how a query and a key are compared.
        image_dropout: probability of dropping a feature, in training.
    """

    def __init__(
        self,
        feature_size: int,
        hidden_size: int,
        size: int,
        score: Score = "dot",
        image_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.score = score
        self.scale = 1 / math.sqrt(size) if score == "scaled" else 1.0
        # No weights of its own: those of `value` serve the same purpose, and the features of a
        # frozen encoder need no gradient.
        self.norm = nn.LayerNorm(feature_size, elementwise_affine=False)
        self.image_dropout = Dropout(image_dropout)
        self.value = Linear(feature_size, hidden_size)
        self.key = Linear(hidden_size, size, bias=False)
        self.query = Linear(hidden_size, size)
        for layer in (self.value, self.key, self.query):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.value.bias)
        nn.init.zeros_(self.query.bias)
        if score == "additive":
            self.weight = nn.Parameter(torch.empty(size))
            nn.init.uniform_(self.weight, -math.sqrt(3 / size), math.sqrt(3 / size))

    def regions(self, features: Tensor) -> Regions:
        """Compute keys and values of images from features (B, R, F); rows of NaN are padding.

        Raises:
            CaptionerError: the features are pooled.
        """
        if features.dim() != 3:
            raise CaptionerError(
                f"attention needs the features of regions (B, R, F), not {tuple(features.shape)}; "
                "set encoder.features grid"
            )
        padding = padding_of(features)
        if padding is not None:
            features = features.masked_fill(padding.unsqueeze(2), 0.0)
        rows = self.norm(features.to(self.value.weight.dtype)).flatten(0, 1)
        values = torch.relu(self.value(self.image_dropout(rows)))
        keys = self.key(values)
        size = features.shape[:2]
        return Regions(keys.unflatten(0, size), values.unflatten(0, size), padding)

    def forward(
        self, query: Tensor, regions: Regions, sentinel: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend from states (M, H): return contexts (M, H) and weights (M, R), which sum to 1.

        Args:
            query: the states that attend.
            regions: what they attend to.
            sentinel: key (M, A) and value (M, H) that each row may attend to instead of the image;
                its weight is one more column, the last.
        """
        q = self.query(query)
        places = regions.places
        images = regions.keys.shape[0]

        def lay(rows: Tensor) -> Tensor:
            return rows.view(images, -1, rows.shape[1]) if places is None else places.lay(rows)

        def take(laid: Tensor) -> Tensor:
            return laid.flatten(0, 1) if places is None else places.take(laid)

        scores = self._scores(lay(q), regions.keys, places)
        if regions.padding is not None:
            scores = scores.masked_fill(regions.padding.unsqueeze(1), -math.inf)
        if sentinel is not None:
            key, _ = sentinel
            scores = torch.cat((scores, lay(self._own_score(q, key))), 2)
        weights = without_traces(scores).softmax(2)
        of_rows = take(weights)
        if sentinel is None:
            return take(batched_product(weights, regions.values)), of_rows
        context = take(batched_product(weights[..., :-1], regions.values))
        return torch.addcmul(context, of_rows[:, -1:], sentinel[1]), of_rows

    def _scores(self, q: Tensor, keys: Tensor, places: Places | None = None) -> Tensor:
        """Score queries (B, P, A) against keys (B, R, A): (B, P, R)."""
        if self.score == "additive":
            on_cpu = q.device.type == "cpu"
            counts = places.counts() if places is not None and on_cpu else None
            return additive_scores(q, keys, self.weight, counts)
        scaled = q if self.scale == 1.0 else q * self.scale
        return batched_product(scaled, keys.transpose(1, 2))

    def _own_score(self, q: Tensor, key: Tensor) -> Tensor:
        """Score queries (M, A), each against its own key (M, A): (M, 1)."""
        if self.score == "additive":
            return torch.tanh(q + key) @ self.weight.unsqueeze(1)
        return (q * self.scale * key).sum(1, keepdim=True)


class Sentinel(nn.Module):
    """What a decoder attends to instead of the image: part of its own memory (Lu et al. 2017).

        g_t = s(W_x x_t + W_h h_{t-1} + b),   s_t = g_t * tanh(m_t)

    with m_t the memory of the cell: c_t of an LSTM, h_t of the others.

    Args:
        input_size: numbers in x_t.
        hidden_size: numbers in a state, H.
        size: numbers in a key, A.
    """

    def __init__(self, input_size: int, hidden_size: int, size: int) -> None:
        super().__init__()
        self.of_input = Linear(input_size, hidden_size)
        self.of_state = Linear(hidden_size, hidden_size, bias=False)
        self.key = Linear(hidden_size, size, bias=False)
        for layer in (self.of_input, self.of_state, self.key):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.of_input.bias)

    def forward(self, x: Tensor, before: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys (M, A) and values (M, H) for x_t (M, E), h_{t-1} (M, H) and m_t (M, H)."""
        gate = torch.sigmoid(self.of_input(x) + self.of_state(before))
        value = gate * torch.tanh(memory)
        return self.key(value), value


def without_traces(scores: Tensor) -> Tensor:
    """Set scores (B, P, R) far below the largest of their row to -inf, on a CPU.

    Their weights cannot change a digit of a context. But they and their gradients are denormal
    numbers, which a CPU multiplies a hundred times slower: training a GRU with `spatial` attention
    took three times as long with them.
    """
    if scores.device.type != "cpu":
        return scores
    least = scores.detach().amax(2, keepdim=True) - NEGLIGIBLE
    return scores.masked_fill(scores < least, -math.inf)


def stack(images: Sequence[Tensor]) -> Tensor:
    """Stack image tensors of a batch: photos, or features (F,) or (R, F).

    Features of different numbers of regions are padded to the most with rows of NaN.
    """
    most = max(len(image) for image in images)
    if images[0].dim() != 2 or all(len(image) == most for image in images):
        return torch.stack(list(images))
    padded = images[0].new_full((len(images), most, images[0].shape[1]), math.nan)
    for row, image in zip(padded, images, strict=True):
        row[: len(image)] = image
    return padded


def padding_of(features: Tensor) -> Tensor | None:
    """Return where features (B, R, F) hold no region (B, R), or None if all are regions.

    An exported graph reads features of its own encoder, which have no padding.
    """
    if torch.compiler.is_exporting():  # a graph cannot depend on values
        return None
    padding = features[:, :, 0].isnan()
    return padding if bool(padding.any()) else None


def mean_of_regions(features: Tensor) -> Tensor:
    """Return the mean of each image's regions (B, F), from features (B, R, F)."""
    padding = padding_of(features)
    if padding is None:
        return features.mean(1)
    count = (~padding).sum(1, keepdim=True)
    return features.masked_fill(padding.unsqueeze(2), 0.0).sum(1) / count

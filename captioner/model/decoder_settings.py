"""The settings of a decoder, in groups of what they are about.

Frozen dataclasses with defaults: name those that differ. `captioner.build` makes them from a
configuration.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from captioner.model.attention import Kind, Score
from captioner.model.cells import Cell


@dataclass(frozen=True)
class RecurrenceSettings:
    """The recurrent layers.

    Attributes:
        cell: makes one layer from an input size and a hidden size.
        hidden_size: numbers in a hidden state, H.
        layers: number of layers, L.
        residual: whether a layer's input is added to its output, from the second layer on.
        teacher: what teacher forcing feeds to a recurrence on the output (Jordan): the network's
            own distribution ("softmax"), as in free running, or the true word ("word").
    """

    cell: Callable[[int, int], Cell]
    hidden_size: int = 512
    layers: int = 1
    residual: bool = False
    teacher: Literal["softmax", "word"] = "softmax"


@dataclass(frozen=True)
class WordSettings:
    """The way from words to the recurrence and from the recurrence to words.

    Attributes:
        embedding_size: numbers in a word embedding, E, and in the image vector of the places `pre`,
            `par` and `merge`.
        output_depth: layers tanh(D o + d) of size E between state and vocabulary (deep output,
            Pascanu et al. 2014).
        tie_embeddings: whether a word's embedding is also its row of the projection (Press & Wolf
            2017). The outputs must have the embedding's size.
    """

    embedding_size: int = 512
    output_depth: int = 0
    tie_embeddings: bool = False


@dataclass(frozen=True)
class AttentionSettings:
    """Attention over the regions of the image; see `captioner.model.attention`.

    Attributes:
        kind: which state attends, if any.
        size: numbers in a key, A.
        score: how a query and a key are compared.
        gate: whether a gate weighs the context of `soft`.
    """

    kind: Kind = "none"
    size: int = 512
    score: Score = "dot"
    gate: bool = False


@dataclass(frozen=True)
class DropoutSettings:
    """Probabilities of dropping a unit in training.

    Attributes:
        units: of embeddings, between layers and before the projection to the vocabulary.
        image: of the image's features.
    """

    units: float = 0.5
    image: float = 0.0

"""Beam search for many images at once, around any function that takes captions one word further.

Example: a model of three words that never says the same thing twice in a row. ::

    >>> import torch
    >>> from captioner.decoding.beam_search import SearchOptions, beam_search
    >>> start, end, cat, dog = range(4)
    >>> bigrams = torch.tensor([[0.0, 0.0, 0.6, 0.4],    # P(next word | start)
    ...                         [0.0, 1.0, 0.0, 0.0],    # P(next word | end)
    ...                         [0.0, 0.3, 0.0, 0.7],    # P(next word | cat)
    ...                         [0.0, 0.9, 0.1, 0.0]])   # P(next word | dog)
    >>> def step(ids, state):
    ...     return bigrams[ids].log(), state
    >>> found = beam_search(torch.tensor([start]), None, step, end, SearchOptions(n_best=2))
    >>> found.captions()
    [[[2, 3], [3]]]
    >>> [round(p, 3) for p in found.log_probs[0].exp().tolist()]
    [0.378, 0.36]

How it searches. Each step ranks all one-word continuations of the K live hypotheses of an image.
Those among the best K that end are finished and leave the beam; the best K that do not end live on.
An image is done when no live hypothesis can still beat the captions it has finished, whatever the
length normalisation (see :mod:`captioner.decoding.length`); a beam of one is greedy search and done
at its first end. Done images leave the batch on a CPU, and wait for the others on a GPU. With a
beam as wide as the number of captions the result is that of exhaustive enumeration.

Letters: B images, A images still searched, K beams, M = A * K rows, T maximum length, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captioner.decoding.constraints import Constraint
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.options import SearchOptions
from captioner.decoding.pytree import State
from captioner.decoding.running_search import RunningSearch
from captioner.decoding.step import Looked, Step

__all__ = ["SearchOptions", "Step", "beam_search"]


@torch.no_grad()
def beam_search(
    start_ids: Tensor,
    state: State,
    step: Step,
    end_id: int,
    options: SearchOptions | None = None,
    *,
    shared: Any = None,
    constraints: Sequence[Constraint] = (),
    looked: Looked | None = None,
) -> Hypotheses:
    """Finds the most probable captions of a batch of images.

    Args:
        start_ids: (B,) int64, the id from which each caption starts.
        state: Tensors with B rows in nested tuples, lists, dicts or dataclasses. Rows follow their
            hypotheses: ``step`` sees M of them, ordered by image, then beam.
        step: ``step(ids, state) -> (scores, state)`` with ids (M,) and scores (M, V), logits or
            log-probabilities alike: they are normalised here. M is B at the first step and K times
            the number A of images in the batch after it.
        end_id: The word that ends a caption.
        options: Widths, lengths and normalisation; the defaults if not given.
        shared: What all beams of an image share and no step changes, such as the attention keys
            (B, R, F). Given, ``step`` is called as ``step(ids, state, shared)``; each tensor has
            one row for each of the A images, never one per beam, so that
            ``state.view(A, M // A, ...)`` lines up with it.
        constraints: What captions must and must not say; see
            :mod:`captioner.decoding.constraints` and
            :mod:`captioner.decoding.required_phrases`. Without any, nothing changes, to the bit.
        looked: From the state after a step to attention weights (M, R), which the captions found
            then carry, word by word. None: they are not kept.

    Returns:
        The ``n_best`` captions of each image, best first.

    Raises:
        UsageError: ``start_ids`` is not (B,), ``end_id`` or a word of a constraint is not in the
            vocabulary, or the required words do not fit into a caption.
        CaptionerError: ``step`` returned NaN or infinity, or an image is left without any caption.
    """
    options = options or SearchOptions()
    search = RunningSearch(start_ids, state, step, end_id, options, shared, constraints, looked)
    if len(start_ids) == 0:
        return Hypotheses.empty(options.n_best, options.max_length, start_ids.device)
    for t in range(1, options.max_length + 1):
        search.advance(t)
        if search.may_be_done(t) and search.settle(t):
            break
    return search.result()

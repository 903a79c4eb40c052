"""Batched beam search over any step function that extends captions by one word.

Example: a bigram model with two words that rarely repeats one.

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

Algorithm. Each step ranks all one-word continuations of an image's K live hypotheses. Those among
the best K that end are finished and leave the beam. The best K that do not end stay live. An image
is done when no live hypothesis can still beat its finished captions; the bound is exact for every
length normalisation (see `captioner.decoding.length`). A beam of one is greedy search, and done at
its first end word. On CPU, done images leave the batch; on GPU, they wait for the others. With a
beam as wide as the number of possible captions, the result equals exhaustive search.

Dimensions: B images, A images still searched, K beams, M = A * K rows, T maximum length, V
vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captioner.decoding.constraints import Constraint
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.options import SearchOptions
from captioner.decoding.pytree import State
from captioner.decoding.required_phrases import RequiredPhrases
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
    required: RequiredPhrases | None = None,
    looked: Looked | None = None,
) -> Hypotheses:
    """Find the most probable captions of a batch of images.

    Args:
        start_ids: (B,) int64. The start word of each caption.
        state: Tensors with B rows in nested tuples, lists, dicts or dataclasses. Rows are reordered
            together with their hypotheses: `step` gets M rows, ordered by image, then beam.
        step: `step(ids, state) -> (scores, state)` with ids (M,) and scores (M, V). Scores may be
            logits or log-probabilities; they are normalised here. M is B at the first step and
            A * K at later steps.
        end_id: The word that ends a caption.
        options: Beam size, lengths and normalisation. Default: `SearchOptions()`.
        shared: Tensors that all beams of an image share and no step changes, such as attention
            keys (B, R, F). If given, `step` is called as `step(ids, state, shared)`. Each tensor
            has one row per image (A rows), not per beam; `state.view(A, M // A, ...)` aligns with
            it.
        constraints: Words that captions must not contain; see `captioner.decoding.constraints`.
        required: Words and phrases that every caption must contain; see
            `captioner.decoding.required_phrases`.
        looked: Maps the state after a step to attention weights (M, R), which are then returned
            with each word. Default: attention is not returned.

    Returns:
        The `n_best` captions of each image, best first.

    Raises:
        UsageError: `start_ids` is not (B,), `end_id` or a word of a constraint is not in the
            vocabulary, or the required words do not fit into a caption.
        CaptionerError: `step` returned NaN or infinity, or an image has no possible caption.
    """
    options = options or SearchOptions()
    search = RunningSearch(
        start_ids, state, step, end_id, options, shared, constraints, required, looked
    )
    if len(start_ids) == 0:
        return Hypotheses.empty(options.n_best, options.max_length, start_ids.device)
    for t in range(1, options.max_length + 1):
        search.advance(t)
        if search.may_be_done(t) and search.settle(t):
            break
    return search.result()

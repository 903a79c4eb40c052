"""Ensembles: several models that predict each word together.

Each model has its own step and state. Cells, encoders and sizes may differ between models; the
vocabulary must be the same.

    >>> import torch
    >>> from captioner.decoding.beam_search import SearchOptions, beam_search
    >>> def says(*probabilities):
    ...     return lambda ids, state: (torch.tensor([probabilities]).log(), state)
    >>> step = ensemble([says(0.0, 0.9, 0.1), says(0.0, 0.3, 0.7)])
    >>> one_word = SearchOptions(beam_size=1, max_length=1)
    >>> found = beam_search(torch.tensor([0]), (None, None), step, 0, one_word)
    >>> round(found.log_probs.exp().item(), 2)
    0.6
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captioner.decoding.options import AVERAGES
from captioner.decoding.pytree import State
from captioner.decoding.step import Step
from captioner.errors import UsageError


def ensemble(
    steps: Sequence[Step], average: str = "probability", weights: Sequence[float] | None = None
) -> Step:
    """Combine the steps of several models into one step.

    With weights w that sum to one, the ensemble predicts

        P(word) = sum_i w_i P_i(word)               "probability": arithmetic mean
        P(word) ~ product_i P_i(word) ** w_i        "log_probability": geometric mean

    The arithmetic mean favours words that any model finds likely, the geometric mean words that no
    model finds unlikely.

    Args:
        steps: One step per model, as for `beam_search`.
        average: `"probability"` or `"log_probability"`.
        weights: One positive weight per step, normalised to sum to one. Default: equal weights.

    Returns:
        A step whose state is the tuple of the models' states. Its `shared` argument is the tuple of
        the models' shared tensors, with None for a model that has none.

    Raises:
        UsageError: There is no step, the average is unknown or a weight is not positive. When the
            step is called: the vocabularies differ in size.
    """
    if not steps:
        raise UsageError("ensemble: no steps given; at least one is required")
    if average not in AVERAGES:
        raise UsageError(f"average: unknown {average!r}; choose one of {', '.join(AVERAGES)}")
    weights = [1.0] * len(steps) if weights is None else list(weights)
    if len(weights) != len(steps) or not all(0 < weight < math.inf for weight in weights):
        raise UsageError(
            f"weights: {weights} for {len(steps)} steps; give one finite weight above 0 per step"
        )
    shares = [weight / sum(weights) for weight in weights]

    def step(ids: Tensor, state: State, shared: Any = None) -> tuple[Tensor, State]:
        per_model = (None,) * len(steps) if shared is None else shared
        total: Tensor | None = None
        states = []
        for one, own, fixed, share in zip(steps, state, per_model, shares, strict=True):
            logits, own = one(ids, own) if fixed is None else one(ids, own, fixed)
            states.append(own)
            dtype = torch.promote_types(logits.dtype, torch.float32)
            log_probs = logits.log_softmax(dim=1, dtype=dtype)
            if total is not None and total.shape != log_probs.shape:
                raise UsageError(
                    f"ensemble: vocabularies of {total.shape[1]} and {log_probs.shape[1]} words; "
                    f"all models must have the same vocabulary"
                )
            if average == "probability":
                part = log_probs + math.log(share)
                total = part if total is None else torch.logaddexp(total, part)
            else:
                part = log_probs * share
                total = part if total is None else total + part
        assert total is not None
        return total, tuple(states)

    return step

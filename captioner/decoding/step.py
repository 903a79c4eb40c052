"""The step of a model, which takes captions one word further, and what it must return.

Letters: M rows, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from captioner.decoding.pytree import State
from captioner.errors import CaptionerError, UsageError

# (ids (M,) int64, state) -> (logits or log-probabilities (M, V), state);
# where something is shared it comes third: step(ids, state, shared).
Step = Callable[..., tuple[Tensor, State]]

Looked = Callable[[State], Tensor]
"""The state after a step to the weights (M, R) with which its rows looked at what they share."""


def normalised(logits: Tensor, rows: int, end_id: int) -> Tensor:
    """Log-probabilities (M, V) of what a step returned, in float32 at least.

    Half precision cannot tell the sums of twenty log-probabilities apart.
    """
    if logits.dim() != 2 or logits.shape[0] != rows:
        raise UsageError(
            f"step: it returned scores of shape {tuple(logits.shape)} for {rows} words; "
            f"they should be ({rows}, vocabulary)"
        )
    if not 0 <= end_id < logits.shape[1]:
        raise UsageError(f"end_id: {end_id} is not in the vocabulary of {logits.shape[1]} words")
    return logits.log_softmax(dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))


def broken_step(logits: Tensor, t: int) -> CaptionerError:
    """Says what a step returned that is not a distribution."""
    if bool((logits == float("-inf")).all(dim=1).any()) and not bool(logits.isnan().any()):
        return CaptionerError(f"the step allows no word at all at word {t}: a row is all -inf")
    return CaptionerError(
        f"the step returned NaN or infinity by word {t}; it should return logits or "
        f"log-probabilities (look for NaN in the weights and in the image features)"
    )

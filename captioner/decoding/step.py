"""The interface between a search and a model: a step that extends each caption by one word.

Dimensions: M rows, V vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from captioner.decoding.pytree import State
from captioner.errors import CaptionerError, UsageError

# (ids (M,) int64, state) -> (logits or log-probabilities (M, V), state);
# with shared tensors, they are the third argument: step(ids, state, shared).
Step = Callable[..., tuple[Tensor, State]]

Looked = Callable[[State], Tensor]
"""Maps the state after a step to the attention weights (M, R) of its rows."""


def normalised(logits: Tensor, rows: int, end_id: int) -> Tensor:
    """Return the log-probabilities (M, V) of a step's scores, in float32 or wider.

    Half precision is too coarse: sums of twenty log-probabilities would tie.

    Raises:
        UsageError: The scores have the wrong shape, or `end_id` is not in the vocabulary.
    """
    if logits.dim() != 2 or logits.shape[0] != rows:
        raise UsageError(
            f"step: returned scores of shape {tuple(logits.shape)} for {rows} words; "
            f"expected ({rows}, vocabulary)"
        )
    if not 0 <= end_id < logits.shape[1]:
        raise UsageError(f"end_id: {end_id} is not in the vocabulary of {logits.shape[1]} words")
    return logits.log_softmax(dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))


def broken_step(logits: Tensor, t: int) -> CaptionerError:
    """Return the error for a step whose scores are not a distribution."""
    if bool((logits == float("-inf")).all(dim=1).any()) and not bool(logits.isnan().any()):
        return CaptionerError(f"step: all words are -inf at word {t}; allow at least one")
    return CaptionerError(
        f"step: returned NaN or infinity by word {t}; expected logits or log-probabilities "
        f"(check the weights and the image features for NaN)"
    )

"""Selection of the continuations of each image that stay in the beam.

Dimensions: A images, J live hypotheses per image before the step, K after it, k candidate words per
hypothesis.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captioner.decoding.topk import top_words

NEVER = float("-inf")


@dataclass(frozen=True)
class Selection:
    """The K continuations of each image that stay live, best first.

    Attributes:
        log_probs: (A, K). Total log-probability; -inf where there are fewer than K.
        parents: (A, K) int64. Index 0 .. J - 1 of the hypothesis continued.
        words: (A, K) int64. The word that continues it.
        word_log_probs: (A, K). The log-probability of that word.
        complete: (A, K) bool. Whether all required phrases are complete. None if none is required.
    """

    log_probs: Tensor
    parents: Tensor
    words: Tensor
    word_log_probs: Tensor
    complete: Tensor | None


@dataclass(frozen=True)
class Requirement:
    """The required words that the hypotheses of one step still lack.

    Attributes:
        next_words: (A * J, P) int64. Words that increase the progress of each hypothesis.
        progress_after: Maps words (A * J, N) to the progress (A * J, N) int64 after each of them.
        target: The progress of a hypothesis that lacks nothing.
    """

    next_words: Tensor
    progress_after: Callable[[Tensor], Tensor]
    target: int


def select(
    totals: Tensor,
    log_probs: Tensor,
    width: int,
    penalty: Tensor | None = None,
    requirement: Requirement | None = None,
) -> Selection:
    """Select the best continuations of each image.

    Without a requirement, these are the most probable ones. With a requirement, the beam is divided
    by dynamic beam allocation (Post & Vilar 2018). Each hypothesis contributes its best words and
    the words that increase its progress. Continuations are grouped into banks of equal progress.
    The beam takes the best of each bank, from the most advanced bank down, then the second best of
    each, and so on. So the most advanced hypothesis always advances.

    Args:
        totals: (A, J). Log-probabilities of the live hypotheses; -inf marks a dead one.
        log_probs: (A * J, V). Of the next word, with -inf for the end word.
        width: K, continuations per image.
        penalty: (A, V). Subtracted for ranking only.
        requirement: What the hypotheses still lack.

    Example:
        >>> log_probs = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]]).log()
        >>> chosen = select(torch.tensor([[0.6, 0.4]]).log(), log_probs, width=2)
        >>> chosen.parents.tolist(), chosen.words.tolist()
        ([[1, 0]], [[1, 0]])
    """
    images, beams = totals.shape
    ranking = log_probs
    if penalty is not None:
        ranking = log_probs - penalty.repeat_interleave(beams, dim=0)
    # At most K continuations of one hypothesis can be among an image's best K.
    ranks, words = top_words(ranking, min(width, log_probs.shape[1]))
    values = ranks if penalty is None else log_probs.gather(1, words)
    if requirement is not None:
        words = torch.cat([words, requirement.next_words], dim=1)
        values = log_probs.gather(1, words)
        ranks = ranking.gather(1, words).masked_fill(_said_before(words), NEVER)

    k = words.shape[1]
    ranks = totals.unsqueeze(2) + ranks.view(images, beams, k)
    # A dead hypothesis may hold any value, including NaN; keep it dead.
    ranks = ranks.masked_fill((totals == NEVER).unsqueeze(2), NEVER).flatten(1)
    if beams * k < width:
        ranks = F.pad(ranks, (0, width - beams * k), value=NEVER)
    complete = None
    if requirement is None:
        best, places = ranks.topk(width, dim=1)
    else:
        progress = requirement.progress_after(words).view(images, beams * k)
        progress = F.pad(progress, (0, ranks.shape[1] - beams * k))
        places = _in_turns(ranks, progress, requirement.target)[:, :width]
        best, order = ranks.gather(1, places).topk(width, dim=1)
        places = places.gather(1, order)
        complete = progress.gather(1, places) == requirement.target

    if beams * k < width:
        places = places.clamp(max=beams * k - 1)
    parents = places.div(k, rounding_mode="floor")
    word_log_probs = values.view(images, beams * k).gather(1, places)
    if penalty is not None:
        after = totals.gather(1, parents) + word_log_probs
        best = after.masked_fill(best == NEVER, NEVER)
    chosen = words.view(images, beams * k).gather(1, places)
    return Selection(best, parents, chosen, word_log_probs, complete)


def _said_before(words: Tensor) -> Tensor:
    """Return (M, N) bool: whether a word occurs earlier in its row of words (M, N)."""
    same = words.unsqueeze(2) == words.unsqueeze(1)
    return same.tril(diagonal=-1).any(dim=2)


def _in_turns(ranks: Tensor, progress: Tensor, target: int) -> Tensor:
    """Return the round-robin order (A, N): best of each bank in turn, most advanced bank first."""
    # Sort by rank, then stably by bank. The turn is the distance from the start of the bank.
    by_rank = ranks.argsort(dim=1, descending=True, stable=True)
    banks, by_bank = progress.gather(1, by_rank).sort(dim=1, stable=True)
    order = by_rank.gather(1, by_bank)
    turn = torch.arange(banks.shape[1], device=banks.device) - torch.searchsorted(banks, banks)
    key = turn * (target + 1) + (target - banks)
    impossible = ranks.gather(1, order) == NEVER
    key = key.masked_fill(impossible, torch.iinfo(torch.int64).max)
    return order.gather(1, key.argsort(dim=1, stable=True))

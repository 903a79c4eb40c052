"""Which continuations of an image live on.

Letters: A images, J live hypotheses of each, K of them after the step, k words offered for each.
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
    """The K continuations of each image that live on, best first.

    Attributes:
        log_probs: (A, K), total; -inf where there are fewer than K.
        parents: (A, K) int64, place 0 .. J - 1 of the hypothesis continued.
        words: (A, K) int64, the word that continues it.
        word_log_probs: (A, K), the log-probability of that word.
        complete: (A, K) bool, whether all that is required has been said; None: nothing is.
    """

    log_probs: Tensor
    parents: Tensor
    words: Tensor
    word_log_probs: Tensor
    complete: Tensor | None


@dataclass(frozen=True)
class Requirement:
    """What the hypotheses of one step must still say.

    Attributes:
        next_words: (A * J, P) int64, words that bring each hypothesis further.
        progress_after: From words (A * J, N) to the progress (A * J, N) int64 made with each.
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
    """The best continuations of each image.

    Without a requirement, the most probable. With one, dynamic beam allocation (Post & Vilar
    2018): each hypothesis offers its best words and those that bring it further; continuations are
    banked by their progress, and the beam takes the best of each bank, the furthest bank first,
    then the second best of each, and so on. So the furthest hypothesis always gets further.

    Args:
        totals: (A, J), log-probabilities of the live hypotheses; -inf is a dead one.
        log_probs: (A * J, V), of the next word; the end word is -inf.
        width: K.
        penalty: (A, V), subtracted for the ranking only, or None.
        requirement: What is still to be said, or None.
    """
    images, beams = totals.shape
    ranking = log_probs
    if penalty is not None:
        ranking = log_probs - penalty.repeat_interleave(beams, dim=0)
    # No image has more than K continuations of one hypothesis among its best K.
    ranks, words = top_words(ranking, min(width, log_probs.shape[1]))
    values = ranks if penalty is None else log_probs.gather(1, words)
    if requirement is not None:
        words = torch.cat([words, requirement.next_words], dim=1)
        values = log_probs.gather(1, words)
        ranks = ranking.gather(1, words).masked_fill(_said_before(words), NEVER)

    k = words.shape[1]
    ranks = totals.unsqueeze(2) + ranks.view(images, beams, k)
    # A dead beam may hold anything, NaN too: it stays dead.
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
    """(M, N) bool: whether a word stands further left in its row of words (M, N)."""
    same = words.unsqueeze(2) == words.unsqueeze(1)
    return same.tril(diagonal=-1).any(dim=2)


def _in_turns(ranks: Tensor, progress: Tensor, target: int) -> Tensor:
    """Order (A, N) that takes the best of each bank in turn, the furthest bank first."""
    # Sort by rank, then stably by bank: a turn is the distance from the start of the bank.
    by_rank = ranks.argsort(dim=1, descending=True, stable=True)
    banks, by_bank = progress.gather(1, by_rank).sort(dim=1, stable=True)
    order = by_rank.gather(1, by_bank)
    turn = torch.arange(banks.shape[1], device=banks.device) - torch.searchsorted(banks, banks)
    key = turn * (target + 1) + (target - banks)
    impossible = ranks.gather(1, order) == NEVER
    key = key.masked_fill(impossible, torch.iinfo(torch.int64).max)
    return order.gather(1, key.argsort(dim=1, stable=True))

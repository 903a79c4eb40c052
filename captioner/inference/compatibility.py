"""Checks of checkpoints that write together, and what they share."""

from collections.abc import Sequence

from captioner.checkpoint.file import Checkpoint
from captioner.decoding.options import SampleOptions
from captioner.errors import UsageError
from captioner.inference.phrases import Wording
from captioner.inference.strategy import Strategy


def check_vocabularies(members: Sequence[Checkpoint]) -> None:
    """Refuse checkpoints with different vocabularies, or none at all.

    Raises:
        UsageError: there is no checkpoint, or one has other words than the first.
    """
    if not members:
        raise UsageError("ensemble: no checkpoint is given; it should be one or more")
    first = members[0]
    for other in members[1:]:
        ours, theirs = first.vocabulary.words, other.vocabulary.words
        if ours != theirs:
            raise UsageError(
                f"ensemble: {other.path} has another vocabulary ({len(theirs)} words) than "
                f"{first.path} ({len(ours)} words); all must have been trained with one"
            )


def check_directions(members: Sequence[Checkpoint], wording: Wording) -> None:
    """Refuse checkpoints that read in different directions, or backward ones with a wording.

    Raises:
        UsageError: for either.
    """
    ways = {member.captioner.backward for member in members}
    if len(ways) > 1:
        raise UsageError(
            "ensemble: some of the checkpoints read captions backward and some forward; give only "
            "the forward ones, and one backward one to re-rank (--backward P)"
        )
    if ways == {True} and wording != Wording():
        raise UsageError(
            f"{members[0].path} reads captions backward, where phrases cannot be required or "
            "banned; use a forward checkpoint, and this one to re-rank (--backward)"
        )


def check_agreement(
    members: Sequence[Checkpoint],
    backward: Checkpoint,
    strategy: Strategy,
) -> None:
    """Refuse a backward checkpoint that cannot re-rank what the others find.

    Raises:
        UsageError: a checkpoint has the wrong direction, or there is nothing to re-rank.
    """
    if not backward.captioner.backward or members[0].captioner.backward:
        wrong = members[0] if members[0].captioner.backward else backward
        way = "backward" if members[0].captioner.backward else "forward"
        raise UsageError(
            f"backward: {wrong.path} reads captions {way}; captions are found by a forward "
            "checkpoint and re-ranked by one trained with decoder.direction backward"
        )
    search, agreement = strategy.search, strategy.agreement
    if isinstance(search, SampleOptions):
        raise UsageError("backward: it re-ranks a beam search, not samples; leave sampling out")
    if search.beam_size < 2:
        raise UsageError("backward: a beam of 1 leaves nothing to choose; set beam_size 2 or more")
    if not 0 <= agreement <= 1:
        raise UsageError(f"agreement: {agreement!r} is out of range; it must be from 0 to 1")

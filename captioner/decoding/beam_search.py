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
at its first end. Done images leave the batch. With a beam as wide as the number of captions the
result is that of exhaustive enumeration.

Letters: B images, A images still searched, K beams, M = A * K rows, T maximum length, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captioner.decoding.constraints import Constraint
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.live_beam import LiveBeam
from captioner.decoding.options import SearchOptions
from captioner.decoding.required import RequiredPhrases
from captioner.decoding.tree import State, select_rows
from captioner.errors import CaptionerError, UsageError

__all__ = ["SearchOptions", "Step", "beam_search"]

# (ids (M,) int64, state) -> (logits or log-probabilities (M, V), state);
# where something is shared it comes third: step(ids, state, shared).
Step = Callable[..., tuple[Tensor, State]]


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
) -> Hypotheses:
    """Finds the most probable captions of a batch of images.

    Args:
        start_ids: (B,) int64, the id from which each caption starts.
        state: Tensors with B rows in nested tuples, lists, dicts or dataclasses. Rows follow their
            hypotheses: ``step`` sees M of them, ordered by image, then beam.
        step: ``step(ids, state) -> (scores, state)`` with ids (M,) and scores (M, V), logits or
            log-probabilities alike: they are normalised here. M is B at the first step and K times
            the number of unfinished images after it.
        end_id: The word that ends a caption.
        options: Widths, lengths and normalisation; the defaults if not given.
        shared: What all beams of an image share and no step changes, such as the attention keys
            (B, R, F). Given, ``step`` is called as ``step(ids, state, shared)``; each tensor has
            one row for each of the A unfinished images, never one per beam, so that
            ``state.view(A, M // A, ...)`` lines up with it.
        constraints: What captions must and must not say; see
            :mod:`captioner.decoding.constraints` and :mod:`captioner.decoding.required`. Without
            any, nothing changes, to the bit.

    Returns:
        The ``n_best`` captions of each image, best first.

    Raises:
        UsageError: ``start_ids`` is not (B,), ``end_id`` or a word of a constraint is not in the
            vocabulary, or the required words do not fit into a caption.
        CaptionerError: ``step`` returned NaN or infinity, or an image is left without any caption.
    """
    options = options or SearchOptions()
    if start_ids.dim() != 1:
        raise UsageError(f"start_ids: shape {tuple(start_ids.shape)}; it should be (images,)")
    required = _required(constraints, options)
    if len(start_ids) == 0:
        return Hypotheses.empty(options.n_best, options.max_length, start_ids.device)
    may_ask = answers_at_once(start_ids.device)
    ask_every = 1 if may_ask else 4

    beam: LiveBeam | None = None
    ids = start_ids
    held = [constraint.start(ids) for constraint in constraints]
    images: list[Tensor] = []
    found: list[Hypotheses] = []
    for t in range(1, options.max_length + 1):
        logits, state = step(ids, state) if shared is None else step(ids, state, shared)
        log_probs = normalised(logits, len(ids), end_id)
        if beam is None:
            beam = LiveBeam(
                len(ids), end_id, options, log_probs.device, log_probs.dtype, may_ask=may_ask
            )
        last = t == options.max_length
        for constraint, memory in zip(constraints, held, strict=True):
            constraint.forbid(log_probs, memory, end_id, last)
        progress = None if required is None else held[constraints.index(required)]
        ids, rows = beam.extend(t, log_probs, required, progress)
        del log_probs  # the largest thing here, with the logits: not kept while the next is made

        # Before anything may have ended, or died without being allowed to, no image is done.
        may_be_done = beam.has_ends or t <= options.min_length
        if last or (may_be_done and t % ask_every == 0):
            if bool(beam.is_broken()):
                raise broken_step(logits, t)
            done = beam.done(t)
            finished = int(done.sum())
            if finished:
                beam.stop(done)
            # Leaving the batch copies what stays: worth it for an eighth of the work.
            if last or 8 * finished >= len(done):
                _check_captions(beam, done, t)
                images.append(beam.images[done])
                found.append(beam.read(done))
                if finished == len(done):
                    break
                beam.keep(~done)
                rows, ids = (x.view(len(done), -1)[~done].flatten() for x in (rows, ids))
                if shared is not None:
                    shared = select_rows(shared, (~done).nonzero().squeeze(1))
        state = select_rows(state, rows)
        held = [
            constraint.advance(select_rows(memory, rows), ids)
            for constraint, memory in zip(constraints, held, strict=True)
        ]
    return Hypotheses.concatenate(found).of_images(torch.cat(images).argsort())


def answers_at_once(device: torch.device) -> bool:
    """Whether reading a value costs nothing; a GPU's queue of work has to run empty first."""
    return device.type == "cpu"


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


def _required(constraints: Sequence[Constraint], options: SearchOptions) -> RequiredPhrases | None:
    found = [one for one in constraints if isinstance(one, RequiredPhrases)]
    if len(found) > 1:
        raise UsageError(
            f"constraints: {len(found)} RequiredPhrases; give all the phrases to one of them"
        )
    for one in found:
        one.check(options.max_length)
    return found[0] if found else None


def _check_captions(beam: LiveBeam, done: Tensor, t: int) -> None:
    lost = beam.without_caption(done)
    if bool(lost.any()):
        raise CaptionerError(
            f"no caption is left for image {int(beam.images[lost][0])} of the batch (counted from "
            f"0) at word {t}: every continuation has probability zero or is forbidden"
        )

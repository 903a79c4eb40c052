"""The loop body of beam search: one step, and the handling of finished images between steps.

Dimensions: B images, A images still searched, K beams, M = A * K rows, T maximum length, V
vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captioner.decoding.beam import LiveBeam
from captioner.decoding.constraints import Constraint, with_own
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.options import SearchOptions
from captioner.decoding.pytree import State, select_rows
from captioner.decoding.required_phrases import RequiredPhrases
from captioner.decoding.step import Looked, Step, broken_step, normalised
from captioner.errors import CaptionerError, UsageError

ASK_EVERY = 4
"""Steps between two synchronisations with a GPU."""


class RunningSearch:
    """A beam search in progress. Arguments and errors are those of `beam_search`."""

    def __init__(
        self,
        start_ids: Tensor,
        state: State,
        step: Step,
        end_id: int,
        options: SearchOptions,
        shared: Any,
        constraints: Sequence[Constraint] = (),
        required: RequiredPhrases | None = None,
        looked: Looked | None = None,
    ) -> None:
        if start_ids.dim() != 1:
            raise UsageError(f"start_ids: shape {tuple(start_ids.shape)}; it should be (images,)")
        self._options = options
        self._end_id = end_id
        self._step = step
        self._ids = start_ids
        self._state = state
        self._shared = shared
        self._constraints = with_own(constraints, options)
        self._looked = looked
        self._held: list[Any] = []  # what the constraints remember, one each
        self._required = required
        self._progress: Tensor | None = None  # state of `required`, (M, P)
        if required is not None:
            required.check(options.max_length)
            self._progress = required.start(start_ids)
        self._scores: Tensor | None = None  # scores of the latest step, (M, V)
        self._rows: Tensor | None = None  # row of the state that each word continues
        self._may_ask = answers_at_once(start_ids.device)
        self._beam: LiveBeam | None = None
        self._images: list[Tensor] = []
        self._found: list[Hypotheses] = []

    @property
    def beam(self) -> LiveBeam:
        """The live hypotheses; available after the first step."""
        assert self._beam is not None
        return self._beam

    def advance(self, t: int) -> None:
        """Run step t = 1 .. T for all hypotheses, without synchronising with a GPU."""
        if self._rows is None:
            # Here and not when the search is created, so that a recording does it every time.
            self._held = [constraint.start(self._ids) for constraint in self._constraints]
        else:
            self._state = select_rows(self._state, self._rows)
            self._held = [
                constraint.advance(select_rows(memory, self._rows), self._ids)
                for constraint, memory in zip(self._constraints, self._held, strict=True)
            ]
            if self._required is not None and self._progress is not None:
                progress = self._progress.index_select(0, self._rows)
                self._progress = self._required.advance(progress, self._ids)
        ids, end_id = self._ids, self._end_id
        shared = () if self._shared is None else (self._shared,)
        # Overwrite the scores and state of the previous step at once, so that peak memory is that
        # of a single step.
        self._scores, self._state = self._step(ids, self._state, *shared)
        log_probs = normalised(self._scores, len(ids), end_id)
        if self._beam is None:
            kind = log_probs.device, log_probs.dtype
            self._beam = LiveBeam(len(ids), end_id, self._options, *kind, may_ask=self._may_ask)
        last = t == self._options.max_length
        for constraint, memory in zip(self._constraints, self._held, strict=True):
            constraint.forbid(log_probs, memory, end_id, last)
        required, said = self._required, self._progress
        if required is not None and said is not None:
            required.forbid_unsaid(log_probs, said, end_id, last)
        attention = None if self._looked is None else self._looked(self._state)
        self._ids, self._rows = self._beam.extend(t, log_probs, required, said, attention)

    def may_be_done(self, t: int) -> bool:
        """Return whether to check for done images after step t.

        No image is done before a hypothesis may have ended, or died without being allowed to end.
        A GPU is checked only every `ASK_EVERY` steps, because each check synchronises.
        """
        if t == self._options.max_length:
            return True
        may_be = self.beam.has_ends or t <= self._options.min_length
        return may_be and (self._may_ask or t % ASK_EVERY == 0)

    def settle(self, t: int) -> bool:
        """Remove done images from the batch after step t, and return whether all are done.

        Raises:
            CaptionerError: The step returned invalid values, or a done image has no caption.
        """
        beam = self.beam
        if bool(beam.is_broken()):
            assert self._scores is not None
            raise broken_step(self._scores, t)
        done = beam.done(t)
        finished = int(done.sum())
        if finished:
            beam.stop(done)
        if finished < len(done) and not self._may_leave(finished, len(done)):
            return False
        self._read(done, t)
        if finished == len(done):
            return True
        beam.keep(~done)
        assert self._rows is not None
        self._rows, self._ids = (
            x.view(len(done), -1)[~done].flatten() for x in (self._rows, self._ids)
        )
        if self._shared is not None:
            self._shared = select_rows(self._shared, (~done).nonzero().squeeze(1))
        return False

    def _may_leave(self, finished: int, images: int) -> bool:
        """Return whether removing the done images saves at least an eighth of the work.

        On GPU they always stay: a smaller batch is no faster, and captured and uncaptured searches
        must agree to the last bit.
        """
        return self._may_ask and 8 * finished >= images

    def result(self) -> Hypotheses:
        """Return the captions of all images in their original order, once all are done."""
        return Hypotheses.concatenate(self._found).of_images(torch.cat(self._images).argsort())

    def advance_without_asking(self, steps: range) -> Tensor:
        """Run several steps and return (2,) bool: all images are done, and all values are valid.

        With `read_all`, this replaces `settle` and `result` where synchronisation is not allowed.
        """
        for t in steps:
            self.advance(t)
        beam = self.beam
        done = beam.done(steps[-1])
        is_well = ~(beam.is_broken() | beam.without_caption(done).any())
        beam.stop(done)
        return torch.stack([done.all(), is_well])

    def read_all(self) -> Hypotheses:
        """Return the current captions of all images."""
        return self.beam.read_all()

    def _read(self, done: Tensor, t: int) -> None:
        """Store the captions of the images in the mask (A,)."""
        beam = self.beam
        lost = beam.without_caption(done)
        if bool(lost.any()):
            raise CaptionerError(
                f"image {int(beam.images[lost][0])} of the batch (counted from 0) has no caption "
                f"left at word {t}: every continuation has probability zero or is forbidden"
            )
        self._images.append(beam.images[done])
        self._found.append(beam.read(done))


def answers_at_once(device: torch.device) -> bool:
    """Return whether reading a value from the device is free, that is, needs no synchronisation."""
    return device.type == "cpu"

"""Beam search on a GPU that is recorded once and then played back.

A step of search is some sixty small kernels. A GPU has done each of them long before Python asks
for the next, so that a search takes as long as the asking. Recorded as CUDA graphs, four steps of
search are one thing to ask for. The kernels are the same, on the same data in the same order, and
so are the captions: on a GPU images that are done stay in the batch in both.

    search = RecordedSearch(decoder.step, end_id, SearchOptions(beam_size=5))
    for start_ids, state in batches:
        found = search(start_ids, state)

It takes what :func:`captioner.decoding.beam_search.beam_search` takes and is meant for one model
and many batches: a recording holds for one shape of batch. What it cannot record, and all that runs
elsewhere than on a CUDA device, goes to `beam_search`. It is for one thread at a time.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captioner.decoding.beam_search import beam_search
from captioner.decoding.constraints import BannedWords, Constraint
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.options import SearchOptions
from captioner.decoding.pytree import State, leaves, tree_map
from captioner.decoding.running_search import ASK_EVERY, RunningSearch
from captioner.decoding.step import Looked, Step

Shapes = tuple[tuple[torch.Size, torch.dtype, torch.device], ...]


class RecordedSearch:
    """A beam search of one model, for many batches.

    Args:
        step: the model's, as beam search takes it. To be recorded it must only give out work and
            wait for nothing. Its weights may be changed in place, but not replaced.
        end_id: the word that ends a caption.
        options: of the search.
        looked: as of `beam_search`.
        constraints: as of `beam_search`; with any but `BannedWords` nothing is recorded.
        record_after: batches of one shape that are searched as ever before it is recorded.
            A recording takes a quarter of a second or so, which a few batches alone never repay.
    """

    MOST = 4
    """Recordings that are kept, each with the memory of a search of its shape."""

    def __init__(
        self,
        step: Step,
        end_id: int,
        options: SearchOptions | None = None,
        *,
        constraints: Sequence[Constraint] = (),
        looked: Looked | None = None,
        record_after: int = 16,
    ) -> None:
        self.step = step
        self.end_id = end_id
        self.options = options or SearchOptions()
        self.constraints = constraints
        self.looked = looked
        self.record_after = record_after
        self.recordings: dict[Shapes, Recording | None] = {}
        """By the shapes of their inputs; None where none could be made."""
        self._searched: Counter[Shapes] = Counter()
        self._recordable = all(isinstance(one, BannedWords) for one in constraints)

    @torch.inference_mode()
    def __call__(self, start_ids: Tensor, state: State, shared: Any = None) -> Hypotheses:
        """Captions of a batch; arguments and errors are those of `beam_search`."""
        on_gpu = start_ids.device.type == "cuda"
        # In mixed precision the weights in half of it are forgotten at the end of the block.
        stays = not torch.is_autocast_enabled("cuda")
        if self._recordable and on_gpu and stays and start_ids.numel() > 0:
            with torch.cuda.device(start_ids.device):
                found = self._play(start_ids, state, shared)
            if found is not None:
                return found
        return beam_search(
            start_ids,
            state,
            self.step,
            self.end_id,
            self.options,
            shared=shared,
            constraints=self.constraints,
            looked=self.looked,
        )

    def _play(self, start_ids: Tensor, state: State, shared: Any) -> Hypotheses | None:
        """Captions from a recording; None: there is none yet, or something is wrong."""
        inputs = (start_ids, state, shared)
        given = leaves(inputs)
        shapes = tuple((one.shape, one.dtype, one.device) for one in given)
        if shapes not in self.recordings:
            if self._searched[shapes] < self.record_after or len(self.recordings) == self.MOST:
                self._searched[shapes] += 1
                return None
            self.recordings[shapes] = self._record(inputs)
        recording = self.recordings[shapes]
        return None if recording is None else recording.play(given)

    def _record(self, inputs: tuple[Tensor, State, Any]) -> "Recording | None":
        own = tree_map(torch.clone, inputs)
        start_ids, state, shared = own

        def begin() -> RunningSearch:
            return RunningSearch(
                start_ids,
                state,
                self.step,
                self.end_id,
                self.options,
                shared,
                self.constraints,
                self.looked,
            )

        try:
            return Recording(leaves(own), begin, self.options.max_length)
        except RuntimeError:  # memory is short, or the step waits for something
            return None


@dataclass(frozen=True)
class Part:
    """Some steps of a search, recorded, and the reading of its captions if it ends with them."""

    steps: torch.cuda.CUDAGraph
    verdict: Tensor
    """(2,) bool: whether all images are done, and whether all is well."""
    reading: torch.cuda.CUDAGraph
    found: Hypotheses


class Recording:
    """A search of one shape: its inputs and all of its steps, in memory that stays where it is.

    Args:
        inputs: tensors that the search begins with.
        begin: makes the search, on these inputs.
        max_length: steps of the search, T.
    """

    def __init__(
        self, inputs: list[Tensor], begin: Callable[[], RunningSearch], max_length: int
    ) -> None:
        self._inputs = inputs
        self._parts: list[Part] = []
        spans = [
            range(first, min(first + ASK_EVERY, max_length + 1))
            for first in range(1, max_length + 1, ASK_EVERY)
        ]
        # What is loaded or set up at its first use must not be at the first use of the recording.
        search = begin()
        for span in spans:
            search.advance_without_asking(span)
            search.read_all()
        search = begin()
        recording = partial(
            torch.cuda.graph,
            pool=torch.cuda.graph_pool_handle(),
            stream=torch.cuda.Stream(),  # torch's own belongs to the first device that records
            capture_error_mode="thread_local",
        )
        for span in spans:
            steps, reading = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
            with recording(steps):
                verdict = search.advance_without_asking(span)
            with recording(reading):
                found = search.read_all()
            self._parts.append(Part(steps, verdict, reading, found))

    def play(self, inputs: list[Tensor]) -> Hypotheses | None:
        """Captions of other inputs of the same shapes; None: a search as ever will say why not."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        for part in self._parts:
            part.steps.replay()
            done, is_well = part.verdict.tolist()
            if not is_well:
                break
            if done:
                part.reading.replay()
                return part.found.clone()
        return None

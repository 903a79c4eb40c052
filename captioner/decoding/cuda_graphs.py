"""Beam search on a GPU, captured as CUDA graphs and replayed.

A search step launches about sixty small kernels, and each finishes before Python launches the next.
So the search is bound by launch latency. `RecordedSearch` captures four steps in one CUDA graph and
launches them together. It runs the same kernels on the same data in the same order, so captions are
identical. On GPU, done images stay in the batch with and without capture.

    search = RecordedSearch(decoder.step, end_id, SearchOptions(beam_size=5))
    for start_ids, state in batches:
        found = search(start_ids, state)

It takes the arguments of `captioner.decoding.beam_search.beam_search` and is meant for one model
and many batches. One recording serves one batch shape. Searches that cannot be captured, and all
searches on other devices, use `beam_search`. Not thread-safe.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captioner.decoding.beam_search import beam_search
from captioner.decoding.constraints import (
    BannedWords,
    Constraint,
    NoWordTwiceInARow,
    with_own,
)
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.options import SearchOptions
from captioner.decoding.pytree import State, leaves, tree_map
from captioner.decoding.required_phrases import RequiredPhrases
from captioner.decoding.running_search import ASK_EVERY, RunningSearch
from captioner.decoding.step import Looked, Step

Shapes = tuple[tuple[torch.Size, torch.dtype, torch.device], ...]


class RecordedSearch:
    """Beam search with one model over many batches, captured as CUDA graphs.

    Args:
        step: The model's step, as for `beam_search`. It can be captured only if it never
            synchronises with the device. Its weights may change in place but not be replaced.
        end_id: The word that ends a caption.
        options: Search options. Default: `SearchOptions()`.
        constraints: As for `beam_search`. Any constraint but `BannedWords` and
            `NoWordTwiceInARow` disables capture.
        required: As for `beam_search`; disables capture.
        looked: As for `beam_search`.
        record_after: Number of batches of one shape searched without capture before that shape is
            captured. Capture takes about 0.25 s, which pays off only over many batches.
    """

    MOST = 4
    """Maximum number of recordings kept. Each holds the memory of a search of its shape."""

    def __init__(
        self,
        step: Step,
        end_id: int,
        options: SearchOptions | None = None,
        *,
        constraints: Sequence[Constraint] = (),
        required: RequiredPhrases | None = None,
        looked: Looked | None = None,
        record_after: int = 16,
    ) -> None:
        self.step = step
        self.end_id = end_id
        self.options = options or SearchOptions()
        self.constraints = constraints
        self.required = required
        self.looked = looked
        self.record_after = record_after
        self.recordings: dict[Shapes, Recording | None] = {}
        """Recordings by input shapes; None where capture failed."""
        self._searched: Counter[Shapes] = Counter()
        recordable = (BannedWords, NoWordTwiceInARow)
        held = with_own(constraints, self.options)
        self._recordable = required is None and all(isinstance(one, recordable) for one in held)

    @torch.inference_mode()
    def __call__(self, start_ids: Tensor, state: State, shared: Any = None) -> Hypotheses:
        """Search a batch. Arguments and errors are those of `beam_search`."""
        on_gpu = start_ids.device.type == "cuda"
        # Autocast drops its cached half-precision weights at the end of the block, so a recording
        # would read freed memory.
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
            required=self.required,
            looked=self.looked,
        )

    def _play(self, start_ids: Tensor, state: State, shared: Any) -> Hypotheses | None:
        """Return captions from a recording, or None if there is none or its replay failed."""
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
                self.required,
                self.looked,
            )

        try:
            return Recording(leaves(own), begin, self.options.max_length)
        except RuntimeError:  # out of memory, or the step synchronises with the device
            return None


@dataclass(frozen=True)
class Part:
    """Captured steps of a search, and the captured read-out of captions if it ends after them."""

    steps: torch.cuda.CUDAGraph
    verdict: Tensor
    """(2,) bool: whether all images are done, and whether the values are valid."""
    reading: torch.cuda.CUDAGraph
    found: Hypotheses


class Recording:
    """A captured search for one batch shape, with static input and output tensors.

    Args:
        inputs: The tensors that the search reads. `play` copies each batch into them.
        begin: Creates the search over these inputs.
        max_length: Number of steps, T.
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
        # Warm up: libraries that load or initialise lazily must not do so during capture.
        search = begin()
        for span in spans:
            search.advance_without_asking(span)
            search.read_all()
        search = begin()
        recording = partial(
            torch.cuda.graph,
            pool=torch.cuda.graph_pool_handle(),
            stream=torch.cuda.Stream(),  # the default stream belongs to one device
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
        """Return captions for inputs of the same shapes, or None on invalid values.

        A search without capture then raises the error that explains them.
        """
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

"""The networks of a captioner as three graphs, which programs without this package can run.

======== ======================================================= ==================================
graph    inputs                                                  outputs
======== ======================================================= ==================================
encoder  photos (B, 3, S, S) uint8                               features (B, F) or (B, R, F)
begin    features                                                state_0 … (B, N), keys (B, R, A),
                                                                 values (B, R, H)
step     words (B, K) int64, state_0 … (B, K, N), keys, values   log_probs (B, K, V), next_0 …
                                                                 (B, K, N), attention (B, K, R)
======== ======================================================= ==================================

Keys, values and attention exist with attention only. They are projected once per image and shared
by its K hypotheses. B and K are dynamic, everything else is fixed. The graphs come from
`torch.export`; `onnx` and `pt2` write them.

Letters: B images, K beams, S pixels of a photo's side, F feature size, R regions, A attention size,
H hidden size, V vocabulary, N numbers of a state.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config

from captioner.checkpoint.file import Checkpoint
from captioner.checkpoint.graph_folder import GraphFolder, Signature
from captioner.decoding.pytree import leaves
from captioner.errors import CaptionerError
from captioner.model.attention import Regions
from captioner.model.decoder import Decoder
from captioner.model.encoder import Encoder

BATCH = {0: Dim.DYNAMIC}
BEAMS = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}


@dataclass(frozen=True)
class Graph:
    """One network as a graph.

    Attributes:
        program: What `torch.export` made of it.
        inputs: Shape and dtype of each input by name; a text stands for a dynamic size.
        outputs: The same of each output.
    """

    program: ExportedProgram
    inputs: Signature
    outputs: Signature


class EncoderGraph(nn.Module):
    """Photos to features."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, photos: Tensor) -> Tensor:
        """Encode photos (B, 3, S, S) uint8."""
        features: Tensor = self.encoder(photos)
        return features


class BeginGraph(nn.Module):
    """Features to the state before the first word, and what attention reads."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of the state (B, N) and, with attention, keys and values."""
        state, regions = self.decoder.begin(features)
        shared = () if regions is None else (regions.keys, regions.values)
        return (*leaves(state), *shared)


class StepGraph(nn.Module):
    """One word of each hypothesis to the log-probabilities of the next.

    Args:
        decoder: The decoder.
        parts: Number of tensors in each part of its state.
    """

    def __init__(self, decoder: Decoder, parts: Sequence[int]) -> None:
        super().__init__()
        self.decoder = decoder
        self.parts = tuple(parts)

    def forward(self, words: Tensor, state: list[Tensor], shared: list[Tensor]) -> list[Tensor]:
        """Take a step; see the module for shapes."""
        beams = words.shape[:2]
        tensors = iter([tensor.flatten(0, 1) for tensor in state])
        before = tuple(tuple(next(tensors) for _ in range(count)) for count in self.parts)
        regions = Regions(shared[0], shared[1]) if shared else None
        logits, after = self.decoder.step(words.flatten(), before, regions)
        found = [logits.log_softmax(1), *leaves(after[: len(self.parts)])]
        if shared:
            found.append(self.decoder.weights(after))
        return [tensor.unflatten(0, beams) for tensor in found]


def graphs(trained: Checkpoint) -> Iterator[tuple[str, Graph]]:
    """Yield the graphs of a captioner, one after the other, by name.

    Raises:
        CaptionerError: A network uses what a graph cannot contain; the message names it.
    """
    encoder, side = trained.captioner.encoder, trained.transform.size
    if not isinstance(encoder, Encoder):
        raise CaptionerError(
            f"{trained.path}: reads the region features of a detector and has no encoder, so it "
            "cannot be exported as graphs"
        )
    # Sizes of 0 and 1 would become constants of the graphs.
    photos = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    with torch.no_grad():
        features = encoder(photos)
    try:
        program = _exported(EncoderGraph(encoder), (photos,), (BATCH,))
    except CaptionerError as error:
        name = trained.config.encoder.name
        raise CaptionerError(f"{trained.path}: its encoder ({name}) {error}") from error
    inputs, outputs = _described(["photos"], [photos]), _described(["features"], [features])
    yield "encoder", Graph(program, inputs, outputs)
    try:
        yield from decoder_graphs(trained.captioner.decoder, features)
    except CaptionerError as error:
        raise CaptionerError(f"{trained.path}: its decoder {error}") from error


def decoder_graphs(decoder: Decoder, features: Tensor) -> Iterator[tuple[str, Graph]]:
    """Yield `begin` and `step` of a decoder, given the features of two images.

    Raises:
        CaptionerError: The decoder uses what a graph cannot contain.
    """
    with torch.no_grad():
        state, regions = decoder.begin(features)
    tensors = leaves(state)
    names = [f"state_{i}" for i in range(len(tensors))]
    shared = [] if regions is None else [regions.keys, regions.values]
    of_shared = _described(["keys", "values"][: len(shared)], shared)
    program = _exported(BeginGraph(decoder), (features,), (BATCH,))
    outputs = {**_described(names, tensors), **of_shared}
    yield "begin", Graph(program, _described(["features"], [features]), outputs)

    beams = [torch.stack([tensor] * 3, dim=1) for tensor in tensors]
    words = torch.zeros(2, 3, dtype=torch.int64)
    module = StepGraph(decoder, [len(part) for part in state])
    with torch.no_grad():
        found = module(words, beams, shared)
    shapes = (BEAMS, [BEAMS] * len(beams), [BATCH] * len(shared))
    program = _exported(module, (words, beams, shared), shapes)
    results = ["log_probs", *(f"next_{i}" for i in range(len(tensors)))]
    results += ["attention"] if shared else []
    inputs = {**_described(["words", *names], [words, *beams], 2), **of_shared}
    yield "step", Graph(program, inputs, _described(results, found, 2))


def folder_of(
    trained: Checkpoint,
    folder: Path,
    kind: str,
    signatures: Mapping[str, tuple[Signature, Signature]],
    details: Mapping[str, Any],
) -> GraphFolder:
    """Return the description of a captioner's graphs; the arguments are fields of `GraphFolder`."""
    return GraphFolder(
        folder,
        kind,
        trained.vocabulary,
        trained.transform,
        trained.config.search,
        trained.captioner.backward,
        trained.captioner.decoder.kind,
        getattr(trained.captioner.encoder.trunk, "at_once", None),
        signatures,
        details,
    )


def _exported(module: nn.Module, arguments: Any, shapes: Any) -> ExportedProgram:
    try:
        # Without the setting, a graph would refuse a single image or a single beam.
        with torch.no_grad(), _config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            return torch.export.export(module.eval(), arguments, dynamic_shapes=shapes)
    except Exception as error:  # torch raises many types for what it cannot trace
        reason = " ".join(str(error).split())[:150]
        raise CaptionerError(f"cannot be exported as a graph: {reason}") from error


def _described(names: Sequence[str], tensors: Sequence[Tensor], dynamic: int = 1) -> Signature:
    """Return dtype and shape by name; the first sizes are dynamic."""
    letters = ["images", "beams"][:dynamic]
    return {
        name: (str(tensor.dtype).removeprefix("torch."), [*letters, *tensor.shape[dynamic:]])
        for name, tensor in zip(names, tensors, strict=True)
    }

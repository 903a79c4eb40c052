"""Photos to captions with onnxruntime, numpy and Pillow; torch is not imported.

Example: ::

    from captioner.inference.onnx_runtime import OnnxPredictor

    predictor = OnnxPredictor.load("exported", beam_size=5)  # captioner export --format onnx
    for found in predictor.caption(["dog.jpg", "kite.jpg"]):
        print(found.path, found.caption or found.error)

The graphs are those of `captioner.checkpoint.graphs`, the search is
`captioner.decoding.numpy_search`. Letters: B images, K beams, T words, R regions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from captioner.checkpoint.graph_folder import GRAPHS, GraphFolder, read_graph_folder
from captioner.decoding.numpy_constraints import (
    BannedEndings,
    BannedPhrases,
    BannedWords,
    NoRepeatedNgram,
    NumpyConstraint,
)
from captioner.decoding.numpy_search import Arrays, FoundCaption, beam_search
from captioner.decoding.options import SearchOptions
from captioner.errors import UsageError
from captioner.inference.onnx_graph import OnnxGraph
from captioner.inference.photo import Photo
from captioner.inference.phrases import Forbidden
from captioner.inference.reading import PhotoCaptioner, Reading, Seconds
from captioner.inference.result import AttentionMap, PhotoCaptions, candidate, grid_of
from captioner.inference.strategy import Strategy, check_beam
from captioner.text.vocabulary import END, PAD, START, UNKNOWN


class OnnxPredictor(PhotoCaptioner):
    """An exported captioner with a strategy, on the CPU.

    Args:
        folder: A folder of `captioner export --format onnx`.
        strategy: How captions are searched for; None searches as the captioner's own settings say.
        threads: Threads of onnxruntime; None for `available_cores`.
        allow_url: Whether photos may be addresses (``https://…``), which are then downloaded.

    Raises:
        UsageError: The strategy asks for what this runtime does not support.
        CaptionerError: onnxruntime is not installed, or a graph is damaged or refused.
    """

    device = "cpu"

    def __init__(
        self,
        folder: GraphFolder,
        strategy: Strategy | None = None,
        *,
        threads: int | None = None,
        allow_url: bool = False,
    ) -> None:
        if folder.kind != "onnx":
            raise UsageError(
                f"{folder.folder}: holds {folder.kind} graphs; export it with --format onnx"
            )
        self.folder = folder
        self.allow_url = allow_url
        self.vocabulary = folder.vocabulary
        self.strategy = strategy or Strategy(folder.search())
        self._options = _supported(self.strategy)
        if self.strategy.attention and folder.attention == "none":
            raise UsageError(
                "attention: the checkpoint has none; train one with decoder.attention spatial"
            )
        check_beam(self._options, len(folder.vocabulary))
        never = BannedWords([PAD, START, UNKNOWN])
        forbidden = self.strategy.wording.forbidden(folder.vocabulary)
        self._constraints = [never, *constraints_of(forbidden)]
        self.seconds = Seconds()
        self._encoder, self._begin, self._step = (
            OnnxGraph(folder, name, threads) for name in GRAPHS
        )
        self._shares = folder.attention != "none"

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        strategy: Strategy | None = None,
        threads: int | None = None,
        allow_url: bool = False,
        **options: Any,
    ) -> "OnnxPredictor":
        """Load a predictor from an exported folder.

        Args:
            path: The folder.
            strategy: How captions are searched for.
            threads: As in `OnnxPredictor`.
            allow_url: As there.
            options: Fields of `Strategy` or of `SearchOptions`, instead of a strategy.

        Raises:
            UsageError: There is no such folder or option, or the options do not fit.
            CaptionerError: As in `OnnxPredictor`.
        """
        folder = read_graph_folder(Path(path))
        strategy = Strategy.chosen(folder, strategy, options)
        return cls(folder, strategy, threads=threads, allow_url=allow_url)

    def _reading(self, batch_size: int, workers: int) -> Reading:
        preview = self.strategy.preview
        return Reading([self.folder.transform], preview, batch_size, workers, self.allow_url)

    def _search(self, photos: Sequence[Photo]) -> list[PhotoCaptions]:
        """Caption photos that have been read."""
        began = perf_counter()
        pixels = [one.pixels[0] for one in photos if not isinstance(one.pixels, str)]
        # Photo by photo: faster than a batch, whose maps leave the caches, and a photo's features
        # do not depend on the others.
        features = np.concatenate([self._encoder.run([one[None]])[0] for one in pixels])
        encoded = perf_counter()
        self.seconds.encoding += encoded - began
        begun = self._begin.run([features])
        shared = tuple(begun[-2:]) if self._shares else ()
        found = beam_search(
            START,
            tuple(begun[: len(begun) - len(shared)]),
            shared,
            self._advance,
            END,
            self._options,
            self._constraints,
        )
        self.seconds.searching += perf_counter() - encoded
        return [self._result(*one) for one in zip(photos, found, strict=True)]

    def _advance(
        self, words: np.ndarray, state: Arrays, shared: Arrays
    ) -> tuple[np.ndarray, Arrays, np.ndarray | None]:
        log_probs, *after = self._step.run([words, *state, *shared])
        seen = after.pop() if self._shares else None
        return log_probs, tuple(after), seen if self.strategy.attention else None

    def _result(self, photo: Photo, found: Sequence[FoundCaption]) -> PhotoCaptions:
        own = [in_reading_order(one) for one in found] if self.folder.backward else found
        longest = self._options.max_length
        listed = tuple(
            candidate(
                one.words, one.log_prob, one.score, one.word_log_probs, self.vocabulary, longest
            )
            for one in own
        )
        return PhotoCaptions(
            photo.path, listed, attention=self._map(photo, own), preview=photo.preview
        )

    def _map(self, photo: Photo, found: Sequence[FoundCaption]) -> AttentionMap | None:
        """Return the attention of a photo's captions, if the strategy wants it."""
        rows = [one.attention for one in found if one.attention is not None]
        if not rows:
            return None
        weights = np.zeros((len(rows), max(map(len, rows)), rows[0].shape[1]), dtype=np.float32)
        for place, own in zip(weights, rows, strict=True):
            place[: len(own)] = own
        sentinel = None
        if self.folder.attention == "adaptive":
            weights, sentinel = weights[..., :-1], weights[..., -1]
        box = self.folder.transform.box(*photo.size)
        return AttentionMap(weights, grid_of(weights.shape[2]), sentinel, photo.size, box)


def constraints_of(forbidden: Forbidden) -> list[NumpyConstraint]:
    """Return the constraints that forbid words, for the search in numpy."""
    found: list[NumpyConstraint] = []
    if forbidden.words:
        found.append(BannedWords(forbidden.words))
    if forbidden.phrases:
        found.append(BannedPhrases(forbidden.phrases))
    if forbidden.endings:
        found.append(BannedEndings(forbidden.endings))
    if forbidden.repeated_ngram:
        found.append(NoRepeatedNgram(forbidden.repeated_ngram))
    return found


def in_reading_order(found: FoundCaption) -> FoundCaption:
    """Return a caption that was written from its last word to its first; the end stays last."""
    n = len(found.words)
    parts, seen = found.word_log_probs, found.attention
    return replace(
        found,
        words=found.words[::-1],
        word_log_probs=[*parts[:n][::-1], *parts[n:]],
        attention=None if seen is None else np.concatenate([seen[:n][::-1], seen[n:]]),
    )


def _supported(strategy: Strategy) -> SearchOptions:
    """Return the search options of a strategy that this runtime supports.

    Raises:
        UsageError: It asks for something else; the message names the first.
    """
    search = strategy.search
    refused: Mapping[str, bool] = {
        "--sample": not isinstance(search, SearchOptions),
        "--groups": isinstance(search, SearchOptions) and search.groups > 1,
        "--require": bool(strategy.wording.require),
        "--tf32": strategy.tf32,
    }
    for flag, is_set in refused.items():
        if is_set:
            raise UsageError(f"{flag}: not supported with --runtime onnx; use --runtime torch")
    assert isinstance(search, SearchOptions)
    return search

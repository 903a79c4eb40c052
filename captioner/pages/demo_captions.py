"""Captions for the demo page: the predictor of the command line, one photo at a time."""

import base64
import io
import shlex
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image

from captioner.checkpoint.file import Checkpoint
from captioner.display import one_line
from captioner.errors import UsageError
from captioner.inference.predictor import Predictor
from captioner.inference.strategy import Strategy
from captioner.inference.writers import record_of
from captioner.photos.source import PhotoSource

PREVIEW = 960
"""Longest side, in pixels, of the upright copy that the page shows and draws attention on."""

_KEPT = 8
"""Predictors that are kept: people change one setting and caption the same photos again."""

StrategyOf = Callable[[Checkpoint, Sequence[str]], Strategy]
"""From a checkpoint and flags of `captioner caption` to the strategy that they describe."""


class Captions:
    """Captions of one or two checkpoints. Not thread-safe: one thread uses it.

    Args:
        models: Loaded checkpoints.
        device: Where they run.
        strategy_of: Reads flags as the command line does.
    """

    def __init__(
        self, models: Sequence[Checkpoint], device: torch.device, strategy_of: StrategyOf
    ) -> None:
        self.models = models
        self._device = device
        self._strategy_of = strategy_of
        self._predictors: OrderedDict[tuple[int, tuple[str, ...]], Predictor] = OrderedDict()

    def answer(
        self, model: int, name: str, content: bytes, flags: tuple[str, ...]
    ) -> dict[str, Any]:
        """Caption a photo.

        Args:
            model: Number of the checkpoint.
            name: Name of the photo's file. Its samples depend on the name and the seed.
            content: Bytes of the file.
            flags: Flags of `captioner caption`.

        Returns:
            As plain values: `record` (that of `captioner caption --format jsonl`, which for a bad
            photo holds the reason) and `command` (which prints this record). Beside a caption also
            `size` (width and height of the upright photo), `box` (the part that the attention grid
            covers, or None), `preview` (a JPEG as a `data:` address) and `seconds`.

        Raises:
            UsageError: A setting is wrong, or contradicts another one.
        """
        if not 0 <= model < len(self.models):
            raise UsageError(f"model: {model} is not a number from 0 to {len(self.models) - 1}")
        if not any(flag.startswith(("--n-best=", "--sample=")) for flag in flags):
            flags = (*flags, "--n-best=1")
        began = perf_counter()
        found = self._predictor(model, flags).caption(PhotoSource(Path(name or "photo"), content))
        answer = {
            "record": record_of(found, candidates=True),
            "command": self._command(model, name, flags),
        }
        if found.preview is None:  # the photo is bad
            return answer
        attention = found.attention
        return answer | {
            "size": _size(found.preview) if attention is None else attention.size,
            "box": None if attention is None else attention.box,
            "preview": _jpeg(found.preview),
            "seconds": round(perf_counter() - began, 3),
        }

    def _predictor(self, model: int, flags: tuple[str, ...]) -> Predictor:
        key = model, flags
        if key not in self._predictors:
            trained = self.models[model]
            strategy = self._strategy_of(trained, flags)
            self._predictors[key] = Predictor(trained, self._device, strategy)
        self._predictors.move_to_end(key)
        while len(self._predictors) > _KEPT:
            self._predictors.popitem(last=False)
        return self._predictors[key]

    def _command(self, model: int, name: str, flags: tuple[str, ...]) -> str:
        trained = self.models[model]
        attention = ("--attention",) if attends(trained) else ()
        words = [name or "photo", "--checkpoint", str(trained.path), "--format", "jsonl"]
        return one_line(shlex.join(["captioner", "caption", *words, *attention, *flags]))


def attends(trained: Checkpoint) -> bool:
    """Return whether a checkpoint attends to regions of the photo."""
    return trained.captioner.decoder.kind != "none"


def _size(preview: np.ndarray) -> tuple[int, int]:
    return preview.shape[1], preview.shape[0]


def _jpeg(preview: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(preview).save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()

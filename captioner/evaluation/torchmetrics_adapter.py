"""The scores as a torchmetrics metric, for use in Lightning code.

The state of the metric is the captions themselves, as bytes: CIDEr's document frequencies need all
references, so no smaller state exists. 5,000 images take 2 MB. Bytes are gathered across processes
like any tensor. A distributed sampler may pad the last batch with images of another process. An
image that occurs twice with the same caption counts once.

torchmetrics is installed with lightning. No other module of the evaluation imports it or torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from captioner.datasets.records import ImageId
from captioner.errors import CaptionerError, shown
from captioner.evaluation.scores import METRICS, score


class CaptionScores(Metric):
    """Scores of captions, gathered over batches and processes.

    Args:
        metrics: Names of metrics, as in `captioner.evaluation.scores.score`.
        options: Options of `torchmetrics.Metric`.

    Example:
        >>> metric = CaptionScores()
        >>> metric.update([7], ["a dog runs"], [["A dog runs."]])
        >>> metric.update([8], ["a blue kite"], [["A kite.", "A red kite flies."]])
        >>> round(metric.compute()["BLEU-1"].item(), 4)
        0.8333
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    rows: list[Tensor]

    def __init__(self, metrics: Sequence[str] = METRICS, **options: Any):
        super().__init__(**options)
        self.metrics = tuple(metrics)
        # A process without images gathers an empty tensor, which must have the same dtype.
        self.set_dtype(torch.uint8)
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(
        self,
        image_ids: Sequence[ImageId],
        captions: Sequence[str],
        references: Sequence[Sequence[str]],
    ) -> None:
        """Add a batch.

        Args:
            image_ids: Image ids, integers or strings, (B,).
            captions: The caption of each image, (B,).
            references: A list of references of each image, (B,).

        Raises:
            CaptionerError: A string was passed instead of a list.
        """
        for name, batch in (("image_ids", image_ids), ("captions", captions)):
            if isinstance(batch, str):
                raise CaptionerError(f"{name}: one string, {shown(batch)}; expected a list")
        if isinstance(references, str) or any(isinstance(group, str) for group in references):
            raise CaptionerError(
                "references: a string instead of a list; expected [[caption, …], …], "
                "one list per image"
            )
        for row in zip(image_ids, captions, references, strict=True):
            line = json.dumps([row[0], row[1], list(row[2])]).encode() + b"\n"
            self.rows.append(torch.tensor(list(line), dtype=torch.uint8, device=self.device))

    def compute(self) -> dict[str, Tensor]:
        """Return the corpus scores over all batches and processes by name, as float64.

        Raises:
            CaptionerError: An image has two different captions.
        """
        rows = [self.rows] if isinstance(self.rows, Tensor) else self.rows
        lines = b"".join(bytes(row.tolist()) for row in rows).decode().splitlines()
        captions: dict[ImageId, str] = {}
        references: dict[ImageId, list[str]] = {}
        for image, caption, group in map(json.loads, lines):
            if captions.setdefault(image, caption) != caption:
                raise CaptionerError(f"image {image!r}: two different captions; give one per image")
            references[image] = group
        scores = score(captions, references, metrics=self.metrics)
        return {
            name: torch.tensor(value, dtype=torch.float64, device=self.device)
            for name, value in scores.corpus.items()
        }

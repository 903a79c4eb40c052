"""Measure the gradient through time during training; write gradients.csv and gradients.png."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from captioner.analysis.gradient_flow import GradientThroughTime, gradient_through_time
from captioner.analysis.gradient_plot import plot_gradients
from captioner.datasets.batches import Batch, CaptionDataset
from captioner.errors import CaptionerError
from captioner.files.atomic import write_whole
from captioner.files.csv_rows import append_rows, text_of, whole_rows
from captioner.model.attention import stack
from captioner.text.vocabulary import START
from captioner.training.lightning_module import TrainingModule

COLUMNS = ("step", "layer", "lag", "norm", "norm_of_whole_loss")


@dataclass(frozen=True)
class Probe:
    """Captions to measure: images (M, ...), input words (M, T) and target words (M, T)."""

    images: Tensor
    words: Tensor
    targets: Tensor


def probe_captions(images: CaptionDataset, captions: int, steps: int) -> Probe:
    """Choose the captions to measure: one each from the first images with a long enough caption.

    Captions need at least `steps` words and are cut to that length. At most `captions` are chosen.

    Raises:
        CaptionerError: No caption has that many words.
    """
    chosen: list[tuple[Tensor, list[int]]] = []
    for index, of_image in enumerate(images.captions):
        long = [words for words in of_image if len(words) >= steps]
        if long:
            chosen.append((images[index].image, long[0][:steps]))
        if len(chosen) == captions:
            break
    if not chosen:
        raise CaptionerError(
            f"watch.gradient_steps {steps}: no validation caption has that many words; choose fewer"
        )
    targets = torch.tensor([words for _, words in chosen])
    start = torch.full((len(chosen), 1), START)
    return Probe(
        images=stack([image for image, _ in chosen]),
        words=torch.cat((start, targets[:, :-1]), 1),
        targets=targets,
    )


class GradientWatch(L.Callback):
    """Measures the gradient through time every `every` optimiser steps, from step 0.

    Args:
        probe: The captions to measure.
        every: Optimiser steps between two measurements.
        folder: Folder that receives gradients.csv and gradients.png.
        resume_step: Optimiser step that the run resumes from. Rows of later steps are dropped.
            None starts a new file.
    """

    def __init__(
        self, probe: Probe, *, every: int, folder: Path, resume_step: int | None = None
    ) -> None:
        self.probe = probe
        self.every = every
        self.path = folder / "gradients.csv"
        self.resume_step = resume_step

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Create gradients.csv, or keep its rows from before the checkpoint."""
        if not trainer.is_global_zero:
            return
        rows: list[list[str]] = []
        if self.resume_step is not None:
            rows = [row for row in whole_rows(self.path)[1:] if int(row[0]) < self.resume_step]
        write_whole(self.path, text_of([list(COLUMNS), *rows]))

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Measure on rank 0 if a measurement is due."""
        step = trainer.global_step
        fresh = batch_idx % trainer.accumulate_grad_batches == 0
        if trainer.is_global_zero and fresh and step % self.every == 0:
            assert isinstance(module, TrainingModule)
            self._write(step, self._look(module), trainer)

    def on_fit_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Plot gradients.png, and log it to W&B if the run logs there."""
        if not trainer.is_global_zero or len(whole_rows(self.path)) < 2:
            return  # no measurement, for example when a finished run resumes in another folder
        picture = self.path.with_suffix(".png")
        plot_gradients({self.path.parent.name: self.path}, picture)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("gradient through time", [str(picture)], step=trainer.global_step)

    def _look(self, module: TrainingModule) -> GradientThroughTime:
        captioner = module.captioner
        training = captioner.training
        captioner.eval()
        probe = self.probe
        with torch.no_grad():
            features = module.features_of(probe.images.to(module.device))
        look = gradient_through_time(
            captioner.decoder,
            features,
            probe.words.to(module.device),
            probe.targets.to(module.device),
        )
        captioner.train(training)
        return look

    def _write(self, step: int, look: GradientThroughTime, trainer: L.Trainer) -> None:
        rows: list[Sequence[Any]] = []
        for layer, (norms, whole) in enumerate(zip(look.by_distance, look.by_time, strict=True)):
            for k, (norm, of_whole) in enumerate(zip(norms, whole.flip(0), strict=True)):
                rows.append((step, layer, k + 1, f"{float(norm):.6g}", f"{float(of_whole):.6g}"))
        append_rows(self.path, rows)
        numbers = {"gradient/far_over_near": far_over_near(look)}
        numbers |= {f"gates/{name}": value for name, value in look.gates.items()}
        numbers |= {f"saturated/{name}": value for name, value in look.saturated.items()}
        for logger in trainer.loggers:
            logger.log_metrics(numbers, step=step)


def far_over_near(look: GradientThroughTime) -> float:
    """Return the gradient norm at the largest distance over that at distance 1, in the top layer.

    1 means that the gradient keeps its norm through time; 0 means that it vanishes.
    """
    top = look.by_distance[-1]
    return float(top[-1] / top[0].clamp(min=1e-30))

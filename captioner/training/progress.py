"""Progress of training on standard error; standard output is for results."""

import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ProgressBar

from captioner.console import Progress, clock, say

SHOWN = {"val/loss": "validation loss", "val/CIDEr-D": "CIDEr-D", "val/BLEU-4": "BLEU-4"}
"""Validation metrics in the line of an epoch, with their names there."""


class EpochProgress(ProgressBar):
    """One line per epoch; on a terminal also a bar over the batches of the epoch.

    Replaces Lightning's bar, which writes to standard output.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: Progress | None = None
        self._loss: torch.Tensor | None = None
        self._batches = 0
        self._since = 0.0

    def enable(self) -> None:
        """Show progress."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing; Lightning calls this on all processes but the first."""
        self._enabled = False

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Discard the values of the previous epoch."""
        self._loss, self._batches, self._since = None, 0, time.monotonic()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Open a bar, which validation within an epoch may have closed."""
        if self._bar is None:
            self._open("batches", trainer.num_training_batches, batch_idx)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Count the batch, and add its loss without waiting for the device."""
        loss = outputs["loss"].detach() * trainer.accumulate_grad_batches
        self._loss = loss if self._loss is None else self._loss + loss
        self._batches += 1
        if self._bar is not None:
            self._bar.update()

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Open a separate bar for validation batches."""
        if not trainer.sanity_checking:
            self._open("validation batches", sum(trainer.num_val_batches), 0)

    def on_validation_batch_end(self, *_: Any) -> None:
        """Count the batch."""
        if self._bar is not None:
            self._bar.update()

    def on_validation_end(self, *_: Any) -> None:
        """Close the bar."""
        self._close()

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Report the epoch in one line."""
        self._close()
        if self._enabled and self._loss is not None:
            say(self._line(trainer, float(self._loss) / self._batches))

    def on_exception(self, *_: Any) -> None:
        """Close the bar, so that the error message starts on its own line."""
        self._close()

    def _line(self, trainer: L.Trainer, loss: float) -> str:
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
        seconds = time.monotonic() - self._since
        parts = [f"loss {loss:.3f}"]
        metrics = trainer.callback_metrics
        parts += [f"{SHOWN[name]} {metrics[name]:.3f}" for name in SHOWN if name in metrics]
        parts.append(clock(seconds))
        if epochs > epoch:
            parts.append(f"{clock(seconds * (epochs - epoch))} left")
        return f"epoch {epoch} of {epochs}: {', '.join(parts)}"

    def _open(self, unit: str, total: float, done: int) -> None:
        self._close()
        if self._enabled:
            known = int(total) if total != float("inf") else None
            self._bar = Progress(unit, known, done=done)
            self._bar.__enter__()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__()
            self._bar = None

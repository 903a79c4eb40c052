"""Callbacks of a training run: its beginning and its throughput."""

import time
from collections.abc import Callable
from typing import Any

import lightning as L

from captioner.datasets.batches import Batch
from captioner.training.lightning_module import TrainingModule


class Beginning(L.Callback):
    """Runs `action` once on rank 0 when training begins, after all states are restored.

    Args:
        action: Function to call, without arguments.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Call the action, and shorten the logging interval of a run that is shorter than it.

        Such a run logs its loss once per epoch.
        """
        steps = trainer.estimated_stepping_batches
        if steps < trainer.log_every_n_steps:  # type: ignore[attr-defined]
            epochs = max(1, trainer.max_epochs or 1)
            trainer.log_every_n_steps = max(1, int(steps) // epochs)  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            self.action()


class Throughput(L.Callback):
    """Logs training throughput in caption words per second.

    The rate is that of this process times the number of processes.
    """

    def __init__(self) -> None:
        self._words = 0
        self._since = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the words and seconds counted so far in this epoch."""
        return {"words": self._words, "seconds": time.perf_counter() - self._since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the words and seconds of a checkpoint."""
        self._words = state_dict["words"]
        self._since = -state_dict["seconds"]  # see on_train_start

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock, at 0 or at the seconds restored from a checkpoint."""
        self._since += time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Reset the clock; validation and checkpoints are not counted."""
        self._words, self._since = 0, time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count the batch's words and log the throughput of this epoch so far."""
        assert isinstance(module, TrainingModule)
        self._words += module.words
        seconds = time.perf_counter() - self._since
        rate = self._words * trainer.world_size / max(seconds, 1e-9)
        module.log("words_per_second", rate, prog_bar=True)

"""What is watched while a run goes on: its speed, and some of its captions."""

import time
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.loggers import WandbLogger

from captioner.datasets.batches import Batch
from captioner.datasets.records import Record
from captioner.training.lightning_module import TrainingModule


class Beginning(L.Callback):
    """Does something once, on the first process, when training begins: all states are restored.

    Args:
        action: what is done.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Do it; and let a run shorter than the logging interval log its loss each epoch."""
        steps = trainer.estimated_stepping_batches
        if steps < trainer.log_every_n_steps:  # type: ignore[attr-defined]
            epochs = max(1, trainer.max_epochs or 1)
            trainer.log_every_n_steps = max(1, int(steps) // epochs)  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            self.action()


class Throughput(L.Callback):
    """Logs the caption words learned from in a second, on this process times their number."""

    def __init__(self) -> None:
        self._words = 0
        self._since = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Words and seconds of this epoch so far."""
        return {"words": self._words, "seconds": time.perf_counter() - self._since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._words = state_dict["words"]
        self._since = -state_dict["seconds"]  # see on_train_start

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """The clock goes on, from 0 or from what a checkpoint said."""
        self._since += time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock; validation and checkpoints are not counted."""
        self._words, self._since = 0, time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count; say how fast the epoch has been so far."""
        assert isinstance(module, TrainingModule)
        self._words += module.words
        seconds = time.perf_counter() - self._since
        rate = self._words * trainer.world_size / max(seconds, 1e-9)
        module.log("words_per_second", rate, prog_bar=True)


class SampleCaptions(L.Callback):
    """Shows some validation pictures with references and captions, in W&B's table.

    Args:
        records: the pictures shown, the same at each validation.
    """

    def __init__(self, records: list[Record]) -> None:
        self.records = records

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Log the table, if the run logs to W&B."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(module, TrainingModule)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                self._log_table(logger, module, max(trainer.global_step - 1, 0))

    def _log_table(self, logger: WandbLogger, module: TrainingModule, step: int) -> None:
        import wandb

        rows = [
            [
                wandb.Image(str(record.path)),
                "\n".join(record.captions),
                module.written[record.image_id],
            ]
            for record in self.records
            if record.image_id in module.written
        ]
        columns = ["image", "references", "caption"]
        logger.log_table("samples", columns=columns, data=rows, step=step)

"""last.ckpt and best.ckpt: written between two steps, moved when whole, gone on from exactly."""

import contextlib
import math
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping

from captioner.console import say
from captioner.errors import CaptionerError
from captioner.training import random_states
from captioner.training.failures import InterruptedRunError, TerminatedError
from captioner.training.run_files import resume_command


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint and sees that it is on the disk; a half-written one is taken away."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write it.

        Raises:
            CaptionerError: the disk is full, or the folder may not be written.
        """
        write_checkpoint(checkpoint, Path(path))


def write_checkpoint(checkpoint: dict[str, Any], file: Path) -> None:
    """Write a checkpoint through to the disk, or nothing.

    Raises:
        CaptionerError: the disk is full, or the folder may not be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            torch.save(checkpoint, stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, RuntimeError) as error:  # torch tells of a short write in its own way
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else error.__context__
        reason = cause.strerror if isinstance(cause, OSError) else None
        short = " ".join(str(error).split())[:120]
        raise CaptionerError(
            f"{file.parent}: a checkpoint cannot be written: {reason or short}"
        ) from error


class RunCheckpoints(Checkpoint):
    """Keeps what a killed run goes on from, and the weights with the best validation score.

    A checkpoint is taken where all that belongs to a step is done (its rows are logged, its
    schedule has moved) and nothing of the next one has begun: at the start of every epoch but the
    first, every so many optimiser steps, when the process is asked to end, and at the end. It holds
    the random states of all processes too, so that the run that goes on from it is, on a CPU and in
    one process, the run that was not interrupted, bit for bit. best.ckpt is the file that last.ckpt
    was at the first such moment after its score was seen.

    Both are moved to their names when they are whole and on the disk, the best first: a run killed
    in between goes on from the last.ckpt before, and finds the same best again.

    Args:
        last: the file to go on from.
        best: the file with the best score.
        monitor: logged name of the score.
        mode: "max" or "min".
        every_steps: optimiser steps between two checkpoints within an epoch; None for none.
        seed: of the run.
    """

    def __init__(
        self,
        last: Path,
        best: Path,
        *,
        monitor: str,
        mode: str,
        every_steps: int | None = None,
        seed: int = 0,
    ) -> None:
        self.last = last
        self.best = best
        self.monitor = monitor
        self.sign = 1.0 if mode == "max" else -1.0
        self.every_steps = every_steps
        self.seed = seed
        self.best_score: float | None = None
        self.best_loss: float | None = None
        """Validation loss of the best checkpoint; decides while all scores are 0."""
        self.saved_step = 0
        """Optimiser step of the last checkpoint; 0 where there is none."""
        self._best_is_new = False
        self._to_restore: list[dict[str, Any]] | None = None
        self._fresh = True
        self._told = False
        self._asked_to_end: signal.Signals | None = None

    @property
    def begun(self) -> bool:
        """Whether a training step has been reached."""
        return not self._fresh

    def state_dict(self) -> dict[str, Any]:
        """The best score, and the random states of all processes."""
        return {
            "monitor": self.monitor,
            "best_score": self.best_score,
            "best_loss": self.best_loss,
            "random_states": random_states.of_all_processes(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take these over; the random states when the first step is about to be done."""
        if state_dict.get("monitor", self.monitor) == self.monitor:
            self.best_score = state_dict["best_score"]
            self.best_loss = state_dict.get("best_loss")
        self._to_restore = state_dict["random_states"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Listen for SIGTERM and Ctrl-C; do not train on where a run had stopped early."""
        self.saved_step = trainer.global_step
        if threading.current_thread() is threading.main_thread():
            # Lightning's handler, put back by Lightning when training ends, would stop the run too,
            # but without a checkpoint.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda number, frame: self._ask_to_end(number))
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # a list at run time
            if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
                trainer.should_stop = True

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """See whether the score is the best so far."""
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        score = float(trainer.callback_metrics[self.monitor])
        if math.isnan(score):
            score = -self.sign * math.inf
        loss = float(trainer.callback_metrics.get("val/loss", math.inf))
        better = self.best_score is None or self.sign * score > self.sign * self.best_score
        if not better and score == self.best_score == 0 and self.sign > 0:
            # Too little data, or captions too poor, for the score to tell epochs apart.
            better = self.best_loss is not None and loss < self.best_loss
            if trainer.is_global_zero and not self._told:
                name = self.monitor.removeprefix("val/")
                say(f"validation: {name} is 0 so far: the lowest val/loss chooses the best epoch")
                self._told = True
        if better:
            self.best_score, self.best_loss = score, loss
            self._best_is_new = True

    def between_steps(self, trainer: L.Trainer) -> None:
        """To be called before a batch is worked on: when nothing of a step is left undone.

        Raises:
            TerminatedError: the process was asked to end; a checkpoint has been written.
        """
        if self._fresh:
            self._fresh = False
            self._begin(trainer)
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        if batches % trainer.accumulate_grad_batches:
            return  # gradients are being added up, and a checkpoint does not hold them
        step = trainer.global_step
        due = self.every_steps is not None and step % self.every_steps == 0
        ending = trainer.strategy.reduce_boolean_decision(self._asked_to_end is not None, all=False)
        if step != self.saved_step and (batches == 0 or due or ending):
            self.save(trainer)
        if ending:
            self._end(step)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Keep the end of the run."""
        if trainer.global_step != self.saved_step:
            self.save(trainer)

    def end_if_asked(self, trainer: L.Trainer) -> None:
        """To be called after training: it may have been asked to end after its last step.

        Whoever asked would else not be heard, and what comes after training would go on.

        Raises:
            TerminatedError: so it was; the checkpoint is that of the end.
        """
        if self._asked_to_end is not None:
            self._end(trainer.global_step)

    def _end(self, step: int) -> NoReturn:
        hint = f"; resume with: {resume_command(self.last)}" if self.last.exists() else ""
        if self._asked_to_end == signal.SIGINT:
            raise InterruptedRunError(f"interrupted after step {step}{hint}")
        raise TerminatedError(f"stopped by SIGTERM after step {step}{hint}")

    def save(self, trainer: L.Trainer) -> None:
        """Write last.ckpt, and best.ckpt if the last score was the best; on all processes at once.

        Raises:
            CaptionerError: they could not be written; those before are as they were.
        """
        draft = self.last.with_name(self.last.name + ".part")
        trainer.save_checkpoint(draft)
        if trainer.is_global_zero:
            try:
                if self._best_is_new:
                    move(second_name(draft), self.best)
                move(draft, self.last)
            except OSError as error:
                raise CaptionerError(f"{draft}: {error.strerror or error}") from error
        self._best_is_new = False
        self.saved_step = trainer.global_step

    def _begin(self, trainer: L.Trainer) -> None:
        """Random numbers as the checkpoint says, or others on each process; and the loops in order.

        Lightning leaves out the step of a plateau schedule at the end of an epoch that was resumed
        (its checkpoints may have been written after it), and counts a step that was none where an
        epoch is resumed at its start.
        """
        trainer.fit_loop.restarting = False
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        rank, step = trainer.global_rank, trainer.global_step
        states, self._to_restore = self._to_restore, None
        if states is not None and len(states) == trainer.world_size:
            random_states.restore(states[rank])
        elif rank > 0 or states is not None:
            torch.manual_seed(random_states.seed_of_rank(self.seed, rank, step))

    def _ask_to_end(self, number: int) -> None:
        if number == signal.SIGINT:
            if self._asked_to_end is not None:
                raise KeyboardInterrupt  # the second Ctrl-C: end at once
            say("interrupted: a checkpoint follows this step; press Ctrl-C again to end at once")
        self._asked_to_end = signal.Signals(number)


def second_name(file: Path) -> Path:
    """The same bytes under another name, beside it: a link where the file system has links."""
    other = file.with_name(file.name + ".best")
    other.unlink(missing_ok=True)
    try:
        os.link(file, other)
    except OSError:
        shutil.copyfile(file, other)
        with other.open("rb") as stream:
            os.fsync(stream.fileno())
    return other


def move(file: Path, to: Path) -> None:
    """Put a file in another's place, so that a power failure leaves one of the two."""
    file.replace(to)
    with contextlib.suppress(OSError):  # not every file system lets a folder be synced
        folder = os.open(to.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

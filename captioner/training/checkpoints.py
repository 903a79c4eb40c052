"""Write last.ckpt and best.ckpt between two steps, atomically, so that a run resumes exactly."""

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
    """Checkpoint plugin that syncs each file to disk and removes incomplete ones."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint and sync it to disk.

        Raises:
            CaptionerError: The disk is full, or the folder is not writable.
        """
        write_checkpoint(checkpoint, Path(path))


def write_checkpoint(checkpoint: dict[str, Any], file: Path) -> None:
    """Write a checkpoint and sync it to disk; on failure, remove the incomplete file.

    Raises:
        CaptionerError: The disk is full, or the folder is not writable.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            torch.save(checkpoint, stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, RuntimeError) as error:  # torch reports a short write as a RuntimeError
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else error.__context__
        reason = cause.strerror if isinstance(cause, OSError) else None
        short = " ".join(str(error).split())[:120]
        raise CaptionerError(
            f"{file.parent}: a checkpoint cannot be written: {reason or short}"
        ) from error


class RunCheckpoints(Checkpoint):
    """Keeps last.ckpt, which a killed run resumes from, and best.ckpt, the best validation score.

    A checkpoint is written only between two steps: the last step is complete (its metrics are
    logged, its schedule has advanced) and the next one has not begun. This happens at the start of
    every epoch but the first, every `every_steps` optimiser steps, on SIGTERM or Ctrl-C, and at the
    end. The checkpoint includes the random states of all processes. On one CPU process, a resumed
    run is therefore bit-identical to an uninterrupted one. best.ckpt is a copy of the first
    last.ckpt written after its score was measured.

    Both files are written under a draft name and renamed once they are complete on disk, best.ckpt
    first. A run killed between the two renames resumes from the previous last.ckpt and finds the
    same best checkpoint again.

    Args:
        last: File to resume from.
        best: File with the best score.
        monitor: Logged name of the score.
        mode: "max" or "min".
        every_steps: Optimiser steps between two checkpoints within an epoch; None writes none
            within an epoch.
        seed: Seed of the run.
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
        """Validation loss of the best checkpoint; breaks ties while all scores are 0."""
        self.saved_step = 0
        """Optimiser step of the last checkpoint; 0 before the first one."""
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
        """Return the best score and the random states of all processes."""
        return {
            "monitor": self.monitor,
            "best_score": self.best_score,
            "best_loss": self.best_loss,
            "random_states": random_states.of_all_processes(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score now, and the random states just before the first step."""
        if state_dict.get("monitor", self.monitor) == self.monitor:
            self.best_score = state_dict["best_score"]
            self.best_loss = state_dict.get("best_loss")
        self._to_restore = state_dict["random_states"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Install signal handlers for SIGTERM and Ctrl-C; stop if early stopping was reached."""
        self.saved_step = trainer.global_step
        if threading.current_thread() is threading.main_thread():
            # Lightning's handler would stop the run without a checkpoint. Lightning restores its
            # own when training ends.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda number, frame: self._ask_to_end(number))
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # a list at run time
            if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
                trainer.should_stop = True

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Check whether the score is the best so far."""
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        score = float(trainer.callback_metrics[self.monitor])
        if math.isnan(score):
            score = -self.sign * math.inf
        loss = float(trainer.callback_metrics.get("val/loss", math.inf))
        better = self.best_score is None or self.sign * score > self.sign * self.best_score
        if not better and score == self.best_score == 0 and self.sign > 0:
            # With little data or poor captions every score is 0, so the loss decides.
            better = self.best_loss is not None and loss < self.best_loss
            if trainer.is_global_zero and not self._told:
                name = self.monitor.removeprefix("val/")
                say(f"validation: {name} is 0 so far; the epoch with the lowest val/loss is best")
                self._told = True
        if better:
            self.best_score, self.best_loss = score, loss
            self._best_is_new = True

    def between_steps(self, trainer: L.Trainer) -> None:
        """Write a checkpoint if one is due; call this before each training batch.

        Raises:
            TerminatedError: The process received SIGTERM or Ctrl-C; a checkpoint was written.
        """
        if self._fresh:
            self._fresh = False
            self._begin(trainer)
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        if batches % trainer.accumulate_grad_batches:
            return  # a checkpoint does not hold gradients that are still being accumulated
        step = trainer.global_step
        due = self.every_steps is not None and step % self.every_steps == 0
        ending = trainer.strategy.reduce_boolean_decision(self._asked_to_end is not None, all=False)
        if step != self.saved_step and (batches == 0 or due or ending):
            self.save(trainer)
        if ending:
            self._end(step)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the final checkpoint."""
        if trainer.global_step != self.saved_step:
            self.save(trainer)

    def end_if_asked(self, trainer: L.Trainer) -> None:
        """Raise if a signal arrived after the last step; call this after training.

        No later step would check for the signal, and the program would continue after training.

        Raises:
            TerminatedError: The process received SIGTERM or Ctrl-C; the final checkpoint exists.
        """
        if self._asked_to_end is not None:
            self._end(trainer.global_step)

    def _end(self, step: int) -> NoReturn:
        hint = f"; resume with: {resume_command(self.last)}" if self.last.exists() else ""
        if self._asked_to_end == signal.SIGINT:
            raise InterruptedRunError(f"interrupted after step {step}{hint}")
        raise TerminatedError(f"stopped by SIGTERM after step {step}{hint}")

    def save(self, trainer: L.Trainer) -> None:
        """Write last.ckpt, and best.ckpt if the last score is the best; call it on all processes.

        Raises:
            CaptionerError: A file could not be written; the previous checkpoints are unchanged.
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
        """Restore or seed the random generators, and correct Lightning's loop state.

        After a resume at the end of an epoch, Lightning skips the step of a plateau schedule,
        because its own checkpoints may have been written after that step. After a resume at the
        start of an epoch, it counts a step that did not happen.
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
                raise KeyboardInterrupt  # the second Ctrl-C ends the run at once
            say("interrupted: writing a checkpoint after this step; press Ctrl-C again to end now")
        self._asked_to_end = signal.Signals(number)


def second_name(file: Path) -> Path:
    """Give a file a second name beside it: a hard link, or a copy where links are unsupported."""
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
    """Replace a file atomically, so that after a power failure one of the two exists."""
    file.replace(to)
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        folder = os.open(to.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

"""The training and validation splits, fed in batches to any number of processes."""

import signal
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from captioner.datasets.batches import (
    Batch,
    CaptionDataset,
    Collate,
    ImageSource,
    SharedBatches,
)
from captioner.datasets.records import Record
from captioner.errors import UsageError
from captioner.text.vocabulary import Vocabulary


def ignore_interrupts(worker: int) -> None:
    """Let Ctrl-C end the training process alone, which still needs a batch to end its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def next_batch(trainer: L.Trainer) -> tuple[int, int]:
    """Between two steps: the epoch that the next batch belongs to, and its place there, from 0."""
    epochs = trainer.fit_loop.epoch_progress.current
    within = epochs.ready != epochs.completed
    batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed
    return epochs.completed, batches if within else 0


class CaptionDataModule(L.LightningDataModule):
    """Captioned images of two splits.

    The order of an epoch depends on the seed and the epoch alone: with W processes and batches of
    B, the W batches of a step hold the same images as one process' batch of W * B. A run resumed
    in the middle of an epoch goes on with its next batch, and reads none of those before.

    Args:
        train: records of the training split.
        val: records of the validation split.
        source: gives the tensor of a record's image.
        vocabulary: words to ids.
        max_length: words of a training caption at most.
        batch_size: images in a batch, on each process.
        workers: processes that load batches, for each training process.
        seed: of the order of the training images.
        backward: give the words of captions from the last to the first.
    """

    def __init__(
        self,
        train: Sequence[Record],
        val: Sequence[Record],
        source: ImageSource,
        vocabulary: Vocabulary,
        *,
        max_length: int,
        batch_size: int,
        workers: int = 0,
        seed: int = 0,
        backward: bool = False,
    ) -> None:
        super().__init__()
        self.train_images = CaptionDataset(train, source, vocabulary, max_length, backward=backward)
        self.val_images = CaptionDataset(val, source, vocabulary, max_length, backward=backward)
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed
        self.start = (0, 0)
        """Epoch, and batches of it that have been learned from, where training begins."""

    def state_dict(self) -> dict[str, Any]:
        """Which batch is the next."""
        assert self.trainer is not None
        epoch, batches = next_batch(self.trainer)
        return {"epoch": epoch, "batches": batches, "images_a_step": self._images_a_step()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin with that batch.

        Raises:
            UsageError: the checkpoint is from within an epoch that was cut into other batches.
        """
        now, before = self._images_a_step(), state_dict["images_a_step"]
        if state_dict["batches"] and now != before:
            raise UsageError(
                f"--resume: the checkpoint is from within an epoch, after {state_dict['batches']} "
                f"batches of {before} images over all devices, and this run has {now}; choose "
                "data.batch_size and trainer.devices so that they are as many"
            )
        self.start = (state_dict["epoch"], state_dict["batches"])

    def _images_a_step(self) -> int:
        assert self.trainer is not None
        return self.batch_size * self.trainer.world_size

    def train_dataloader(self) -> DataLoader[Batch]:
        """This process' share of the training images, in a new order each epoch."""
        return self._loader(self.train_images, self.seed, self.start)

    def val_dataloader(self) -> DataLoader[Batch]:
        """This process' share of the validation images, each image on one process only."""
        return self._loader(self.val_images)

    def _loader(
        self, images: CaptionDataset, seed: int | None = None, start: tuple[int, int] = (0, 0)
    ) -> DataLoader[Batch]:
        assert self.trainer is not None
        batches = SharedBatches(
            len(images),
            self.batch_size,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            seed=seed,
            start=start,
        )
        return DataLoader(
            images,  # type: ignore[arg-type]  # collate turns items into a batch
            batch_sampler=batches,
            collate_fn=Collate(images),
            # Its own, so that beginning an epoch draws no number that dropout would have drawn.
            generator=torch.Generator().manual_seed(self.seed),
            num_workers=self.workers,
            worker_init_fn=ignore_interrupts if self.workers else None,
            persistent_workers=self.workers > 0,
            pin_memory=self.trainer.accelerator.name() == "cuda",
        )

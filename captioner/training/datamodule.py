"""Feed the training and validation splits in batches to one or more processes."""

import signal
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch

from captioner.datasets.batches import (
    Batch,
    CaptionDataset,
    Collate,
    ImageSource,
    SharedBatches,
)
from captioner.datasets.loader import Loader
from captioner.datasets.records import Record
from captioner.errors import UsageError
from captioner.text.vocabulary import Vocabulary


def ignore_interrupts(worker: int) -> None:
    """Ignore Ctrl-C in a data worker: the training process still needs batches to end its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def next_batch(trainer: L.Trainer) -> tuple[int, int]:
    """Return the epoch of the next batch and its index within that epoch, both from 0.

    Call this only between two steps.
    """
    epochs = trainer.fit_loop.epoch_progress.current
    within = epochs.ready != epochs.completed
    batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed
    return epochs.completed, batches if within else 0


class CaptionDataModule(L.LightningDataModule):
    """Batches of captioned images from the training and validation splits.

    The order of an epoch depends only on the seed and the epoch. With W processes and batches of B,
    the W batches of a step hold the same images as one process's batch of W * B. A run that resumes
    within an epoch continues with the next batch and reads none of the earlier ones.

    Args:
        train: Records of the training split.
        val: Records of the validation split.
        source: Returns the tensor of a record's image.
        vocabulary: Maps words to ids.
        max_length: Maximum length of a training caption in words.
        batch_size: Images per batch on each process.
        workers: Data-loading processes per training process.
        seed: Seed of the order of the training images.
        backward: Reverse the word order of captions.
        views: Return other views of the training images; each epoch draws one per image.
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
        views: Sequence[ImageSource] = (),
    ) -> None:
        super().__init__()
        self.train_images = CaptionDataset(
            train, source, vocabulary, max_length, backward=backward, views=views
        )
        self.val_images = CaptionDataset(val, source, vocabulary, max_length, backward=backward)
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed
        self.start = (0, 0)
        """Epoch at which training begins, and the number of its batches already trained on."""

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the next batch."""
        assert self.trainer is not None
        epoch, batches = next_batch(self.trainer)
        return {"epoch": epoch, "batches": batches, "images_a_step": self._images_a_step()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position of the next batch.

        Raises:
            UsageError: The checkpoint was written within an epoch with another batch size.
        """
        now, before = self._images_a_step(), state_dict["images_a_step"]
        if state_dict["batches"] and now != before:
            raise UsageError(
                f"--resume: the checkpoint was written within an epoch, after "
                f"{state_dict['batches']} batches of {before} images over all devices; this run "
                f"has batches of {now}; set data.batch_size and trainer.devices so that their "
                f"product is {before}"
            )
        self.start = (state_dict["epoch"], state_dict["batches"])

    def _images_a_step(self) -> int:
        assert self.trainer is not None
        return self.batch_size * self.trainer.world_size

    def train_dataloader(self) -> Loader[Batch]:
        """Return this process's share of the training images, in a new order each epoch."""
        return self._loader(self.train_images, self.seed, self.start)

    def val_dataloader(self) -> Loader[Batch]:
        """Return this process's share of the validation images; the shares do not overlap."""
        return self._loader(self.val_images)

    def _loader(
        self, images: CaptionDataset, seed: int | None = None, start: tuple[int, int] = (0, 0)
    ) -> Loader[Batch]:
        assert self.trainer is not None
        batches = SharedBatches(
            len(images),
            self.batch_size,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            seed=seed,
            start=start,
            views=1 if seed is None else len(images.sources),
        )
        return Loader(
            images,  # type: ignore[arg-type]  # collate turns items into a batch
            batch_sampler=batches,
            collate_fn=Collate(images),
            # A generator of its own, so that starting an epoch does not change dropout's numbers.
            generator=torch.Generator().manual_seed(self.seed),
            num_workers=self.workers,
            worker_init_fn=ignore_interrupts if self.workers else None,
            persistent_workers=self.workers > 0,
            pin_memory=self.trainer.accelerator.name() == "cuda",
        )

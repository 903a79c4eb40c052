"""The training and validation splits, fed in batches to any number of processes."""

from collections.abc import Sequence

import lightning as L
from torch.utils.data import DataLoader, DistributedSampler

from captioner.data.batches import Batch, CaptionedImages, ImageSource, Share, collate
from captioner.data.records import Record
from captioner.data.vocabulary import Vocabulary


class CaptionDataModule(L.LightningDataModule):
    """Captioned images of two splits.

    The order of an epoch depends on the seed and the epoch alone: with W processes and batches of
    B, the W batches of a step hold the same images as one process' batch of W * B.

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
        self.train_images = CaptionedImages(
            train, source, vocabulary, max_length, backward=backward
        )
        self.val_images = CaptionedImages(val, source, vocabulary, max_length, backward=backward)
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Batch]:
        """This process' share of the training images, in a new order each epoch."""
        assert self.trainer is not None
        sampler: DistributedSampler[int] = DistributedSampler(
            self.train_images,
            num_replicas=self.trainer.world_size,
            rank=self.trainer.global_rank,
            seed=self.seed,
        )
        return self._loader(self.train_images, sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """This process' share of the validation images, each image on one process only."""
        assert self.trainer is not None
        share = Share(len(self.val_images), self.trainer.global_rank, self.trainer.world_size)
        return self._loader(self.val_images, share)

    def _loader(
        self, images: CaptionedImages, sampler: DistributedSampler[int] | Share
    ) -> DataLoader[Batch]:
        return DataLoader(
            images,  # type: ignore[arg-type]  # collate turns items into a batch
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.trainer is not None and self.trainer.accelerator.name() == "cuda",
        )

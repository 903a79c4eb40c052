"""Captioned images as batches: each image once, with all its captions.

Letters: B images, M captions, W words of all captions, T time steps, F feature size, S pixels of a
side. The captions of a batch are packed (see `captioner.model.cells`): sorted from long to short,
all first words before all second ones, no padding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from captioner.datasets.records import ImageId, Record
from captioner.text.vocabulary import END, START, Vocabulary


class Batch(NamedTuple):
    """What a training step takes."""

    image_ids: list[ImageId]
    """Ids of the B images; none in a batch that fills a place and counts nothing."""
    images: Tensor
    """Features (B, F) or (B, R, F), or photos (B, 3, S, S) as uint8, as the source gives them."""
    inputs: Tensor
    """Words fed to the decoder (W,): of each caption the start word, then its words; packed."""
    targets: Tensor
    """Words to be predicted (W,): of each caption its words, then the end word; packed."""
    batch_sizes: list[int]
    """Captions that still run at each of the T steps. A list, so that it stays on the CPU."""
    rows: Tensor
    """Which of the B images each caption belongs to (M,), in packed order."""


class ImageSource(Protocol):
    """Where the tensor of a record's image comes from: a feature store, or its photo."""

    def __call__(self, record: Record) -> Tensor:
        """Feature (F,) or (R, F), or a photo (3, S, S) as uint8."""


class Item(NamedTuple):
    """One image with its captions as word ids."""

    image_id: ImageId
    image: Tensor
    captions: list[list[int]]


class CaptionDataset(Dataset[Item]):
    """Records as items. Captions are turned to ids once, images are read when asked for.

    Args:
        records: The images of a split.
        source: Gives the tensor of a record's image.
        vocabulary: Words to ids.
        max_length: Words of a caption at most; the rest is cut.
        backward: Give each caption's words from the last to the first.
    """

    def __init__(
        self,
        records: Sequence[Record],
        source: ImageSource,
        vocabulary: Vocabulary,
        max_length: int,
        *,
        backward: bool = False,
    ) -> None:
        self.records = records
        self.source = source
        self.captions = [
            [
                vocabulary.encode(caption)[:max_length][:: -1 if backward else 1]
                for caption in record.captions
            ]
            for record in records
        ]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Item:
        record = self.records[index]
        return Item(record.image_id, self.source(record), self.captions[index])


def collate(items: Sequence[Item]) -> Batch:
    """Item to a batch, their captions packed."""
    packed = pack([(caption, row) for row, item in enumerate(items) for caption in item.captions])
    return Batch(
        [item.image_id for item in items], torch.stack([item.image for item in items]), *packed
    )


@dataclass(frozen=True)
class Collate:
    """Items to a batch; no items to one that counts nothing, so that all processes make each step.

    Attributes:
        images: The split.
    """

    images: CaptionDataset

    def __call__(self, items: Sequence[Item]) -> Batch:
        """Return the batch."""
        return collate(items) if items else collate([self.images[0]])._replace(image_ids=[])


class Packed(NamedTuple):
    """Captions side by side, as `Batch` holds them."""

    inputs: Tensor
    targets: Tensor
    batch_sizes: list[int]
    rows: Tensor


def pack(captions: Sequence[tuple[Sequence[int], int]]) -> Packed:
    """Return captions, each with a row of its own or shared, packed from long to short."""
    ordered = sorted(captions, key=lambda pair: len(pair[0]), reverse=True)
    # zip_longest goes step by step through all captions; what has ended gives None.
    inputs = zip_longest(*([START, *caption] for caption, _ in ordered))
    targets = zip_longest(*([*caption, END] for caption, _ in ordered))
    steps = [[word for word in step if word is not None] for step in inputs]
    return Packed(
        inputs=torch.tensor([word for step in steps for word in step]),
        targets=torch.tensor([word for step in targets for word in step if word is not None]),
        batch_sizes=[len(step) for step in steps],
        rows=torch.tensor([row for _, row in ordered], dtype=torch.long),
    )


class SharedBatches(Sampler[list[int]]):
    """Batches of indices: every image of a split exactly once an epoch over all processes.

    W processes with batches of B share each W * B images of the order, which is the batch that one
    process would take. The last of these may be short, and leave a process an empty batch: all of
    them make equally many steps, and no image is repeated to fill one up (torch's
    `DistributedSampler` does that, and counts those images twice).

    Args:
        n: Images in the split.
        batch_size: Images in a batch, on each process.
        rank: This process.
        world: Number of processes.
        seed: Of the order, which is another one each epoch; None keeps the images in order.
        start: Epoch, and the batches of it that are left out: where a resumed run goes on.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        rank: int = 0,
        world: int = 1,
        seed: int | None = None,
        start: tuple[int, int] = (0, 0),
    ) -> None:
        self.n = n
        self.batch_size = batch_size
        self.rank = rank
        self.world = world
        self.seed = seed
        self.start = start
        self.epoch = start[0]

    @property
    def sampler(self) -> "SharedBatches":
        """Itself: where Lightning looks for whom to tell the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Take the order of an epoch from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batch of a whole epoch."""
        return -(-self.n // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(self.n))
        if self.seed is not None:
            draw = torch.Generator().manual_seed(self.seed + self.epoch)
            order = torch.randperm(self.n, generator=draw).tolist()
        together = self.batch_size * self.world
        first = self.start[1] if self.epoch == self.start[0] else 0
        for begin in range(first * together, self.n, together):
            yield order[begin : begin + together][self.rank :: self.world]

"""Batches of captioned images: each image once, with all its captions.

Dimensions: B images, M captions, W words of all captions, T time steps, F feature size, R regions,
S side in pixels. The captions of a batch are packed (see `captioner.model.cells`): sorted by
decreasing length, all first words before all second words, without padding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from captioner.datasets.records import ImageId, Record
from captioner.model.attention import stack
from captioner.text.vocabulary import END, START, Vocabulary


class Batch(NamedTuple):
    """The input of a training step."""

    image_ids: list[ImageId]
    """Ids of the B images; empty in a placeholder batch, which does not count."""
    images: Tensor
    """Features (B, F) or (B, R, F), or photos (B, 3, S, S) as uint8, as the source gives them."""
    inputs: Tensor
    """Decoder inputs (W,), packed: the start word of each caption, then its words."""
    targets: Tensor
    """Targets (W,), packed: the words of each caption, then the end word."""
    batch_sizes: list[int]
    """Number of active captions at each of the T steps. A list, so that it stays on the CPU."""
    rows: Tensor
    """Index of the image of each caption (M,), in packed order."""


class ImageSource(Protocol):
    """Source of image tensors: a feature store, or a reader of photos."""

    def __call__(self, record: Record) -> Tensor:
        """Return the features (F,) or (R, F) of a record, or its photo (3, S, S) uint8."""


class Item(NamedTuple):
    """One image with its captions as word ids."""

    image_id: ImageId
    image: Tensor
    captions: list[list[int]]


class CaptionDataset(Dataset[Item]):
    """Records as items. Captions are turned to ids once, images are read when asked for.

    Args:
        records: The images of a split.
        source: Returns the tensor of a record's image.
        vocabulary: Converts captions to word ids.
        max_length: Maximum words per caption; longer captions are truncated.
        backward: Whether to reverse the words of each caption.
        views: Return other views of a record's image: index n * len(records) + i is image i as the
            n-th of them returns it.
    """

    def __init__(
        self,
        records: Sequence[Record],
        source: ImageSource,
        vocabulary: Vocabulary,
        max_length: int,
        *,
        backward: bool = False,
        views: Sequence[ImageSource] = (),
    ) -> None:
        self.records = records
        self.sources = (source, *views)
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
        view, row = divmod(index, len(self.records))
        record = self.records[row]
        return Item(record.image_id, self.sources[view](record), self.captions[row])


def collate(items: Sequence[Item]) -> Batch:
    """Collate items into a batch with packed captions."""
    packed = pack([(caption, row) for row, item in enumerate(items) for caption in item.captions])
    return Batch([item.image_id for item in items], stack([item.image for item in items]), *packed)


@dataclass(frozen=True)
class Collate:
    """Items to a batch; no items to one that counts nothing, so that all processes make each step.

    Attributes:
        images: The split.
    """

    images: CaptionDataset

    def __call__(self, items: Sequence[Item]) -> Batch:
        """Collate items into a batch, or no items into a placeholder."""
        return collate(items) if items else collate([self.images[0]])._replace(image_ids=[])


class Packed(NamedTuple):
    """Packed captions, as in `Batch`."""

    inputs: Tensor
    targets: Tensor
    batch_sizes: list[int]
    rows: Tensor


def pack(captions: Sequence[tuple[Sequence[int], int]]) -> Packed:
    """Pack captions, sorted by decreasing length.

    Args:
        captions: Word ids of each caption, and the index of its image.

    Example:
        >>> packed = pack([([7], 0), ([8, 9], 1)])
        >>> packed.inputs.tolist(), packed.batch_sizes, packed.rows.tolist()
        ([1, 1, 8, 7, 9], [2, 2, 1], [1, 0])
    """
    ordered = sorted(captions, key=lambda pair: len(pair[0]), reverse=True)
    # zip_longest iterates over time steps; captions that have ended yield None.
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
    """Sample batches of indices: every image of a split exactly once per epoch over all processes.

    W processes with batch size B share each W * B consecutive images of the order, which is the
    batch that a single process would take. The last one may be short and leave a process an empty
    batch. So all processes take the same number of steps and no image is repeated, unlike in
    torch's `DistributedSampler`, which pads with repeats and counts them twice.

    Args:
        n: Number of images in the split.
        batch_size: Images per batch and process.
        rank: Rank of this process.
        world: Number of processes.
        seed: Seed of the order, which differs in each epoch. Default: no shuffling.
        start: Where a resumed run continues: the epoch and the number of its batches to skip.
        views: Views of each image; each epoch draws one of them, and index v * n + i stands for
            view v of image i.

    Example:
        >>> list(SharedBatches(5, 2)), list(SharedBatches(5, 1, rank=1, world=2))
        ([[0, 1], [2, 3], [4]], [[1], [3], []])
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
        views: int = 1,
    ) -> None:
        self.n = n
        self.views = views
        self.batch_size = batch_size
        self.rank = rank
        self.world = world
        self.seed = seed
        self.start = start
        self.epoch = start[0]

    @property
    def sampler(self) -> "SharedBatches":
        """This sampler: Lightning calls `set_epoch` on the attribute `sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Use the order of this epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return -(-self.n // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(self.n))
        if self.seed is not None:
            draw = torch.Generator().manual_seed(self.seed + self.epoch)
            shuffled = torch.randperm(self.n, generator=draw)
            if self.views > 1:
                shuffled += self.n * torch.randint(self.views, (self.n,), generator=draw)
            order = shuffled.tolist()
        together = self.batch_size * self.world
        first = self.start[1] if self.epoch == self.start[0] else 0
        for begin in range(first * together, self.n, together):
            yield order[begin : begin + together][self.rank :: self.world]

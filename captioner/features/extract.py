"""Encode the photos of a data set, batch by batch, and store their features."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from captioner.config.schema import Config
from captioner.console import Progress
from captioner.datasets.loader import Loader
from captioner.datasets.records import Record
from captioner.device import choose_device
from captioner.errors import CaptionerError
from captioner.features.journal import Entry
from captioner.features.views import ViewTransform
from captioner.features.writer import FeatureWriter
from captioner.model.encoder import Encoder
from captioner.photos.decode import PhotoError

LOST = "the processes that read this photo were killed (not enough memory?)"
"""Reason of a photo that is left out because it kills its process each time."""


class Photos(Dataset[tuple[Record, Entry, Tensor | str]]):
    """A data set of encoder inputs, or of the reasons why photos could not be read."""

    def __init__(self, records: Sequence[Record], transform: ViewTransform, root: Path) -> None:
        self.records = records
        self.transform = transform
        self.root = root

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Record, Entry, Tensor | str]:
        record = self.records[index]
        entry = Entry.of(record.image_id, record.path, self.root)
        try:
            return record, entry, self.transform.load(record)
        except PhotoError as error:
            return record, entry, str(error)


@dataclass(frozen=True)
class Computed:
    """A photo with its features, (F,) or (R, F) float32, or the reason why there are none."""

    record: Record
    entry: Entry
    features: np.ndarray | str


class Careful(Protocol):
    """Does the work of a batch; if processes have died of it, photo by photo."""

    def __call__(
        self,
        ids: Sequence[str],
        do: Callable[[Sequence[int]], Sequence[Computed]],
        lost: Callable[[int], Computed],
    ) -> list[Computed]:
        """Return the result of each photo.

        Args:
            ids: Ids of the batch.
            do: Does the work of some photos, given as places in the batch.
            lost: Returns the result of a photo that kills its process.
        """


class ReaderLostError(CaptionerError):
    """A process that reads photos was killed."""


def extract(
    records: Sequence[Record],
    encoder: Encoder,
    transform: ViewTransform,
    writer: FeatureWriter,
    shape: Sequence[int],
    config: Config,
    careful: Careful | None = None,
) -> list[tuple[Record, str]]:
    """Compute and store the features of photos; return the unreadable ones with the reasons.

    Args:
        records: The photos.
        encoder: The encoder.
        transform: Turns a photo into its input.
        writer: The store.
        shape: Of one photo's features.
        config: Device, batch size and number of processes that read.
        careful: How batches are done; default: as if no photo killed its process. Photos are then
            read in this process.

    Raises:
        ReaderLostError: A process that reads photos was killed.
    """
    device = choose_device(config.trainer.accelerator)
    encoder.to(device)
    photos = Photos(records, transform, Path(config.data.root))
    size = config.encoder.batch_size
    if careful is None:
        batches = _batches(photos, encoder, device, size, config.encoder.workers)
    else:
        batches = _careful_batches(photos, encoder, device, size, careful)
    failed: list[tuple[Record, str]] = []
    with (
        torch.inference_mode(),
        Progress("photos", len(records), shown=bool(records)) as bar,
    ):
        for batch in batches:
            good = [(one.entry, one.features) for one in batch if not isinstance(one.features, str)]
            bad = [(one, one.features) for one in batch if isinstance(one.features, str)]
            rows = np.stack([row for _, row in good]) if good else np.empty((0, *shape))
            writer.append(
                [entry for entry, _ in good], rows, [(one.entry, why) for one, why in bad]
            )
            failed += [(one.record, why) for one, why in bad]
            bar.update(len(batch))
    encoder.cpu()
    return failed


def _batches(
    photos: Photos, encoder: Encoder, device: torch.device, size: int, workers: int
) -> Iterator[list[Computed]]:
    loader: Iterable[list[tuple[Record, Entry, Tensor | str]]] = Loader(
        photos, batch_size=size, num_workers=workers, collate_fn=list
    )
    try:
        for items in loader:
            yield _encoded(items, encoder, device)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ReaderLostError(
            "a process that reads photos was killed (not enough memory?); try fewer encoder.workers"
        ) from error


def _careful_batches(
    photos: Photos, encoder: Encoder, device: torch.device, size: int, careful: Careful
) -> Iterator[list[Computed]]:
    for first in range(0, len(photos), size):
        records = photos.records[first : first + size]

        def do(places: Sequence[int], first: int = first) -> list[Computed]:
            return _encoded([photos[first + i] for i in places], encoder, device)

        def lost(place: int, records: Sequence[Record] = records) -> Computed:
            record = records[place]
            return Computed(record, Entry.unread(record.image_id, record.path, photos.root), LOST)

        yield careful([str(record.image_id) for record in records], do, lost)


def _encoded(
    items: Sequence[tuple[Record, Entry, Tensor | str]], encoder: Encoder, device: torch.device
) -> list[Computed]:
    photos = [photo for _, _, photo in items if isinstance(photo, Tensor)]
    rows: Iterator[np.ndarray] = iter(())
    if photos:
        rows = iter(encoder.encode(torch.stack(photos).to(device)).float().cpu().numpy())
    return [
        Computed(record, entry, photo if isinstance(photo, str) else next(rows))
        for record, entry, photo in items
    ]

"""Encode the photos of a data set, batch by batch, and store their features."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captioner.config.schema import Config
from captioner.console import Progress
from captioner.datasets.records import Record
from captioner.device import choose_device
from captioner.features.journal import Entry
from captioner.features.views import ViewTransform
from captioner.features.writer import FeatureWriter
from captioner.model.encoder import Encoder
from captioner.photos.decode import PhotoError


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


def extract(
    records: Sequence[Record],
    encoder: Encoder,
    transform: ViewTransform,
    writer: FeatureWriter,
    shape: Sequence[int],
    config: Config,
) -> list[tuple[Record, str]]:
    """Compute and store the features of photos; return the unreadable ones with the reasons."""
    device = choose_device(config.trainer.accelerator)
    encoder.to(device)
    loader: Iterable[list[tuple[Record, Entry, Tensor | str]]] = DataLoader(
        Photos(records, transform, Path(config.data.root)),
        batch_size=config.encoder.batch_size,
        num_workers=config.encoder.workers,
        collate_fn=list,
    )
    failed: list[tuple[Record, str]] = []
    with (
        torch.inference_mode(),
        Progress("photos", len(records), shown=bool(records)) as bar,
    ):
        for items in loader:
            entries = [entry for _, entry, photo in items if isinstance(photo, Tensor)]
            photos = [photo for _, _, photo in items if isinstance(photo, Tensor)]
            bad = [(record, entry, why) for record, entry, why in items if isinstance(why, str)]
            rows = np.empty((0, *shape))
            if photos:
                rows = encoder.encode(torch.stack(photos).to(device)).float().cpu().numpy()
            writer.append(entries, rows, [(entry, why) for _, entry, why in bad])
            failed += [(record, why) for record, _, why in bad]
            bar.update(len(items))
    encoder.cpu()
    return failed

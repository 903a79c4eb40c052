"""Views of the photos of a data set (`captioner.photos.view`), each with features of its own.

Every view has its own store, so that more views can be added later. Only training photos have
other views than the photo itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from captioner.datasets.records import SPLITS, Record
from captioner.features.store import FeatureStore
from captioner.photos.decode import read_photo
from captioner.photos.transform import Transform
from captioner.photos.view import view_of

Records = dict[str, list[Record]]
"""The records of each split."""


@dataclass(frozen=True)
class ViewTransform:
    """A record's photo as one of its views, transformed for the encoder.

    Attributes:
        transform: The preprocessing of the encoder.
        view: Number of the view; 0 is the photo itself.
    """

    transform: Transform
    view: int = 0

    def load(self, record: Record) -> Tensor:
        """Read and transform the photo of a record, (3, S, S) uint8.

        Raises:
            PhotoError: As in `captioner.photos.decode.read_photo`.
        """
        return self.transform(view_of(read_photo(record.path), self.view, str(record.image_id)))


def key_of_view(key: Mapping[str, Any], view: int) -> dict[str, Any]:
    """Return what the features of a view depend on; view 0 has the key of a store without views."""
    return dict(key) if view == 0 else {**key, "view": view}


def records_with_view(records: Records, view: int) -> Records:
    """Return the records that have a view: all have view 0, those of training also the others."""
    if view == 0:
        return records
    return {split: records[split] if split == "train" else [] for split in SPLITS}


def in_every_store(records: Records, stores: Sequence[FeatureStore]) -> Records:
    """Return the records that are in the store of each of their views."""
    return {
        split: [
            record
            for record in records[split]
            if all(
                record.image_id in store for store in (stores if split == "train" else stores[:1])
            )
        ]
        for split in SPLITS
    }

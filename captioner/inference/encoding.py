"""Photos to the features that each captioner of an ensemble reads.

Photos are transformed once for each distinct preprocessing, and encoded once for each distinct
encoder. A captioner that was trained on a detector's region features reads those of its photos.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from captioner.checkpoint.file import Checkpoint
from captioner.errors import UsageError
from captioner.inference.photo import Photo
from captioner.model.attention import stack
from captioner.model.encoder import Encoder
from captioner.model.given_features import GivenFeatures
from captioner.photos.regions import RegionFolder

T = TypeVar("T")


class Encoding:
    """The encoders of several captioners.

    Args:
        members: the captioners, on the device.
        device: where they are.
        regions: folder of region features, for captioners that read those.

    Attributes:
        transforms: what must be done to a photo before it is encoded.
        regions: where region features are read; None if no captioner reads any.

    Raises:
        UsageError: a captioner reads region features and no folder is given, or the other way
            round; or two of them read features of different sizes.
    """

    def __init__(
        self, members: Sequence[Checkpoint], device: torch.device, regions: Path | None
    ) -> None:
        self.device = device
        self.regions = folder_for(members, regions)
        seeing = [i for i, member in enumerate(members) if not member.reads_regions]
        self.transforms, transform_of = distinct([members[i].transform for i in seeing])
        of_members = [members[i].captioner.encoder for i in seeing]
        encoders = [encoder for encoder in of_members if isinstance(encoder, Encoder)]
        keys = [encoder_key(encoder) for encoder in encoders] if len(encoders) > 1 else [""]
        pairs, own = distinct(list(zip(keys, transform_of, strict=False)))
        firsts = [own.index(i) for i in range(len(pairs))]
        self._encoders = [(encoders[first], transform_of[first]) for first in firsts]
        encoded_by = dict(zip(seeing, own, strict=True))
        self._encoder_of = [encoded_by.get(i) for i in range(len(members))]

    @torch.inference_mode()
    def __call__(self, photos: Sequence[Photo]) -> list[Tensor]:
        """Return the features of photos for each captioner, (B, F) or (B, R, F)."""
        pixels = [
            torch.from_numpy(
                np.stack([one.pixels[i] for one in photos if isinstance(one.pixels, tuple)])
            )
            for i in range(len(self.transforms))
        ]
        features = [encoder.encode(pixels[i].to(self.device)) for encoder, i in self._encoders]
        given = [torch.from_numpy(one.regions.features) for one in photos if one.regions]
        regions = stack(given).to(self.device) if given else torch.empty(0)
        return [regions if i is None else features[i] for i in self._encoder_of]


def folder_for(members: Sequence[Checkpoint], folder: Path | None) -> RegionFolder | None:
    """Return the folder of region features that captioners read, None if they read none.

    Raises:
        UsageError: the folder is missing, not needed, or cannot serve all of them.
    """
    reading = [member for member in members if member.reads_regions]
    if not reading:
        if folder is not None:
            raise UsageError(
                f"regions: {members[0].path} encodes photos itself and reads no region features; "
                "leave --regions out"
            )
        return None
    first = reading[0]
    if folder is None:
        raise UsageError(
            f"{first.path} was trained on a detector's region features (data.regions); name the "
            "folder with those of the photos: --regions FOLDER"
        )
    widths = {member.captioner.encoder.feature_size: member.path for member in reading}
    if len(widths) > 1:
        (one, path), (other, second), *_ = widths.items()
        raise UsageError(
            f"ensemble: {path} reads regions of {one:,} numbers and {second} of {other:,}; both "
            "would have to be in one folder"
        )
    return RegionFolder(folder, *widths)


def distinct(items: Sequence[T]) -> tuple[list[T], list[int]]:
    """Return the distinct items in order, and for each item its index among them."""
    different = list(dict.fromkeys(items))
    return different, [different.index(item) for item in items]


def encoder_key(encoder: Encoder | GivenFeatures) -> str:
    """Return a key that encoders with the same features share: layers and weights."""
    return f"{encoder.trunk}{encoder.fingerprint()}"

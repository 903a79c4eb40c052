"""Build the encoder and transform of a run, with the key of their stored features."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from captioner.build import build_encoder
from captioner.config.schema import Config, EncoderConfig
from captioner.console import say
from captioner.datasets.records import Record
from captioner.errors import UsageError
from captioner.model.encoder import Encoder
from captioner.model.given_features import GivenFeatures
from captioner.photos.decode import PhotoError, read_photo
from captioner.photos.jpeg import quality_of
from captioner.photos.transform import Transform
from captioner.text.vocabulary import Vocabulary

LOOKED_AT = 16
"""Number of photos whose size is read before features are computed."""

RANDOM_ENCODER_SEED = 0
"""Seed of the random weights of a frozen encoder."""


@dataclass(frozen=True)
class Inherited:
    """What a run takes over from the checkpoint that it fine-tunes.

    Attributes:
        vocabulary: The words that its decoder knows.
        encoder: Its encoder, or what stands in its place; batch norm is not folded.
        transform: Turns a photo into the encoder's input.
        description: Its description of the encoder, which the run's checkpoints repeat.
        decoder: Weights of its decoder, by name.
    """

    vocabulary: Vocabulary
    encoder: Encoder | GivenFeatures
    transform: Transform
    description: Mapping[str, Any]
    decoder: Mapping[str, Tensor]

    def check_regions(self, width: int) -> None:
        """Refuse region features that the checkpoint cannot read.

        Raises:
            UsageError: It reads photos, or regions of another size.
        """
        reads = f"{self.encoder.feature_size} numbers per region, not {width}"
        if isinstance(self.encoder, Encoder):
            reads = "photos; leave it out"
        elif self.encoder.feature_size == width:
            return
        raise UsageError(f"data.regions: the checkpoint reads {reads}")

    def photo_encoder(self) -> Encoder:
        """Return the encoder of a checkpoint that reads photos.

        Raises:
            UsageError: The checkpoint reads region features.
        """
        if isinstance(self.encoder, GivenFeatures):
            raise UsageError("--from: the checkpoint reads region features; set data.regions")
        return self.encoder


def with_detail(
    config: EncoderConfig, transform: Transform, training: Sequence[Record]
) -> Transform:
    """Return the transform, limited to the detail of the training photos if they are enlarged.

    A network trained on enlarged photos expects their smoothness and their compression artefacts.
    It writes worse captions of other photos (EXPERIMENTS.md). Larger photos are therefore reduced
    and compressed first, like the training photos.
    """
    if config.detail != "auto":
        return replace(transform, detail=config.detail)
    sizes, qualities = [], []
    for record in training[:LOOKED_AT]:
        with suppress(PhotoError, OSError):  # reported later, when its features are computed
            sizes.append(read_photo(record.path).size)
            qualities.append(quality_of(record.path))
    detail = transform.detail_for(sizes)
    if detail is None:
        return transform
    known = sorted(quality for quality in qualities if quality is not None)
    quality = known[len(known) // 2] if 2 * len(known) > len(qualities) else None
    say(
        f"features: training photos are enlarged, from {detail} to {transform.size} pixels; "
        f"larger photos are reduced to {detail} pixels first"
        + ("" if quality is None else f" and compressed at JPEG quality {quality}")
        + " to match them"
    )
    return replace(transform, detail=detail, quality=quality)


def build_keyed_encoder(
    config: Config, training: Sequence[Record], inherited: Inherited | None = None
) -> tuple[Encoder, Transform, dict[str, Any]]:
    """Build or copy a frozen encoder, its transform, and the key of their features.

    Random weights (`encoder.weights none`) do not depend on `seed`, so that `prepare`, `train` and
    all runs of a study use the same ones.
    """
    if inherited is not None:
        encoder, transform = deepcopy(inherited.photo_encoder()), inherited.transform
    elif config.encoder.weights == "none":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_ENCODER_SEED)
            encoder, transform = build_encoder(config.encoder)
    else:
        encoder, transform = build_encoder(config.encoder)
    if inherited is None:
        transform = with_detail(config.encoder, transform, training)
    key = {
        "encoder": config.encoder.name,
        "fingerprint": encoder.fingerprint(),
        "features": config.encoder.features,
        "transform": transform.asdict(),
        "dtype": config.encoder.dtype,
    }
    encoder.fold_batch_norm()
    return encoder, transform, key


def trainable_encoder(
    config: Config, training: Sequence[Record], inherited: Inherited | None = None
) -> tuple[Encoder, Transform]:
    """Build or take over an encoder that will be trained, and its transform."""
    if inherited is not None:
        return inherited.photo_encoder(), inherited.transform
    encoder, transform = build_encoder(config.encoder)
    return encoder, with_detail(config.encoder, transform, training)


def feature_shape(encoder: Encoder, transform: Transform, name: str) -> tuple[int, ...]:
    """Return the shape of one photo's features, (F,) or (R, F).

    Raises:
        UsageError: The network does not support that photo size.
    """
    side = transform.size
    try:
        with torch.inference_mode():
            features = encoder(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    # Layers fail in many ways: too few pixels for a convolution, a fixed number of patches.
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(
            f"encoder.size {side}: {name} does not support photos of {side} x {side} pixels "
            f"({reason}); leave encoder.size null for the size that its weights were trained with"
        ) from error
    return tuple(features.shape[1:])

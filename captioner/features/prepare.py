"""Prepare what a run needs before its first step: records, vocabulary, encoder, stored features.

`prepare` computes what is missing. `load_prepared` only reads; if something is missing or stale,
its error states the command to run. A fine-tuned encoder has no stored features, so its photos are
read directly. So are region features that the user gives (`captioner.features.given_regions`).
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captioner.build import build_encoder, read_records
from captioner.config.schema import Config, EncoderConfig
from captioner.console import say
from captioner.datasets.batches import ImageSource
from captioner.datasets.records import SPLITS, ImageId, Record, by_split
from captioner.device import choose_device
from captioner.errors import CaptionerError, UsageError
from captioner.features.coverage import tell_coverage
from captioner.features.extract import extract
from captioner.features.find import folder_of, open_store
from captioner.features.given_regions import check_regions, open_regions, read_row, with_regions
from captioner.features.header import StoreError, size_in_bytes
from captioner.features.store import FeatureStore
from captioner.features.views import (
    Records,
    ViewTransform,
    in_every_store,
    key_of_view,
    records_with_view,
)
from captioner.features.writer import FeatureWriter
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
class Prepared:
    """Everything that training reads.

    Attributes:
        records: Readable records of each split.
        vocabulary: Words of the training captions.
        encoder: The encoder on the CPU; its batch norm is folded if it is frozen. Or what stands in
            its place if region features are given.
        transform: Turns a photo into the encoder's input.
        source: Returns the tensor of a record's image.
        views: Return further views of a training record's image.
        from_photos: Whether `source` returns photos, which a fine-tuned encoder must encode, rather
            than stored features.
    """

    records: Records
    vocabulary: Vocabulary
    encoder: Encoder | GivenFeatures
    transform: Transform
    source: ImageSource
    views: Sequence[ImageSource] = ()
    from_photos: bool = False


def prepare(config: Config, share: tuple[int, int] | None = None) -> None:
    """Write the vocabulary, and compute the missing features of all photos.

    The run may be killed at any time and repeated; finished features are kept. An unreadable photo
    is recorded and does not end the run.

    Args:
        config: Configuration with the data set and the encoder.
        share: (i, n) computes every n-th photo from index i, while other processes compute the
            other shares of the same store. Only share 0 writes the vocabulary.

    Raises:
        CaptionerError: The data set is refused, the disk is full, or another process is writing.
    """
    records = read_all(config)
    part = 1 if share is None else share[0]
    given = open_regions(config.data)
    if config.encoder.train_from is None and given is None:
        choose_device(config.trainer.accelerator)  # refuses a missing device before any work
    if part == 1:
        vocabulary = build_vocabulary(config, records)
        path = Path(config.output) / "vocabulary.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        vocabulary.save(path)
        say(f"vocabulary: {len(vocabulary):,} words, in {path}")
    if given is not None:
        check_regions(records, given, config.data)
        return
    if config.encoder.train_from is not None:
        say("features: nothing to compute, because the encoder is fine-tuned")
        return
    encoder, transform, key = build_keyed_encoder(config, records["train"])
    failed: dict[ImageId, str] = {}
    for view in range(config.encoder.views):
        failed |= prepare_view(config, records, encoder, ViewTransform(transform, view), key, share)
    for reason in [*failed.values()][:10]:
        say(f"skipped: {reason}")
    if failed:
        say(f"skipped {len(failed):,} unreadable photos; training and scores leave them out")


def prepare_view(
    config: Config,
    records: Records,
    encoder: Encoder,
    transform: ViewTransform,
    key: dict[str, Any],
    share: tuple[int, int] | None = None,
) -> dict[ImageId, str]:
    """Compute the missing features of one view of the photos; see `prepare`.

    Returns:
        The reason for each photo that cannot be read.

    Raises:
        CaptionerError: The disk is full, or another process is writing.
    """
    part, parts = share or (1, 1)
    records = records_with_view(records, transform.view)
    key = key_of_view(key, transform.view)
    folder = folder_of(Path(config.data.features), key, photos_of(records))
    shape = feature_shape(encoder, transform.transform, config.encoder.name)
    photos = photos_of(records)[part - 1 :: parts]
    number = None if share is None else part
    with FeatureWriter(folder, key, shape, config.encoder.dtype, share=number) as writer:
        stale = set(writer.stale(photos))
        every = (record for split in SPLITS for record in records[split])
        missing = [record for record in every if record.image_id in stale]
        size = size_in_bytes(len(missing), shape, config.encoder.dtype)
        which = "" if transform.view == 0 else f"view {transform.view}: "
        say(
            f"features: {which}{folder} has {len(photos) - len(missing):,} of {len(photos):,} "
            f"photos; computing {len(missing):,} more ({size / 1e6:,.1f} MB)"
        )
        failed = extract(missing, encoder, transform, writer, shape, config)
    return {record.image_id: f"{record.path}: {reason}" for record, reason in failed}


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


def verify(config: Config) -> bool:
    """Verify all stored features, report damaged ones and mark them as stale.

    Returns:
        True if all features are intact.

    Raises:
        CaptionerError: There is no store, or its header is damaged.
    """
    if config.encoder.train_from is not None:
        say("features: none are stored, because the encoder is fine-tuned")
        return True
    records = read_all(config)
    given = open_regions(config.data)
    if given is not None:
        check_regions(records, given, config.data)
        return True
    encoder, transform, key = build_keyed_encoder(config, records["train"])
    shape = feature_shape(encoder, transform, config.encoder.name)
    intact = True
    for view in range(config.encoder.views):
        photos = photos_of(records_with_view(records, view))
        store = open_store(Path(config.data.features), key_of_view(key, view), photos)
        intact &= verify_store(store, shape, config.encoder.dtype)
    return intact


def verify_store(store: FeatureStore, shape: tuple[int, ...], dtype: str) -> bool:
    """Verify the features of one store; see `verify`."""
    folder = store.folder
    damaged = store.verify()
    faults = store.damage()
    for image_id in damaged[:10]:
        say(f"damaged: features of image {image_id!r} ({store.path_of(image_id)})")
    for fault in faults:
        say(f"damaged: {fault}")
    say(f"features: {len(store) - len(damaged):,} of {len(store):,} rows in {folder} are intact")
    if not damaged and not faults:
        return True
    try:
        with FeatureWriter(folder, store.key, shape, dtype) as writer:
            writer.forget(damaged, "the features were damaged on the disk")
    except StoreError as error:
        say(f"warning: the damaged features could not be marked as stale: {error}")
    else:
        say("run `captioner prepare` with the same configuration to recompute the damaged ones")
    return False


def load_prepared(config: Config) -> Prepared:
    """Load the output of `prepare` for training.

    Raises:
        CaptionerError: Features are missing or stale; the message states the command to run.
    """
    records = read_all(config)
    vocabulary = build_vocabulary(config, records)
    given = open_regions(config.data)
    if given is not None:
        found, width = with_regions(records, given, config.data)
        source: ImageSource = partial(read_row, given)
        return Prepared(found, vocabulary, GivenFeatures(width), Transform(), source)
    if config.encoder.train_from is not None:
        encoder, transform = build_encoder(config.encoder)
        transform = with_detail(config.encoder, transform, records["train"])
        encoder.train_from(config.encoder.train_from)
        feature_shape(encoder, transform, config.encoder.name)  # refuses an unsuitable size
        source, *views = (
            partial(read_image, ViewTransform(transform, view))
            for view in range(config.encoder.views)
        )
        return Prepared(records, vocabulary, encoder, transform, source, views, from_photos=True)
    encoder, transform, key = build_keyed_encoder(config, records["train"])
    stores = [open_view(config, records, key, view) for view in range(config.encoder.views)]
    source, *views = (partial(read_features, store) for store in stores)
    found = in_every_store(records, stores)
    return Prepared(found, vocabulary, encoder, transform, source, views)


def open_view(config: Config, records: Records, key: dict[str, Any], view: int) -> FeatureStore:
    """Open the store of a view, which holds the features of all its photos.

    Raises:
        CaptionerError: Features are missing or stale; the message states the command to run.
    """
    photos = photos_of(records_with_view(records, view))
    store = open_store(Path(config.data.features), key_of_view(key, view), photos)
    stale = store.stale(photos)
    if store.touched:
        say(
            f"features: {store.touched:,} photos have new modification times but the same content; "
            "run `captioner prepare` to record the times, so that the next start is faster"
        )
    if stale:
        raise CaptionerError(
            f"{store.folder}: {len(stale):,} photos have no features or have changed since (first: "
            f"{stale[0]!r}); run `captioner prepare` with the same configuration"
        )
    return store


def read_all(config: Config) -> Records:
    """Read the records of each split, and print what was skipped."""
    loaded = read_records(config.data)
    records = {split: by_split(loaded.records, split) for split in SPLITS}
    say("data: " + ", ".join(f"{len(records[split]):,} {split}" for split in SPLITS) + " photos")
    for note in loaded.notes:
        say(f"data: {note}")
    for problem in loaded.problems[:10]:
        say(f"skipped: {problem}")
    if loaded.problems:
        say(f"{len(loaded.problems):,} problems skipped")
    return records


def photos_of(records: Records) -> list[tuple[ImageId, Path]]:
    """Return the image id and photo path of all records, split by split."""
    return [(record.image_id, record.path) for split in SPLITS for record in records[split]]


def build_vocabulary(config: Config, records: Records) -> Vocabulary:
    """Build the vocabulary of the training captions.

    Raises:
        CaptionerError: No word occurs often enough.
    """
    captions = [caption for record in records["train"] for caption in record.captions]
    settings = config.vocabulary
    vocabulary = Vocabulary.build(
        captions,
        min_count=settings.min_count,
        max_size=settings.max_size,
        tokenizer=settings.tokenizer,
    )
    if captions:
        for line in tell_coverage(vocabulary, captions, settings):
            say(line)
    return vocabulary


def build_keyed_encoder(
    config: Config, training: Sequence[Record]
) -> tuple[Encoder, Transform, dict[str, Any]]:
    """Build a frozen encoder, its transform, and the key of their features.

    Random weights (`encoder.weights none`) do not depend on `seed`, so that `prepare`, `train` and
    all runs of a study use the same ones.
    """
    if config.encoder.weights == "none":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_ENCODER_SEED)
            encoder, transform = build_encoder(config.encoder)
    else:
        encoder, transform = build_encoder(config.encoder)
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


def read_features(store: FeatureStore, record: Record) -> Tensor:
    """Read the stored features of a record's photo, (F,) or (R, F), as float32."""
    return torch.from_numpy(store.read([record.image_id])[0]).float()


def read_image(transform: ViewTransform, record: Record) -> Tensor:
    """Read a record's photo, (3, S, S) uint8.

    Raises:
        CaptionerError: The photo cannot be read; the message names the file.
    """
    try:
        return transform.load(record)
    except PhotoError as error:
        raise CaptionerError(f"{record.path}: {error}") from error

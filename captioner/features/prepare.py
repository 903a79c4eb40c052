"""Prepare what a run needs before its first step: records, vocabulary, encoder, stored features.

`prepare` computes what is missing. `load_prepared` only reads; if something is missing or stale,
its error states the command to run. A fine-tuned encoder has no stored features, so its photos are
read directly. So are region features that the user gives (`captioner.features.given_regions`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captioner.build import read_records
from captioner.config.schema import Config
from captioner.console import say
from captioner.datasets.batches import ImageSource
from captioner.datasets.records import SPLITS, ImageId, Record, by_split
from captioner.device import choose_device
from captioner.errors import CaptionerError
from captioner.features.coverage import added_words, tell_coverage
from captioner.features.extract import Careful, extract
from captioner.features.find import folder_of, open_store
from captioner.features.given_regions import check_regions, open_regions, read_row, with_regions
from captioner.features.header import StoreError, size_in_bytes
from captioner.features.keyed_encoder import (
    Inherited,
    build_keyed_encoder,
    feature_shape,
    trainable_encoder,
)
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
from captioner.photos.decode import PhotoError
from captioner.photos.transform import Transform
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary


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
        inherited: What comes from the checkpoint that the run fine-tunes.
    """

    records: Records
    vocabulary: Vocabulary
    encoder: Encoder | GivenFeatures
    transform: Transform
    source: ImageSource
    views: Sequence[ImageSource] = ()
    from_photos: bool = False
    inherited: Inherited | None = None


def prepare(
    config: Config,
    share: tuple[int, int] | None = None,
    inherited: Inherited | None = None,
    careful: Careful | None = None,
) -> None:
    """Write the vocabulary, and compute the missing features of all photos.

    The run may be killed at any time and repeated; finished features are kept. An unreadable photo
    is recorded and does not end the run.

    Args:
        config: Configuration with the data set and the encoder.
        share: (i, n) computes every n-th photo from index i, while other processes compute the
            other shares of the same store. Only share 0 writes the vocabulary.
        inherited: What comes from the checkpoint that the run fine-tunes.
        careful: How batches are done; see `captioner.features.extract`.

    Raises:
        CaptionerError: The data set is refused, the disk is full, or another process is writing.
    """
    records = read_all(config)
    given = open_regions(config.data)
    if config.encoder.train_from is None and given is None:
        choose_device(config.trainer.accelerator)  # refuses a missing device before any work
    if share is None or share[0] == 1:
        vocabulary = build_vocabulary(config, records, inherited)
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
    compute_features(config, records, share, inherited, careful)


def compute_features(
    config: Config,
    records: Records,
    share: tuple[int, int] | None = None,
    inherited: Inherited | None = None,
    careful: Careful | None = None,
) -> None:
    """Compute the missing features of all views; see `prepare`."""
    encoder, transform, key = build_keyed_encoder(config, records["train"], inherited)
    failed: dict[ImageId, str] = {}
    for view in range(config.encoder.views):
        of_view = ViewTransform(transform, view)
        failed |= prepare_view(config, records, encoder, of_view, key, share, careful)
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
    careful: Careful | None = None,
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
        failed = extract(missing, encoder, transform, writer, shape, config, careful)
    return {record.image_id: f"{record.path}: {reason}" for record, reason in failed}


def verify(config: Config, inherited: Inherited | None = None) -> bool:
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
    encoder, transform, key = build_keyed_encoder(config, records["train"], inherited)
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


def load_prepared(
    config: Config, inherited: Inherited | None = None, *, compute: bool = False
) -> Prepared:
    """Load the output of `prepare` for training.

    Args:
        config: Configuration of the run.
        inherited: What comes from the checkpoint that the run fine-tunes.
        compute: Whether to compute missing features instead of refusing them.

    Raises:
        UsageError: The region features do not fit the checkpoint.
        CaptionerError: Features are missing or stale; the message states the command to run.
    """
    records = read_all(config)
    vocabulary = build_vocabulary(config, records, inherited)
    given = open_regions(config.data)
    if given is not None:
        found, width = with_regions(records, given, config.data)
        if inherited is not None:
            inherited.check_regions(width)
        source: ImageSource = partial(read_row, given)
        return Prepared(
            found, vocabulary, GivenFeatures(width), Transform(), source, inherited=inherited
        )
    if config.encoder.train_from is not None:
        encoder, transform = trainable_encoder(config, records["train"], inherited)
        encoder.train_from(config.encoder.train_from)
        feature_shape(encoder, transform, config.encoder.name)  # refuses an unsuitable size
        source, *views = (
            partial(read_image, ViewTransform(transform, view))
            for view in range(config.encoder.views)
        )
        return Prepared(
            records,
            vocabulary,
            encoder,
            transform,
            source,
            views,
            from_photos=True,
            inherited=inherited,
        )
    if compute:
        compute_features(config, records, inherited=inherited)
    encoder, transform, key = build_keyed_encoder(config, records["train"], inherited)
    stores = [open_view(config, records, key, view) for view in range(config.encoder.views)]
    source, *views = (partial(read_features, store) for store in stores)
    found = in_every_store(records, stores)
    if inherited is not None:
        # Its batch norm is not folded, so that its description in the checkpoint stays true.
        encoder = inherited.photo_encoder()
    return Prepared(found, vocabulary, encoder, transform, source, views, inherited=inherited)


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


def build_vocabulary(
    config: Config, records: Records, inherited: Inherited | None = None
) -> Vocabulary:
    """Build the vocabulary of the training captions, or add their words to an inherited one.

    Raises:
        CaptionerError: No word occurs often enough.
    """
    captions = [caption for record in records["train"] for caption in record.captions]
    settings = config.vocabulary
    known = inherited.vocabulary if inherited else Vocabulary(SPECIAL_WORDS, settings.tokenizer)
    vocabulary = known.extended(captions, min_count=settings.min_count, max_size=settings.max_size)
    if inherited is not None:
        say(f"vocabulary: {added_words(known, vocabulary)}")
    if captions:
        for line in tell_coverage(vocabulary, captions, settings):
            say(line)
    return vocabulary


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

"""What a run needs before its first step: records, vocabulary, encoder, and stored features.

`prepare` computes what is missing; `load_prepared` only reads, and says what to run if something is
missing or stale. A fine-tuned encoder has no stored features: its photos are read as they are.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captioner.build import build_encoder, read_records
from captioner.config.schema import Config, EncoderConfig
from captioner.console import Progress, say
from captioner.datasets.batches import ImageSource
from captioner.datasets.records import SPLITS, ImageId, Record, by_split
from captioner.device import choose_device
from captioner.errors import CaptionerError, UsageError
from captioner.features.coverage import tell_coverage
from captioner.features.find import folder_of, open_store
from captioner.features.journal import Entry, StoreError, size_in_bytes
from captioner.features.store import FeatureStore
from captioner.features.writer import FeatureWriter
from captioner.model.encoder import Encoder
from captioner.photos.decode import PhotoError, read_photo
from captioner.photos.jpeg import quality_of
from captioner.photos.transform import Transform
from captioner.text.vocabulary import Vocabulary

LOOKED_AT = 16
"""Photos whose size is looked at before the features of all are computed."""


RANDOM_ENCODER_SEED = 0
"""Seed of the random weights of a frozen encoder."""


@dataclass(frozen=True)
class Prepared:
    """All that training reads.

    Attributes:
        records: the photos of each split that can be read.
        vocabulary: words of the training captions.
        encoder: on the CPU; batch norm folded if it is frozen.
        transform: what makes a photo fit for it.
        source: gives the tensor of a record's image.
        from_photos: whether `source` gives photos, which a fine-tuned encoder still has to encode;
            otherwise it gives stored features.
    """

    records: dict[str, list[Record]]
    vocabulary: Vocabulary
    encoder: Encoder
    transform: Transform
    source: ImageSource
    from_photos: bool = False


def prepare(config: Config, share: tuple[int, int] | None = None) -> None:
    """Write the vocabulary, and the features of all photos that have none yet.

    May be killed at any moment and run again: what is on the disk is kept. An unreadable photo is
    recorded and does not end the run.

    Args:
        config: the data set and the encoder.
        share: (i, n) computes every n-th photo, from the i-th on, while other processes compute the
            other shares of the same store; the first of them writes the vocabulary.

    Raises:
        CaptionerError: the data set is refused, the disk is full, or another process is writing.
    """
    records = read_all(config)
    part, parts = share or (1, 1)
    if config.encoder.train_from is None:
        choose_device(config.trainer.accelerator)  # refuses one that is absent before any work
    if part == 1:
        vocabulary = build_vocabulary(config, records)
        path = Path(config.output) / "vocabulary.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        vocabulary.save(path)
        say(f"vocabulary: {len(vocabulary):,} words, in {path}")
    if config.encoder.train_from is not None:
        say("features: none to compute, the encoder is fine-tuned")
        return
    encoder, transform, key = build_keyed_encoder(config, records["train"])
    folder = folder_of(Path(config.data.features), key, photos_of(records))
    shape = feature_shape(encoder, transform, config.encoder.name)
    photos = photos_of(records)[part - 1 :: parts]
    number = None if share is None else part
    with FeatureWriter(folder, key, shape, config.encoder.dtype, share=number) as writer:
        stale = set(writer.stale(photos))
        every = (record for split in SPLITS for record in records[split])
        missing = [record for record in every if record.image_id in stale]
        size = size_in_bytes(len(missing), shape, config.encoder.dtype)
        say(
            f"features: {len(photos) - len(missing):,} of {len(photos):,} photos are in {folder}; "
            f"{len(missing):,} to compute, {size / 1e6:,.1f} MB to write"
        )
        failed = extract(missing, encoder, transform, writer, shape, config)
    for record, reason in failed[:10]:
        say(f"left out: {record.path}: {reason}")
    if failed:
        say(f"{len(failed):,} photos could not be read and are left out of training and scores")


def with_detail(
    config: EncoderConfig, transform: Transform, training: Sequence[Record]
) -> Transform:
    """The transform, with the detail that the training photos have if they must be enlarged.

    A network that learns from enlarged photos expects their smoothness and the artefacts of their
    compression: of other photos it writes worse captions (EXPERIMENTS.md). So larger photos are
    reduced and compressed first, as the training photos were.
    """
    if config.detail != "auto":
        return replace(transform, detail=config.detail)
    sizes, qualities = [], []
    for record in training[:LOOKED_AT]:
        with suppress(PhotoError, OSError):  # reported when its features are computed
            sizes.append(read_photo(record.path).size)
            qualities.append(quality_of(record.path))
    detail = transform.detail_for(sizes)
    if detail is None:
        return transform
    known = sorted(quality for quality in qualities if quality is not None)
    quality = known[len(known) // 2] if 2 * len(known) > len(qualities) else None
    say(
        f"features: training photos are enlarged, from {detail} to {transform.size} pixels; "
        f"larger photos are reduced to {detail} first"
        + ("" if quality is None else f" and compressed at JPEG quality {quality}")
        + ", so that they look alike"
    )
    return replace(transform, detail=detail, quality=quality)


def verify(config: Config) -> bool:
    """Read all stored features and tell which are damaged; those are stale from then on.

    Returns:
        Whether all is sound.

    Raises:
        CaptionerError: there is no store, or its header is damaged.
    """
    if config.encoder.train_from is not None:
        say("features: none are stored, the encoder is fine-tuned")
        return True
    records = read_all(config)
    encoder, transform, key = build_keyed_encoder(config, records["train"])
    store = open_store(Path(config.data.features), key, photos_of(records))
    folder = store.folder
    damaged = store.verify()
    faults = store.damage()
    for image_id in damaged[:10]:
        say(f"damaged: features of image {image_id!r} ({store.path_of(image_id)})")
    for fault in faults:
        say(f"damaged: {fault}")
    say(f"features: {len(store) - len(damaged):,} of {len(store):,} rows in {folder} are sound")
    if not damaged and not faults:
        return True
    shape = feature_shape(encoder, transform, config.encoder.name)
    try:
        with FeatureWriter(folder, key, shape, config.encoder.dtype) as writer:
            writer.forget(damaged, "the features were damaged on the disk")
    except StoreError as error:
        say(f"not taken back: {error}")
    else:
        say("run `captioner prepare` with the same configuration: it computes those again alone")
    return False


def load_prepared(config: Config) -> Prepared:
    """What `prepare` made, for training.

    Raises:
        CaptionerError: features are missing or stale; the message says what to run.
    """
    records = read_all(config)
    vocabulary = build_vocabulary(config, records)
    if config.encoder.train_from is not None:
        encoder, transform = build_encoder(config.encoder)
        transform = with_detail(config.encoder, transform, records["train"])
        encoder.train_from(config.encoder.train_from)
        feature_shape(encoder, transform, config.encoder.name)  # refuses an unsuitable size
        source: ImageSource = partial(read_image, transform)
        return Prepared(records, vocabulary, encoder, transform, source, from_photos=True)
    encoder, transform, key = build_keyed_encoder(config, records["train"])
    photos = photos_of(records)
    store = open_store(Path(config.data.features), key, photos)
    stale = store.stale(photos)
    if store.touched:
        say(
            f"features: the times of {store.touched:,} photos have changed; they were read and are "
            "the same; `captioner prepare` notes the new times, so that the next start is quick"
        )
    if stale:
        raise CaptionerError(
            f"{store.folder}: {len(stale):,} photos have no features or have changed since (the "
            f"first is {stale[0]!r}); run `captioner prepare` with the same configuration"
        )
    readable = {
        split: [record for record in records[split] if record.image_id in store] for split in SPLITS
    }
    return Prepared(readable, vocabulary, encoder, transform, partial(read_features, store))


def read_all(config: Config) -> dict[str, list[Record]]:
    """Records of each split; tells what was skipped."""
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


def photos_of(records: dict[str, list[Record]]) -> list[tuple[ImageId, Path]]:
    """Image id and photo of all records, split by split."""
    return [(record.image_id, record.path) for split in SPLITS for record in records[split]]


def build_vocabulary(config: Config, records: dict[str, list[Record]]) -> Vocabulary:
    """Words of the training captions.

    Raises:
        CaptionerError: no word occurs often enough to be known.
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
    """A frozen encoder, its transform, and the key of the features that they give.

    Random weights (`encoder.weights none`) are always the same, whatever `seed` is: `prepare`,
    `train` and all runs of a study agree on them.
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
    """Shape of one photo's features, (F,) or (R, F).

    Raises:
        UsageError: photos of that size do not suit the network.
    """
    side = transform.size
    try:
        with torch.inference_mode():
            features = encoder(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    # Layers complain in many ways: too few pixels for a convolution, a fixed number of patches.
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(
            f"encoder.size: {name} cannot take photos of {side} x {side} pixels ({reason}); leave "
            "encoder.size null for the size that its weights were trained with"
        ) from error
    return tuple(features.shape[1:])


class Photos(Dataset[tuple[Record, Entry, Tensor | str]]):
    """Records as photos fit for the encoder, or the reason why one could not be read."""

    def __init__(self, records: Sequence[Record], transform: Transform, root: Path) -> None:
        self.records = records
        self.transform = transform
        self.root = root

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Record, Entry, Tensor | str]:
        record = self.records[index]
        entry = Entry.of(record.image_id, record.path, self.root)
        try:
            return record, entry, self.transform.load(record.path)
        except PhotoError as error:
            return record, entry, str(error)


def extract(
    records: Sequence[Record],
    encoder: Encoder,
    transform: Transform,
    writer: FeatureWriter,
    shape: Sequence[int],
    config: Config,
) -> list[tuple[Record, str]]:
    """Compute and store the features of photos; returns those that could not be read, and why."""
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
                rows = encoder(torch.stack(photos).to(device)).float().cpu().numpy()
            writer.append(entries, rows, [(entry, why) for _, entry, why in bad])
            failed += [(record, why) for record, _, why in bad]
            bar.update(len(items))
    encoder.cpu()
    return failed


def read_features(store: FeatureStore, record: Record) -> Tensor:
    """Stored features of a record's photo, (F,) or (R, F), in single precision."""
    return torch.from_numpy(store.read([record.image_id])[0]).float()


def read_image(transform: Transform, record: Record) -> Tensor:
    """A record's photo, (3, S, S) uint8.

    Raises:
        CaptionerError: it cannot be read; the message names the file.
    """
    try:
        return transform.load(record.path)
    except PhotoError as error:
        raise CaptionerError(f"{record.path}: {error}") from error

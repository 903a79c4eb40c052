"""Caption a split from stored features, without encoding photos again."""

from dataclasses import dataclass
from pathlib import Path

import torch

from captioner import checkpoint
from captioner.build import search_options
from captioner.config.schema import Config
from captioner.datasets.records import ImageId
from captioner.device import choose_device
from captioner.errors import CaptionerError
from captioner.evaluation.report import SystemCaptions
from captioner.features.prepare import load_prepared
from captioner.inference.generator import CaptionGenerator, write_captions
from captioner.inference.split import recipe_of_split
from captioner.inference.strategy import Strategy
from captioner.model.attention import stack


@dataclass(frozen=True)
class Trained:
    """Captions of a checkpoint and facts about it.

    Attributes:
        captioned: Captions of a split.
        parameters: Number of weights of the decoder.
        epoch: Epoch of the checkpoint, counted from 0.
    """

    system: SystemCaptions
    parameters: int
    epoch: int


def caption_stored(config: Config, path: Path, split: str) -> Trained:
    """Caption the images of a split as validation does during training.

    Args:
        config: Configuration of the run, whose search settings are used. Its features must be
            prepared; with a fine-tuned encoder, photos are read instead.
        path: The checkpoint.
        split: "train", "val" or "test".

    Raises:
        CaptionerError: The split is empty, or a feature is missing or stale.
    """
    prepared = load_prepared(config)
    records = prepared.records[split]
    if not records:
        raise CaptionerError(f"{config.data.root}: the {split} split has no usable photo")
    trained = checkpoint.load(path)
    device = choose_device(config.trainer.accelerator)
    captioner, search = trained.captioner.to(device), search_options(config.search)
    generate = CaptionGenerator([captioner], search)
    candidates: dict[ImageId, list[str]] = {}
    for begin in range(0, len(records), config.data.batch_size):
        batch = records[begin : begin + config.data.batch_size]
        features = stack([prepared.source(record) for record in batch]).to(device)
        if prepared.from_photos:
            with torch.inference_mode():
                features = captioner.encode(features)
        found = write_captions(generate([features]), trained.vocabulary)
        candidates |= {
            record.image_id: [caption] for record, caption in zip(batch, found, strict=True)
        }
    return Trained(
        SystemCaptions(
            candidates,
            {record.image_id: record.captions for record in records},
            recipe_of_split(config.data, split, Strategy(search), [path]),
        ),
        sum(weights.numel() for weights in captioner.decoder.parameters()),
        int(checkpoint.read(path)["epoch"]),
    )

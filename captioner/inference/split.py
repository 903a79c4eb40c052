"""Captions of a split with their references and recipe, ready to be scored."""

from collections.abc import Callable, Sequence
from pathlib import Path

from captioner.build import read_records
from captioner.config.schema import DataConfig
from captioner.console import Progress
from captioner.datasets.records import ImageId, by_split
from captioner.errors import CaptionerError
from captioner.evaluation.recipe import Recipe
from captioner.evaluation.report import SystemCaptions
from captioner.inference.predictor import Predictor
from captioner.inference.result import PhotoCaptions
from captioner.inference.strategy import Strategy
from captioner.photos.source import PhotoSource
from captioner.text.vocabulary import SPECIAL_WORDS


def caption_split(
    predictor: Predictor,
    data: DataConfig,
    split: str,
    batch_size: int,
    seen: Callable[[ImageId, PhotoCaptions], None] | None = None,
) -> tuple[SystemCaptions, list[tuple[Path, str]]]:
    """Caption the photos of a split from their files.

    Args:
        predictor: the captioner and its strategy.
        data: the data set.
        split: "train", "val" or "test".
        batch_size: photos per batch.
        seen: called with each captioned photo, for what the returned captions do not hold.

    Returns:
        The captions with references and recipe; and the photos without a caption, with the reason.

    Raises:
        CaptionerError: the split is empty, or none of its photos can be read.
    """
    all_records = read_records(data).records
    records = by_split(all_records, split)
    if not records:
        raise CaptionerError(f"{data.root}: the {split} split is empty")
    # Before the work: it reads the checkpoints, so that an unreadable one is reported at once.
    backward = None if predictor.backward is None else predictor.backward.path
    members = [member.path for member in predictor.members]
    recipe = recipe_of_split(data, split, predictor.strategy, members, backward)
    candidates: dict[ImageId, list[str]] = {}
    references: dict[ImageId, tuple[str, ...]] = {}
    unreadable: list[tuple[Path, str]] = []
    found = predictor.caption(
        (PhotoSource(record.path, image_id=record.image_id) for record in records),
        batch_size=batch_size,
        keys=(record.image_id for record in records),
    )
    with Progress("photos", len(records)) as progress:
        for record, result in zip(records, found, strict=True):
            progress.update()
            if result.error is not None:
                unreadable.append((result.path, result.error))
                continue
            candidates[record.image_id] = [candidate.caption for candidate in result.candidates]
            references[record.image_id] = record.captions
            if seen is not None:
                seen(record.image_id, result)
    if not candidates:
        raise CaptionerError(f"{data.root}: no photo of the {split} split can be captioned")
    trained = by_split(all_records, "train")
    system = SystemCaptions(
        candidates,
        references,
        recipe,
        training=tuple(caption for record in trained for caption in record.captions) or None,
        vocabulary=frozenset(predictor.trained.vocabulary.words).difference(SPECIAL_WORDS),
        tokenizer=predictor.trained.vocabulary.tokenizer,
    )
    return system, unreadable


def recipe_of_split(
    data: DataConfig,
    split: str,
    strategy: Strategy,
    checkpoints: Sequence[Path],
    backward: Path | None = None,
) -> Recipe:
    """Return where the captions of a split come from: the data, and the recipe of the strategy."""
    return {"data": data.format, "split": split, **strategy.recipe(checkpoints, backward)}

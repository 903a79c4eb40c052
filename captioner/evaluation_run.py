"""Captions of a split, as they are evaluated."""

import hashlib
from pathlib import Path

from captioner.assembly import read_records
from captioner.config import DataConfig
from captioner.data.records import ImageId, by_split
from captioner.decoding.options import SearchOptions
from captioner.errors import CaptionerError
from captioner.evaluation.recipe import Recipe
from captioner.evaluation.report import CaptionedSet
from captioner.predictor import Predictor


def caption_split(
    predictor: Predictor, checkpoint: Path, data: DataConfig, split: str, batch_size: int
) -> tuple[CaptionedSet, list[tuple[Path, str]]]:
    """Caption the photos of a split from their files.

    Args:
        predictor: the captioner and how it searches.
        checkpoint: where it came from, for the recipe.
        data: the data set.
        split: "train", "val" or "test".
        batch_size: photos at once.

    Returns:
        The captions with references and recipe; photos left out, with the reason.

    Raises:
        CaptionerError: the split is empty, or none of its photos can be read.
    """
    records = by_split(read_records(data).records, split)
    if not records:
        raise CaptionerError(f"{data.root}: the {split} split is empty")
    candidates: dict[ImageId, list[str]] = {}
    references: dict[ImageId, tuple[str, ...]] = {}
    unreadable: list[tuple[Path, str]] = []
    found = predictor.caption((record.path for record in records), batch_size=batch_size)
    for record, captioned in zip(records, found, strict=True):
        if captioned.error is not None:
            unreadable.append((captioned.path, captioned.error))
            continue
        candidates[record.image_id] = [candidate.caption for candidate in captioned.candidates]
        references[record.image_id] = record.captions
    if not candidates:
        raise CaptionerError(f"{data.root}: no photo of the {split} split can be read")
    recipe = recipe_of_split(data, split, predictor.search, checkpoint)
    return CaptionedSet(candidates, references, recipe), unreadable


def recipe_of_split(
    data: DataConfig, split: str, search: SearchOptions, checkpoint: Path
) -> Recipe:
    """Where the captions of a split come from."""
    return {
        "data": data.format,
        "split": split,
        "beam_size": search.beam_size,
        "length_norm": search.length_norm,
        "max_length": search.max_length,
        "checkpoint": f"{checkpoint.name}@{digest(checkpoint)}",
    }


def digest(path: Path) -> str:
    """Eight hexadecimal digits of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:8]

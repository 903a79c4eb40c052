"""Captions of a split, as they are evaluated."""

import hashlib
from pathlib import Path
from typing import Any

from captioner.build import read_records
from captioner.checkpoint.file import files_of
from captioner.config.schema import DataConfig
from captioner.console import Progress
from captioner.datasets.records import ImageId, by_split
from captioner.decoding.options import AGREEMENT, Rerank, SampleOptions, SearchOptions
from captioner.errors import CaptionerError
from captioner.evaluation.recipe import Recipe
from captioner.evaluation.report import SystemCaptions
from captioner.files.regular import open_regular
from captioner.inference.phrases import Wording
from captioner.inference.predictor import Predictor
from captioner.text.vocabulary import SPECIAL_WORDS


def caption_split(
    predictor: Predictor, data: DataConfig, split: str, batch_size: int
) -> tuple[SystemCaptions, list[tuple[Path, str]]]:
    """Caption the photos of a split from their files.

    Args:
        predictor: the captioner and how it searches.
        data: the data set.
        split: "train", "val" or "test".
        batch_size: photos at once.

    Returns:
        The captions with references and recipe; photos left out, with the reason.

    Raises:
        CaptionerError: the split is empty, or none of its photos can be read.
    """
    all_records = read_records(data).records
    records = by_split(all_records, split)
    if not records:
        raise CaptionerError(f"{data.root}: the {split} split is empty")
    # Before the work: it reads the checkpoints, and what cannot be read is known at once.
    recipe = recipe_of_split(
        data,
        split,
        predictor.search,
        *(member.path for member in predictor.members),
        rerank=predictor.rerank,
        wording=predictor.wording,
        average=predictor.average,
        backward=None if predictor.backward is None else predictor.backward.path,
        agreement=predictor.agreement,
        tf32=predictor.tf32,
    )
    candidates: dict[ImageId, list[str]] = {}
    references: dict[ImageId, tuple[str, ...]] = {}
    unreadable: list[tuple[Path, str]] = []
    found = predictor.caption(
        (record.path for record in records),
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
    search: SearchOptions | SampleOptions,
    *checkpoints: Path,
    rerank: Rerank | None = None,
    wording: Wording | None = None,
    average: str = "probability",
    backward: Path | None = None,
    agreement: float = AGREEMENT,
    tf32: bool = False,
) -> Recipe:
    """Where the captions of a split come from: all that decides about them.

    What it does not name is off. The arguments are those of `Predictor`.
    """
    wording = wording or Wording()
    recipe: dict[str, Any]  # None is off
    if isinstance(search, SampleOptions):
        recipe = {
            "sample": search.samples,
            "seed": search.seed,
            "temperature": search.temperature,
            "top_k": search.top_k or None,
            "top_p": search.top_p if search.top_p < 1 else None,
            "rerank": rerank.by if rerank else "none, the first drawn",
        }
    else:
        diverse = search.groups > 1
        recipe = {
            "beam_size": search.beam_size,
            "groups": search.groups if diverse else None,
            "diversity": search.diversity if diverse else None,
        }
    recipe |= {
        "length_norm": search.length_norm,
        "length_alpha": search.length_alpha if search.length_norm == "gnmt" else None,
        "word_reward": search.word_reward or None,
        "min_length": search.min_length or None,
        "max_length": search.max_length,
        "require": ", ".join(wording.require) or None,
        "ban": ", ".join(wording.ban) or None,
        "ban_ending": ", ".join(wording.ban_ending) or None,
        "no_repeat_ngram": wording.no_repeat_ngram or None,
        "no_repeat_word": "yes" if wording.no_repeat_word else None,
        "backward": None if backward is None else f"{backward.name}@{digest(backward)}",
        "agreement": None if backward is None else agreement,
        "tf32": "yes" if tf32 else None,
        "ensemble": average if len(checkpoints) > 1 else None,
        "checkpoint": ", ".join(f"{path.name}@{digest(path)}" for path in checkpoints),
    }
    recipe = {"data": data.format, "split": split, **recipe}
    return {name: value for name, value in recipe.items() if value is not None}


def digest(path: Path) -> str:
    """Eight hexadecimal digits of a checkpoint's bytes; of an export, of its files in turn."""
    digest = hashlib.blake2b()
    for name in files_of(path):
        with open_regular(name) as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()[:8]

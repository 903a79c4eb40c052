"""Where the models of a report come from: result files, or checkpoints that caption a split."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.datasets.records import ImageId
from captioner.errors import CaptionerError, UsageError
from captioner.evaluation.objects import read_instances
from captioner.evaluation.references import (
    ImageNames,
    References,
    load_references,
    read_references,
)
from captioner.evaluation.report import read_system
from captioner.evaluation.result_files import files_of_folder, image_of_row
from captioner.files.json_file import parse_json, read_bytes
from captioner.pages.report_analysis import Material, Model
from captioner.pages.report_attention import WordAttention, attention_of, attention_of_record
from captioner.pages.report_photos import find_photos

if TYPE_CHECKING:
    from captioner.config.schema import DataConfig
    from captioner.inference.predictor import Predictor
    from captioner.inference.result import PhotoCaptions

CANDIDATES = 5
"""Captions per image that a report shows of a file that lists several."""


def from_files(
    results: Sequence[tuple[str, Path]],
    references: Path,
    *,
    title: str,
    images: Path | None = None,
    n_best: int | None = None,
    subset: bool = False,
) -> Material:
    """Return the material of a report from result files.

    Args:
        results: Name and result file of each model.
        references: Annotation file in any format of `references`.
        title: Title of the report.
        images: Folder with the photos, at any depth.
        n_best: Maximum number of captions per image. Default: one, or `CANDIDATES` of JSON Lines.
        subset: Whether to ignore images that have references but no caption.

    Raises:
        UsageError: A file does not exist.
        CaptionerError: A file has the wrong format, or images and captions do not match.
    """
    known = load_references(references)
    models = []
    for name, path in results:
        several = path.is_dir() or path.suffix.lower() in (".jsonl", ".ndjson")
        most = n_best or (CANDIDATES if several else 1)
        system = read_system(path, references, n_best=most, subset=subset, known=known)
        log_probs, attention = _details(path, known) if several else ({}, {})
        models.append(Model(name, system, log_probs, attention))
    captioned = models[0].system.references.keys()
    names = {image: known.names[image] for image in captioned if image in known.names}
    photos = {} if images is None else find_photos(images, captioned, names)
    if images is not None and not photos:
        first = next(iter(captioned))
        raise CaptionerError(
            f"--images: {images} has no photo of the {len(captioned)} images, for example "
            f"{names.get(first, first)!r}"
        )
    return Material(title, tuple(_with_training(models, known)), names, photos)


def from_checkpoints(
    predictors: Iterator[tuple[str, Predictor, DataConfig]],
    split: str,
    *,
    title: str,
    batch_size: int,
) -> tuple[Material, list[tuple[Path, str]]]:
    """Return the material of a report from checkpoints, which caption a split.

    Args:
        predictors: Name, predictor and data set of each model, one at a time in memory.
        split: "train", "val" or "test".
        title: Title of the report.
        batch_size: Photos per batch.

    Returns:
        The material; and the photos without a caption, with the reason.

    Raises:
        CaptionerError: The split is empty, or none of its photos can be read.
    """
    from captioner.inference.split import caption_split

    models: list[Model] = []
    photos: dict[ImageId, Path] = {}
    failed: dict[Path, str] = {}
    for name, predictor, data in predictors:
        log_probs: dict[ImageId, Sequence[float]] = {}
        attention: dict[ImageId, WordAttention] = {}

        def seen(
            image: ImageId,
            captioned: PhotoCaptions,
            log_probs: dict[ImageId, Sequence[float]] = log_probs,
            attention: dict[ImageId, WordAttention] = attention,
        ) -> None:
            photos[image] = captioned.path
            log_probs[image] = [one.log_prob for one in captioned.candidates]
            if (found := attention_of(captioned)) is not None:
                attention[image] = found

        system, unreadable = caption_split(predictor, data, split, batch_size, seen)
        failed |= dict(unreadable)
        models.append(Model(name, system, log_probs, attention))
    names = {image: path.name for image, path in photos.items()}
    return Material(title, tuple(models), names, photos), list(failed.items())


def with_candidates(
    predictor: Predictor, *, several: bool, regions: str | None = None
) -> Predictor:
    """Return a predictor whose captions carry what a report shows beside them.

    Args:
        predictor: The predictor.
        several: Whether to add the next best captions of a beam search.
        regions: Folder of region features, which a captioner that was trained on them reads.
    """
    from captioner.decoding.options import SearchOptions
    from captioner.inference.predictor import Predictor

    search = predictor.strategy.search
    if several and isinstance(search, SearchOptions):
        search = replace(search, n_best=min(CANDIDATES, search.beam_size))
    attends = any(member.captioner.decoder.kind != "none" for member in predictor.members)
    strategy = replace(predictor.strategy, search=search, attention=attends)
    every = (*predictor.members, predictor.backward)
    reads = any(member is not None and member.reads_regions for member in every)
    return Predictor(
        predictor.members,
        predictor.device,
        strategy,
        backward=predictor.backward,
        regions=regions if reads else None,
    )


def with_annotations(
    material: Material, *, instances: Path | None = None, training: Path | None = None
) -> Material:
    """Add annotated objects and training captions.

    Args:
        material: The models and their images.
        instances: COCO instance file.
        training: Captions that all models were trained on, in any format of `references`.

    Raises:
        UsageError: There is no such file.
        CaptionerError: A file has the wrong format.
    """
    if training is not None:
        known = tuple(text for group in read_references(training).values() for text in group)
        models = [
            replace(model, system=replace(model.system, training=known))
            for model in material.models
        ]
        material = replace(material, models=tuple(models))
    if instances is not None:
        material = replace(material, objects=read_instances(instances))
    return material


def named_sources(given: Sequence[str], flag: str) -> list[tuple[str, Path]]:
    """Return the name and path of each `[NAME=]PATH`. A run's checkpoint is named by the run.

    Raises:
        UsageError: Two have the same name.

    Example:
        >>> [name for name, _ in named_sources(["runs/gru/checkpoints/best.ckpt", "b=x.ckpt"], "")]
        ['gru', 'b']
    """
    named = []
    for text in given:
        name, equals, rest = text.partition("=")
        if equals and name and not Path(text).exists():
            named.append((name, Path(rest)))
        else:
            named.append((_name_of(Path(text)), Path(text)))
    names = [name for name, _ in named]
    for name, path in named:
        if names.count(name) > 1:
            raise UsageError(
                f"{flag}: {names.count(name)} models have the name {name}; name them: "
                f"{flag} first={named[0][1]} {flag} second={path}"
            )
    return named


def _name_of(path: Path) -> str:
    if path.parent.name == "checkpoints" and path.absolute().parent.parent.name:
        return path.absolute().parent.parent.name
    return path.stem or str(path)


def _with_training(models: Sequence[Model], known: References) -> Iterator[Model]:
    """Add the training captions, if the references hold those of all splits."""
    training = tuple(
        text
        for image, group in known.groups.items()
        if known.splits.get(image) in ("train", "restval")
        for text in group
    )
    for model in models:
        own = model.system.recipe.get("split")
        if training and own not in (None, "train"):
            yield replace(model, system=replace(model.system, training=training))
        else:
            yield model


def _details(
    results: Path, known: References
) -> tuple[dict[ImageId, Sequence[float]], dict[ImageId, WordAttention]]:
    """Read log-probabilities and attention from the records of `captioner caption`.

    Raises:
        CaptionerError: A record is damaged.
    """
    names = ImageNames(known.groups.keys(), known.names)
    log_probs: dict[ImageId, Sequence[float]] = {}
    attention: dict[ImageId, WordAttention] = {}
    for file in files_of_folder(results) if results.is_dir() else [results]:
        for number, line in enumerate(read_bytes(file).split(b"\n"), start=1):
            try:
                row = parse_json(line.decode()) if line.strip() else None
                if not isinstance(row, dict) or "error" in row:
                    continue
                image = image_of_row(row, names)
                log_probs[image] = list(_log_probs(row))
                if (found := attention_of_record(row)) is not None:
                    attention[image] = found
            except json.JSONDecodeError as error:
                raise CaptionerError(f"{file}, line {number}: not JSON: {error.msg}") from None
            except ValueError as error:
                raise CaptionerError(f"{file}, line {number}: {error}") from None
    if not any(log_probs.values()):
        log_probs = {}
    return log_probs, attention


def _log_probs(row: dict[str, Any]) -> Iterator[float]:
    """Yield the log-probability of each caption in a record, as long as they are numbers."""
    others = row.get("candidates")
    for one in others if isinstance(others, list) else [row]:
        value = one.get("log_prob") if isinstance(one, dict) else None
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return
        yield float(value)

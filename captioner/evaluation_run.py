"""Evaluating: captions of a split or a file, scored, with the recipe beside every number."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from captioner.assembly import read_records
from captioner.config import DataConfig
from captioner.data.records import ImageId, by_split
from captioner.errors import CaptionerError, UsageError
from captioner.evaluation.files import read_references, read_results
from captioner.evaluation.recipe import signature
from captioner.evaluation.scores import Scores, score
from captioner.predictor import Predictor


@dataclass(frozen=True)
class Evaluation:
    """Scores of some captions.

    Attributes:
        scores: of the whole set and of each image, with their recipe.
        captions: what was scored, by image id.
        unreadable: photos left out, with the reason.
    """

    scores: Scores
    captions: dict[ImageId, str]
    unreadable: list[tuple[Path, str]]

    def table(self) -> str:
        """The scores for a person, times 100, with the recipe."""
        names = list(self.scores.corpus)
        width = max(map(len, names))
        lines = [f"{name:<{width}}  {100 * self.scores.corpus[name]:6.1f}" for name in names]
        lines += [f"note: {warning}" for warning in self.scores.warnings]
        return "\n".join([*lines, f"scores x 100; {signature(self.scores.recipe)}"])

    def write(self, *, scores: str | None, captions: str | None, per_image: str | None) -> None:
        """Write what was asked for, each file whole or not at all."""
        if captions is not None:
            rows = [{"image_id": i, "caption": text} for i, text in self.captions.items()]
            write_whole(Path(captions), json.dumps(rows, ensure_ascii=False, indent=0) + "\n")
        if per_image is not None:
            lines = [
                json.dumps(
                    {
                        "image_id": image_id,
                        "scores": {
                            name: float(values[i]) for name, values in self.scores.per_image.items()
                        },
                    },
                    ensure_ascii=False,
                )
                for i, image_id in enumerate(self.scores.image_ids)
            ]
            write_whole(Path(per_image), "".join(line + "\n" for line in lines))
        if scores is not None:
            content = {
                "scores": {name: float(value) for name, value in self.scores.corpus.items()},
                "recipe": dict(self.scores.recipe),
                "warnings": list(self.scores.warnings),
            }
            write_whole(Path(scores), json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def evaluate_checkpoint(
    predictor: Predictor, checkpoint: Path, data: DataConfig, split: str, batch_size: int
) -> Evaluation:
    """Caption the photos of a split from their files and score the captions.

    Args:
        predictor: the captioner and how it searches.
        checkpoint: where it came from, for the recipe.
        data: the data set.
        split: "train", "val" or "test".
        batch_size: photos at once.

    Raises:
        CaptionerError: the split is empty, or none of its photos can be read.
    """
    records = by_split(read_records(data).records, split)
    if not records:
        raise CaptionerError(f"{data.root}: the {split} split is empty")
    captions: dict[ImageId, str] = {}
    references: dict[ImageId, tuple[str, ...]] = {}
    unreadable: list[tuple[Path, str]] = []
    found = predictor.caption((record.path for record in records), batch_size=batch_size)
    for record, captioned in zip(records, found, strict=True):
        if captioned.error is not None:
            unreadable.append((captioned.path, captioned.error))
            continue
        captions[record.image_id] = captioned.caption or ""
        references[record.image_id] = record.captions
    if not captions:
        raise CaptionerError(f"{data.root}: no photo of the {split} split can be read")
    search = predictor.search
    scores = score(
        captions,
        references,
        data=data.format,
        split=split,
        beam_size=search.beam_size,
        length_norm=search.length_norm,
        max_length=search.max_length,
        checkpoint=f"{checkpoint.name}@{digest(checkpoint)}",
    )
    return Evaluation(scores, captions, unreadable)


def evaluate_files(results: Path, references: Path) -> Evaluation:
    """Score a COCO result file against a COCO annotation file."""
    captions = read_results(results)
    scores = score(captions, read_references(references), results=results.name)
    return Evaluation(scores, dict(captions), [])


def digest(path: Path) -> str:
    """Eight hexadecimal digits of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:8]


def write_whole(path: Path, text: str) -> None:
    """Write a file under another name and move it, so that no half of it is ever seen.

    Raises:
        UsageError: the folder is not there.
    """
    if not path.parent.is_dir():
        raise UsageError(f"{path}: no folder {path.parent}")
    draft = path.with_name(path.name + ".part")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)

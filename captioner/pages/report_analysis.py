"""What a report shows about models, computed once for its tables and for its gallery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from captioner.datasets.records import ImageId
from captioner.errors import CaptionerError
from captioner.evaluation.comparison import ComparisonReport, compare_systems
from captioner.evaluation.diversity import ends_badly, repeats_itself
from captioner.evaluation.objects import mentions
from captioner.evaluation.report import SystemCaptions
from captioner.evaluation.scores import REPORTED, Scores, score
from captioner.evaluation.systems import System
from captioner.metrics.ngrams import Tokens
from captioner.pages.report_attention import WordAttention
from captioner.text.tokenizer import tokenize_all
from captioner.text.word_tokenizers import word_tokenizer

FLAGS = {
    "ending": "bad ending",
    "repetition": "repetition",
    "training": "copied from training",
    "shared": "same caption as another image",
    "object": "object in no reference",
    "empty": "no words",
}
"""What may be wrong with a caption, by the name that addresses of the page use."""


@dataclass(frozen=True)
class Model:
    """A model in the report.

    Attributes:
        name: Its name, unique in the report.
        system: Its captions and their references.
        log_probs: Log-probability of each of an image's captions, where known.
        attention: Attention of the best caption's words, where known.
    """

    name: str
    system: SystemCaptions
    log_probs: Mapping[ImageId, Sequence[float]] = field(default_factory=dict)
    attention: Mapping[ImageId, WordAttention] = field(default_factory=dict)


@dataclass(frozen=True)
class Material:
    """What a report is made from.

    Attributes:
        title: Title of the page.
        models: One or more models, with captions of the same images.
        names: The name of each image, such as its file name.
        photos: The photo file of each image, where there is one.
        objects: Annotated object categories of each image; None without annotations.
    """

    title: str
    models: tuple[Model, ...]
    names: Mapping[ImageId, str] = field(default_factory=dict)
    photos: Mapping[ImageId, Path] = field(default_factory=dict)
    objects: Mapping[ImageId, frozenset[str]] | None = None

    @property
    def references(self) -> Mapping[ImageId, Sequence[str]]:
        """References of the images."""
        return self.models[0].system.references


@dataclass(frozen=True)
class Analysis:
    """The numbers of a report. Lists follow the order of `images`.

    Attributes:
        images: The images.
        scores: The scores of each model.
        comparison: Scores with intervals, and the tests of each pair of models.
        words: The words of each model's captions.
        references: The words of each image's references.
        flags: What is wrong with each model's captions: keys of `FLAGS`.
        people: The same of the first references.
        objects: The object categories of each image: annotated, or else named by a reference.
        annotated: Whether `objects` are annotated.
    """

    images: tuple[ImageId, ...]
    scores: tuple[Scores, ...]
    comparison: ComparisonReport
    words: tuple[list[Tokens], ...]
    references: list[list[Tokens]]
    flags: tuple[list[frozenset[str]], ...]
    people: list[frozenset[str]]
    objects: list[frozenset[str]]
    annotated: bool


def analyse(
    material: Material,
    *,
    metrics: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Analysis:
    """Score the models, compare them, and look for faults in their captions.

    Args:
        material: The models and their images.
        metrics: Names of the metrics. Default: `captioner.evaluation.scores.REPORTED`.
        resamples: Number of resamples of intervals and tests.
        seed: Seed of the resampling.

    Raises:
        CaptionerError: Images and captions do not match, or models captioned different images.
    """
    scored = [_scores(model, metrics) for model in material.models]
    images = scored[0].image_ids
    tokenizer = material.models[0].system.tokenizer
    words = tuple(
        _tokens([model.system.captions[image] for image in images], tokenizer)
        for model in material.models
    )
    references = _grouped([material.references[image] for image in images], tokenizer)
    named = [frozenset().union(*map(mentions, group)) for group in references]
    annotated = material.objects
    if annotated is not None and (missing := [one for one in images if one not in annotated]):
        raise CaptionerError(
            f"{len(missing)} of {len(images)} captioned images are missing from the instance "
            f"annotations, for example image {missing[0]!r}"
        )
    objects = named if annotated is None else [annotated[image] for image in images]
    visible = [one | other for one, other in zip(named, objects, strict=True)]
    training = [_training(model.system, tokenizer) for model in material.models]
    systems = [
        System(model.name, (scores,)) for model, scores in zip(material.models, scored, strict=True)
    ]
    return Analysis(
        images=images,
        scores=tuple(scored),
        comparison=compare_systems(systems, resamples=resamples, seed=seed, with_intervals=True),
        words=words,
        references=references,
        flags=tuple(
            faults(own, visible, known) for own, known in zip(words, training, strict=True)
        ),
        people=faults([group[0] for group in references], visible, training[0]),
        objects=objects,
        annotated=annotated is not None,
    )


def faults(
    captions: Sequence[Tokens], visible: Sequence[frozenset[str]], training: frozenset[str] | None
) -> list[frozenset[str]]:
    """Return what is wrong with each caption: keys of `FLAGS`.

    Args:
        captions: The words of each caption.
        visible: The objects in each image, as annotated or named by references.
        training: Captions known from training, tokenised and joined; None if unknown.
    """
    joined = [" ".join(tokens) for tokens in captions]
    uses = Counter(joined)
    found = []
    for tokens, text, present in zip(captions, joined, visible, strict=True):
        found.append(
            frozenset(
                name
                for name, holds in (
                    ("ending", ends_badly(tokens)),
                    ("repetition", repeats_itself(tokens)),
                    ("training", training is not None and text in training),
                    ("shared", uses[text] > 1),
                    ("object", bool(mentions(tokens) - present)),
                    ("empty", not tokens),
                )
                if holds
            )
        )
    return found


def main_score(scores: Scores) -> str:
    """Return the score that the report shows first: CIDEr-D, or else the last one."""
    return "CIDEr-D" if "CIDEr-D" in scores.per_image else list(scores.per_image)[-1]


def difference(analysis: Analysis, first: int, second: int, name: str) -> np.ndarray:
    """Return the second model's score minus the first's, (images,)."""
    one, other = (analysis.scores[at].per_image[name] for at in (first, second))
    return other - one


def _scores(model: Model, metrics: Sequence[str] | None) -> Scores:
    system = model.system
    try:
        found = score(
            system.captions,
            system.references,
            metrics=metrics or REPORTED,
            tokenizer=system.tokenizer,
        )
    except CaptionerError as error:
        raise CaptionerError(f"{model.name}: {error}") from error
    return replace(
        found,
        recipe=system.recipe | found.recipe,
        warnings=(*system.notes, *found.warnings),
    )


def _tokens(texts: Sequence[str], tokenizer: str) -> list[Tokens]:
    return list(
        tokenize_all(texts) if tokenizer == "ptb" else map(word_tokenizer(tokenizer), texts)
    )


def _grouped(groups: Sequence[Sequence[str]], tokenizer: str) -> list[list[Tokens]]:
    flat = iter(_tokens([text for group in groups for text in group], tokenizer))
    return [[next(flat) for _ in group] for group in groups]


def _training(system: SystemCaptions, tokenizer: str) -> frozenset[str] | None:
    if system.training is None:
        return None
    return frozenset(" ".join(tokens) for tokens in _tokens(system.training, tokenizer))

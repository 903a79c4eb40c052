"""Score captions against references, with the recipe of every score."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain

import numpy as np

from captioner.datasets.records import ImageId
from captioner.errors import CaptionerError, UsageError, shown
from captioner.evaluation.recipe import Recipe, recipe_of
from captioner.metrics.bleu import (
    BLEU_NAMES,
    bleu_from_statistics,
    bleu_statistics,
    smoothed_bleu,
)
from captioner.metrics.checks import check_captions, check_references
from captioner.metrics.cider import CiderScorer, DocumentFrequencies
from captioner.metrics.java import JAVA_METEOR, SPICE, java_statistics
from captioner.metrics.meteor.data import HOW_TO_GET_IT, find_folder, load_data
from captioner.metrics.meteor.score import meteor_from_statistics, meteor_statistics
from captioner.metrics.ngrams import Tokens
from captioner.metrics.rouge import rouge_l
from captioner.metrics.statistics import ImageStatistics, mean_statistics
from captioner.text.tokenizer import tokenize_all
from captioner.text.word_tokenizers import word_tokenizer

METRICS = ("BLEU", "ROUGE-L", "CIDEr-D")
"""Default metrics: those fast enough for scores after every epoch."""

REPORTED = ("BLEU", "METEOR", "ROUGE-L", "CIDEr-D")
"""Metrics that `captioner evaluate` reports."""

# The exact variant of each metric, for the recipe; the modules of the metrics have the details. The
# order is that of the official tool.
_VARIANTS = {
    "BLEU": "corpus, closest reference length",
    "METEOR": "1.5, en, norm",
    JAVA_METEOR: "1.5, en, norm, by Java",
    "ROUGE-L": "beta 1.2",
    "CIDEr-D": "sigma 6",
    "CIDEr": "no clipping, no length penalty, no stemming",
    SPICE: "pycocoevalcap",
}

# Metrics that need data or programs which may not be installed.
_NEED_MORE = ("METEOR", JAVA_METEOR, SPICE)


@dataclass(frozen=True)
class Scores:
    """Scores of one system.

    Attributes:
        corpus: Corpus scores by name: BLEU-1 to BLEU-4, METEOR and ROUGE-L from 0 to 1, CIDEr-D
            from 0 to 10.
        per_image: Scores of each image by name, in the order of `image_ids`, (images,) each.
        image_ids: The images.
        recipe: Recipe of the scores.
        warnings: Warnings for the reader, one line each.
        statistics: Per-image statistics of each metric, for intervals and comparisons.
    """

    corpus: dict[str, float]
    per_image: dict[str, np.ndarray]
    image_ids: tuple[ImageId, ...]
    recipe: Recipe
    warnings: tuple[str, ...]
    statistics: tuple[ImageStatistics, ...]


def score(
    captions: Mapping[ImageId, str],
    references: Mapping[ImageId, Sequence[str]],
    *,
    metrics: Sequence[str] = METRICS,
    frequencies: DocumentFrequencies | None = None,
    tokenizer: str = "ptb",
    bleu_smoothing: int | None = None,
    **recipe: str | int | float,
) -> Scores:
    """Score one caption per image, as the official COCO evaluation does.

    Args:
        captions: One caption per image.
        references: One or more references of the same images. Their order is the order of the
            result. As in the official tool, it also affects the tokens of a caption that ends in a
            single letter with a period (see `captioner.text.tokenizer`).
        metrics: Names from "BLEU", "METEOR", "ROUGE-L", "CIDEr-D", "CIDEr" (without clipping and
            length penalty), "METEOR-Java" and "SPICE" (`captioner.metrics.java`). METEOR and the
            last two are skipped with a warning if the data or programs they need are missing.
        frequencies: Document frequencies for CIDEr. Default: those of `references`.
        tokenizer: Name of the tokenizer (`captioner.text.word_tokenizers`). Only "ptb" gives the
            official tool's scores. METEOR needs "ptb" and is skipped otherwise.
        bleu_smoothing: Smoothing method of per-image BLEU (see `smoothed_bleu`). Corpus BLEU is
            never smoothed.
        recipe: Recipe entries known to the caller: split, checkpoint, beam_size …

    Raises:
        CaptionerError: Images and captions do not match, or a caption is not a string.
        UsageError: A metric or tokenizer is unknown.

    Example:
        >>> result = score({7: "a dog runs", 8: "a blue kite"},
        ...                {7: ["A dog runs."], 8: ["A kite.", "A red kite flies."]})
        >>> round(result.corpus["BLEU-1"], 4)
        0.8333
    """
    check_metrics(metrics)
    check_pairing(captions, references)
    image_ids = tuple(references)
    texts = [captions[image] for image in image_ids]
    if tokenizer == "ptb":
        candidates = tokenize_all(texts, in_sequence=True)
        groups = _tokenize_groups(references)
    else:
        words = word_tokenizer(tokenizer)
        candidates = [words(text) for text in texts]
        groups = [[words(text) for text in group] for group in references.values()]
    return score_tokens(
        dict(zip(image_ids, candidates, strict=True)),
        dict(zip(image_ids, groups, strict=True)),
        metrics=metrics,
        frequencies=frequencies,
        tokenizer=tokenizer,
        bleu_smoothing=bleu_smoothing,
        **recipe,
    )


def score_tokens(
    captions: Mapping[ImageId, Tokens],
    references: Mapping[ImageId, Sequence[Tokens]],
    *,
    metrics: Sequence[str] = METRICS,
    frequencies: DocumentFrequencies | None = None,
    tokenizer: str = "ptb",
    bleu_smoothing: int | None = None,
    **recipe: str | int | float,
) -> Scores:
    """Score tokenised captions; otherwise like `score`."""
    image_ids = tuple(references)
    candidates = [captions[image] for image in image_ids]
    groups = list(references.values())
    check_captions(candidates)
    check_references(groups)
    found: dict[str, ImageStatistics] = {}
    warnings = _empty_warnings(candidates, groups)

    # The official tool splits words at any white space for BLEU and CIDEr, but only at spaces for
    # ROUGE-L. They differ for "1 1/2", which contains a no-break space.
    [words], reference_words = _split_at_blanks([candidates]), _split_at_blanks(groups)
    scorer = CiderScorer(dict(zip(image_ids, reference_words, strict=True)), frequencies)
    counts = scorer.index.count(words)
    if "BLEU" in metrics:
        values = bleu_statistics(words, reference_words, counts, scorer.image_counts)
        found["BLEU"] = ImageStatistics(BLEU_NAMES, values, bleu_from_statistics)
    if "ROUGE-L" in metrics:
        found["ROUGE-L"] = mean_statistics("ROUGE-L", rouge_l(candidates, groups))
    for variant in ("CIDEr-D", "CIDEr"):
        if variant in metrics:
            values = scorer.score(image_ids, words, counts=counts, variant=variant)
            found[variant] = mean_statistics(variant, values)
            if scorer.n_images == 1:
                warnings.append(
                    f"{variant} is 0 by definition: the document frequencies come from one image, "
                    "so every n-gram has weight ln 1 = 0; use frequencies from a larger set"
                )
            elif scorer.is_weightless:
                warnings.append(
                    f"{variant} is 0 by definition: the references of all images have the same "
                    "n-grams, so each has weight ln 1 = 0; use frequencies from a larger set"
                )
    for name in _NEED_MORE:
        if name in metrics:
            try:
                if tokenizer != "ptb":
                    raise CaptionerError("it requires the tokenizer ptb")
                found[name] = _with_data(name, candidates, groups)
            except CaptionerError as error:
                warnings.append(f"{name} is skipped: {error}")

    sizes = [len(group) for group in groups]
    statistics = [found[name] for name in _VARIANTS if name in found]
    variants = {name: variant for name, variant in _VARIANTS.items() if name in found}
    if not {"CIDEr-D", "CIDEr"}.isdisjoint(metrics):
        source = "references" if frequencies is None else frequencies.source
        variants["document_frequencies"] = f"{source}, {scorer.n_images} images"
    per_image = {name: values for one in statistics for name, values in one.per_image().items()}
    if bleu_smoothing is not None and "BLEU" in found:
        smoothed = smoothed_bleu(words, reference_words, bleu_smoothing)
        per_image |= dict(zip(BLEU_NAMES, smoothed.T, strict=True))
        variants["bleu_per_image"] = f"smoothed, method {bleu_smoothing} of Chen & Cherry (nltk)"
    return Scores(
        corpus={name: value for one in statistics for name, value in one.corpus().items()},
        per_image=per_image,
        image_ids=image_ids,
        recipe=recipe_of(len(image_ids), (min(sizes), max(sizes)), variants, tokenizer, **recipe),
        warnings=tuple(warnings),
        statistics=tuple(statistics),
    )


def check_metrics(metrics: Sequence[str]) -> None:
    """Check the names of metrics.

    Raises:
        UsageError: A metric is unknown.

    Example:
        >>> check_metrics(["BLEU", "CIDEr-D"])
    """
    if isinstance(metrics, str):
        raise UsageError(f"metrics: one string, {shown(metrics)}; expected a list of names")
    for name in metrics:
        if name not in _VARIANTS:
            near = _near_metric(name)
            hint = f"; did you mean {near}?" if near else ""
            raise UsageError(f"unknown metric {name!r}{hint}; choose from {', '.join(_VARIANTS)}")


def _near_metric(name: str) -> str | None:
    """Return the metric closest to a name, ignoring case, hyphens and n-gram orders ("bleu4")."""

    def plain(text: str) -> str:
        return re.sub(r"[^a-z]", "", text.lower())

    known = {plain(metric): metric for metric in _VARIANTS}
    others = {"rouge": "ROUGE-L", "ciderd": "CIDEr-D"}
    near = get_close_matches(plain(name), [*known, *others], n=1)
    return (known | others)[near[0]] if near else None


def _with_data(
    name: str, candidates: Sequence[Tokens], groups: Sequence[Sequence[Tokens]]
) -> ImageStatistics:
    """Compute a score that needs data or programs which may not be installed.

    Raises:
        CaptionerError: They are not installed, or fail.
    """
    if name != "METEOR":
        return java_statistics(name, candidates, groups)
    folder = find_folder()
    if folder is None:
        raise CaptionerError(f"its data files are not installed ({HOW_TO_GET_IT})")
    values = meteor_statistics(candidates, groups, load_data(folder))
    return ImageStatistics(("METEOR",), values, meteor_from_statistics)


def check_pairing(
    captions: Mapping[ImageId, str], references: Mapping[ImageId, Sequence[str]]
) -> None:
    """Check that each image has one caption and at least one reference, all of them strings.

    Raises:
        CaptionerError: They do not. The message says what is wrong, how often and for which images.
    """
    if not references:
        raise CaptionerError("references: none given; at least one image is required")
    if not captions:
        raise CaptionerError("captions: none given; one per image with references is required")
    unknown = [image for image in captions if image not in references]
    missing = [image for image in references if image not in captions]
    if unknown and missing:
        texts = {str(image) for image in references}
        if all(str(image) in texts for image in unknown):
            raise CaptionerError(
                f"image ids of {len(unknown)} of {len(captions)} captions are of type "
                f"{type(unknown[0]).__name__} ({unknown[0]!r}), those of references of type "
                f"{type(missing[0]).__name__} ({missing[0]!r}); use one type"
            )
    if unknown:
        raise CaptionerError(
            f"{_images(unknown)} with a caption but without references; "
            "add references or remove these captions"
        )
    if missing:
        raise CaptionerError(
            f"{_images(missing)} with references but without a caption; "
            "caption these images or remove their references"
        )
    for image, caption in captions.items():
        if not isinstance(caption, str):
            raise CaptionerError(
                f"image {image!r}: the caption is {caption!r} of type {type(caption).__name__}; "
                "expected a string"
            )
    for image, group in references.items():
        if isinstance(group, str):
            raise CaptionerError(
                f"image {image!r}: the references are one string; expected a list of strings"
            )
        if not len(group):
            raise CaptionerError(f"image {image!r}: the list of references is empty")
        for reference in group:
            if not isinstance(reference, str):
                raise CaptionerError(
                    f"image {image!r}: a reference is {reference!r} of type "
                    f"{type(reference).__name__}; expected a string"
                )


def _images(ids: Sequence[ImageId]) -> str:
    some = ", ".join(repr(image) for image in ids[:3])
    return f"{len(ids)} image{'s' * (len(ids) > 1)} ({some}{', …' * (len(ids) > 3)})"


def _tokenize_groups(references: Mapping[ImageId, Sequence[str]]) -> list[list[list[str]]]:
    flat = [reference for group in references.values() for reference in group]
    tokens = iter(tokenize_all(flat, in_sequence=True))
    return [[next(tokens) for _ in group] for group in references.values()]


def _split_at_blanks(groups: Sequence[Sequence[Tokens]]) -> Sequence[Sequence[Tokens]]:
    vocabulary = set(chain.from_iterable(chain.from_iterable(groups)))
    if all(len(token.split()) == 1 for token in vocabulary):
        return groups
    return [[" ".join(tokens).split() for tokens in group] for group in groups]


def _empty_warnings(candidates: Sequence[Tokens], groups: Sequence[Sequence[Tokens]]) -> list[str]:
    empty = sum(not tokens for tokens in candidates)
    empty_references = sum(not tokens for group in groups for tokens in group)
    warnings = []
    if empty:
        verb = "has" if empty == 1 else "have"
        warnings.append(f"{empty} of {len(candidates)} captions {verb} no words")
    if empty_references:
        one = empty_references == 1
        warnings.append(f"{empty_references} reference{' has' if one else 's have'} no words")
    return warnings

"""Captions and references in, scores with their recipe out."""

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
"""What is computed unless asked otherwise: what takes no time, for scores after each epoch."""

REPORTED = ("BLEU", "METEOR", "ROUGE-L", "CIDEr-D")
"""What `captioner evaluate` tells."""

# What a reader must know to compare; the modules of the metrics say the rest. In the order in which
# they are told, which is the official tool's.
_VARIANTS = {
    "BLEU": "corpus, closest reference length",
    "METEOR": "1.5, en, norm",
    JAVA_METEOR: "1.5, en, norm, by Java",
    "ROUGE-L": "beta 1.2",
    "CIDEr-D": "sigma 6",
    "CIDEr": "no clipping, no length penalty, no stemming",
    SPICE: "pycocoevalcap",
}

# Those that stand on data or programs which may not be installed.
_NEED_MORE = ("METEOR", JAVA_METEOR, SPICE)


@dataclass(frozen=True)
class Scores:
    """Scores of one system.

    Attributes:
        corpus: BLEU-1 to BLEU-4, METEOR and ROUGE-L from 0 to 1, CIDEr-D from 0 to 10, by name.
        per_image: The same for each image, in the order of ``image_ids``, (images,) each.
        image_ids: The images.
        recipe: What produced the numbers.
        warnings: What a reader of the numbers should know, one line each.
        statistics: What each metric is made of, for intervals and comparisons.
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
    """Scores one caption for each image as the official COCO evaluation does.

    Args:
        captions: The candidate for each image.
        references: One or more references for each of the same images. Their order is the order
            of the result, and (as in the official tool, see `captioner.text.tokenizer`) decides
            about the tokens of a caption that ends in a single letter with a period.
        metrics: Names out of "BLEU", "METEOR", "ROUGE-L", "CIDEr-D" and "CIDEr" (without clipping
            and length penalty), "METEOR-Java" and "SPICE" (`java_programs`). What METEOR and the
            last two need may not be installed; then they are left out, with a warning.
        frequencies: Document frequencies for CIDEr; None: those of ``references``.
        tokenizer: What makes words (`captioner.text.word_tokenizers`). Only "ptb" gives scores
            equal to the official tool's; METEOR is of English, and left out with any other.
        bleu_smoothing: Method by which BLEU is smoothed for each image (`smoothed_bleu`); the
            BLEU of the corpus is not.
        recipe: What only the caller knows about the numbers: split, checkpoint, beam_size …

    Raises:
        CaptionerError: If images and captions do not belong together, or something is no text.
        UsageError: If a metric is unknown.

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
    """Like `score`, for token lists."""
    image_ids = tuple(references)
    candidates = [captions[image] for image in image_ids]
    groups = list(references.values())
    check_captions(candidates)
    check_references(groups)
    found: dict[str, ImageStatistics] = {}
    warnings = _empty_warnings(candidates, groups)

    # The official tool parts BLEU's and CIDEr's words at any white space, ROUGE-L's at the blank
    # alone, and "1 1/2" holds a no-break space.
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
                    "where every n-gram weighs ln 1 = 0; give frequencies from a larger set"
                )
            elif scorer.is_weightless:
                warnings.append(
                    f"{variant} is 0 by definition: the references of all images have the same "
                    "n-grams, each of which weighs ln 1 = 0; give frequencies from a larger set"
                )
    for name in _NEED_MORE:
        if name in metrics:
            try:
                if tokenizer != "ptb":
                    raise CaptionerError("it knows English alone, and words of the PTB tokenizer")
                found[name] = _with_data(name, candidates, groups)
            except CaptionerError as error:
                warnings.append(f"{name} is left out: {error}")

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
    """Sees to it that scores of these names can be computed.

    Raises:
        UsageError: If one is unknown.
    """
    if isinstance(metrics, str):
        raise UsageError(f"metrics: one text, {shown(metrics)}; give a list of names")
    for name in metrics:
        if name not in _VARIANTS:
            near = _near_metric(name)
            hint = f"; did you mean {near}?" if near else ""
            raise UsageError(f"unknown metric {name!r}{hint}; known are {', '.join(_VARIANTS)}")


def _near_metric(name: str) -> str | None:
    """The metric that was meant, whatever the case, hyphens and order of n-grams ("bleu4")."""

    def plain(text: str) -> str:
        return re.sub(r"[^a-z]", "", text.lower())

    known = {plain(metric): metric for metric in _VARIANTS}
    others = {"rouge": "ROUGE-L", "ciderd": "CIDEr-D"}
    near = get_close_matches(plain(name), [*known, *others], n=1)
    return (known | others)[near[0]] if near else None


def _with_data(
    name: str, candidates: Sequence[Tokens], groups: Sequence[Sequence[Tokens]]
) -> ImageStatistics:
    """A score that stands on what may not be installed.

    Raises:
        CaptionerError: If it is not, or does not work; one line.
    """
    if name != "METEOR":
        return java_statistics(name, candidates, groups)
    folder = find_folder()
    if folder is None:
        raise CaptionerError(f"its data are not installed ({HOW_TO_GET_IT})")
    values = meteor_statistics(candidates, groups, load_data(folder))
    return ImageStatistics(("METEOR",), values, meteor_from_statistics)


def check_pairing(
    captions: Mapping[ImageId, str], references: Mapping[ImageId, Sequence[str]]
) -> None:
    """Sees to it that each image has one caption and at least one reference, all of them text.

    Raises:
        CaptionerError: With one line that says what does not fit, how often, and for which images.
    """
    if not references:
        raise CaptionerError("no references: expected at least one image with references")
    if not captions:
        raise CaptionerError("no captions: expected one for each image with references")
    unknown = [image for image in captions if image not in references]
    missing = [image for image in references if image not in captions]
    if unknown and missing:
        texts = {str(image) for image in references}
        if all(str(image) in texts for image in unknown):
            raise CaptionerError(
                f"image ids of {len(unknown)} of {len(captions)} captions are of type "
                f"{type(unknown[0]).__name__} ({unknown[0]!r}), those of references of type "
                f"{type(missing[0]).__name__} ({missing[0]!r}): make them alike"
            )
    if unknown:
        raise CaptionerError(
            f"{_images(unknown)} with a caption but without references: "
            "give some for all images, or leave out the captions of these"
        )
    if missing:
        raise CaptionerError(
            f"{_images(missing)} with references but without a caption: "
            "caption all images, or leave out the references of those that are not to be scored"
        )
    for image, caption in captions.items():
        if not isinstance(caption, str):
            raise CaptionerError(
                f"image {image!r}: the caption is {caption!r} of type {type(caption).__name__}; "
                "expected text"
            )
    for image, group in references.items():
        if isinstance(group, str):
            raise CaptionerError(
                f"image {image!r}: the references are one text; expected a list of texts"
            )
        if not len(group):
            raise CaptionerError(f"image {image!r}: the list of references is empty")
        for reference in group:
            if not isinstance(reference, str):
                raise CaptionerError(
                    f"image {image!r}: a reference is {reference!r} of type "
                    f"{type(reference).__name__}; expected text"
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

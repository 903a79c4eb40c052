"""Report sections beside the scores: properties of the captions and objects they mention."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from captioner.evaluation.diversity import describe, mean_self_cider
from captioner.evaluation.objects import read_instances, score_objects
from captioner.evaluation.report import Section, SystemCaptions
from captioner.metrics.cider import DocumentFrequencies
from captioner.tables import Table
from captioner.text.tokenizer import tokenize_all


def description_section(
    system: SystemCaptions,
    *,
    training: Sequence[str] | None = None,
    vocabulary: Collection[str] | None = None,
) -> Section:
    """Describe the length, diversity, novelty and well-formedness of captions.

    Where images have several captions, the section includes their mean self-CIDEr, with document
    frequencies from the references.

    Args:
        system: The captions and their references.
        training: Captions that the system was trained on.
        vocabulary: Words that the system could have used. Default: the words of `training`.
    """
    if vocabulary is None and training is not None:
        vocabulary = {word for tokens in tokenize_all(training) for word in tokens}
    found = describe(system.captions.values(), training=training, vocabulary=vocabulary)
    several = {image: group for image, group in system.candidates.items() if len(group) > 1}
    spread = None
    if several:
        groups = [tokenize_all(group) for group in system.references.values()]
        spread = mean_self_cider(several, DocumentFrequencies.of(groups))
    rows = [
        ("captions", f"{found.n_captions:,}"),
        ("mean length, words", f"{found.mean_length:.1f}"),
        ("distinct words, % of all words", _percent(found.distinct_1)),
        ("distinct pairs of words, % of all pairs", _percent(found.distinct_2)),
        ("words used", f"{found.words_used:,}"),
        ("vocabulary used, %", _percent(found.vocabulary_used)),
        ("distinct captions, %", _percent(found.distinct_captions)),
        ("captions seen in training, %", _percent(found.seen)),
        ("novel captions, %", _percent(found.novel)),
        ("bad endings, %", _percent(found.bad_endings)),
        ("repetitions, %", _percent(found.repetitions)),
    ]
    if several:
        rows.append(("mean self-CIDEr x 100 (0: all alike)", _percent(spread)))
        rows.append(("images with several captions", f"{len(several):,}"))
    return Section(
        "description",
        Table(("description", "value"), tuple((name, value) for name, value in rows if value)),
        asdict(found) | {"mean_self_cider": spread, "images_with_several": len(several)},
    )


def objects_section(system: SystemCaptions, instances: Path) -> Section:
    """Compare the objects that captions mention with COCO's instance annotations.

    Raises:
        UsageError: There is no such file.
        CaptionerError: It is not an instance file, or captioned images are missing from it.
    """
    found = score_objects(system.captions, system.references, read_instances(instances))
    rows = [
        ("recall of annotated objects, %", _percent(found.recall)),
        ("recall of a single reference, %", _percent(found.recall_of_references)),
        ("precision of mentioned objects, %", _percent(found.precision)),
        ("hallucinated objects, % (CHAIR-i)", _percent(found.chair_i)),
        ("captions with hallucinations, % (CHAIR-s)", _percent(found.chair_s)),
        ("objects annotated", f"{found.n_annotated:,}"),
        ("objects mentioned", f"{found.n_mentioned:,}"),
    ]
    return Section(
        "objects",
        Table(("objects", "value"), tuple((name, value) for name, value in rows if value)),
        asdict(found),
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:z.1f}"

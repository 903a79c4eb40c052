r"""Objects that captions mention, compared with COCO's instance annotations.

Let :math:`m_i` be the object categories mentioned in the caption of image i, :math:`a_i` those
annotated, and :math:`t_i` the union of :math:`a_i` and those mentioned by its references:

.. math::
    \text{recall} = \frac{\sum_i |m_i \cap a_i|}{\sum_i |a_i|} \qquad
    \text{precision} = \frac{\sum_i |m_i \cap t_i|}{\sum_i |m_i|}
    \qquad \text{CHAIR}_i = 1 - \text{precision}

:math:`\text{CHAIR}_s` is the share of captions that mention an object outside :math:`t_i` (Rohrbach
et al. 2018, "Object hallucination in image captioning"). Each category counts once per image.
`coco_objects` lists the words that mention a category. The list is this project's own, so compare
the numbers only with others computed here. People do not name every object either, so the recall of
a single reference is reported for comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from captioner.datasets.records import ImageId, check_id
from captioner.errors import CaptionerError, shown
from captioner.evaluation.coco_objects import (
    ANIMALS,
    IRREGULAR,
    NOT_OBJECTS,
    OBJECTS,
    OF_ANIMALS,
)
from captioner.files.json_file import as_list, read_json
from captioner.metrics.ngrams import Tokens
from captioner.text.tokenizer import tokenize_all


@dataclass(frozen=True)
class ObjectScores:
    """Agreement of mentioned and annotated objects. Shares are from 0 to 1, None for 0 / 0.

    Attributes:
        n_images: Number of images.
        n_annotated: Annotated categories, summed over images.
        n_mentioned: Mentioned categories, summed over captions.
        recall: Share of annotated categories that the captions mention.
        recall_of_references: The same for each reference, averaged.
        precision: Share of mentioned categories that are annotated or mentioned by a reference.
        chair_i: Share of mentioned categories that are neither (hallucinated objects).
        chair_s: Share of captions that mention a hallucinated object.
    """

    n_images: int
    n_annotated: int
    n_mentioned: int
    recall: float | None
    recall_of_references: float | None
    precision: float | None
    chair_i: float | None
    chair_s: float


def score_objects(
    captions: Mapping[ImageId, str],
    references: Mapping[ImageId, Sequence[str]],
    annotated: Mapping[ImageId, frozenset[str]],
) -> ObjectScores:
    """Compare the objects that captions mention with annotated objects.

    Args:
        captions: One caption per image.
        references: References of the same images.
        annotated: Annotated categories of at least the same images.

    Raises:
        CaptionerError: A captioned image has no annotations.

    Example:
        >>> found = score_objects(
        ...     {1: "a dog and a cat"}, {1: ["a dog on a bench"]}, {1: frozenset(["dog", "bench"])}
        ... )
        >>> found.recall, found.precision, found.chair_s
        (0.5, 0.5, 1.0)
    """
    strange = [image for image in captions if image not in annotated]
    if strange:
        raise CaptionerError(
            f"{len(strange)} of {len(captions)} captioned images are missing from the instance "
            f"annotations, for example image {strange[0]!r}"
        )
    ours = dict(zip(captions, map(mentions, tokenize_all(list(captions.values()))), strict=True))
    theirs = {
        image: [mentions(tokens) for tokens in tokenize_all(references[image])]
        for image in captions
    }
    false = {
        image: found - annotated[image] - frozenset().union(*theirs[image])
        for image, found in ours.items()
    }
    n_annotated = sum(len(annotated[image]) for image in captions)
    n_mentioned = sum(map(len, ours.values()))
    n_false = sum(map(len, false.values()))
    hit = sum(len(found & annotated[image]) for image, found in ours.items())
    hit_by_one = sum(
        len(found & annotated[image]) for image, group in theirs.items() for found in group
    )
    for_one = sum(len(group) * len(annotated[image]) for image, group in theirs.items())
    return ObjectScores(
        n_images=len(captions),
        n_annotated=n_annotated,
        n_mentioned=n_mentioned,
        recall=_share(hit, n_annotated),
        recall_of_references=_share(hit_by_one, for_one),
        precision=_share(n_mentioned - n_false, n_mentioned),
        chair_i=_share(n_false, n_mentioned),
        chair_s=sum(map(bool, false.values())) / len(captions),
    )


def mentions(tokens: Tokens) -> frozenset[str]:
    """Return the categories that a caption mentions.

    Example:
        >>> sorted(mentions("two puppies eat a hot dog at the train station".split()))
        ['dog', 'hot dog']
    """
    phrases = _phrases()
    words = [part for token in tokens for part in token.split("-") if part]
    found = set()
    at = 0
    while at < len(words):
        # Take the longest phrase that begins here; its words mention nothing else.
        for length in range(min(_longest(), len(words) - at), 0, -1):
            phrase = tuple(words[at : at + length])
            if phrase in phrases:
                category = phrases[phrase]
                if category is not None:
                    found.add(category)
                at += length
                break
        else:
            at += 1
    return frozenset(found)


def read_instances(path: Path | str) -> dict[ImageId, frozenset[str]]:
    """Read the annotated categories of each image from a COCO instance file.

    Raises:
        UsageError: There is no such file.
        CaptionerError: It is not an instance file, uses a category that it does not list, or lists
            none of COCO's categories.
    """
    file = Path(path)
    document = read_json(file)
    rows = as_list(document, file, "annotations")
    if rows and not any(isinstance(row, dict) and "category_id" in row for row in rows):
        raise CaptionerError(f'{file}: no annotation has a "category_id": not a COCO instance file')
    names = dict(_category(file, row) for row in as_list(document, file, "categories"))
    if not set(names.values()).intersection(OBJECTS):
        first = ", ".join(map(shown, list(names.values())[:3]))
        raise CaptionerError(f"{file}: none of its categories ({first}, …) is a COCO category")
    found: dict[ImageId, set[str]] = {}
    for row in as_list(document, file, "images"):
        found[_image_id(file, row, "id")] = set()
    for row in rows:
        image = _image_id(file, row, "image_id")
        if image not in found:
            raise CaptionerError(f'{file}: image {image!r} is not in the list "images"')
        number = row.get("category_id")
        if type(number) is not int or number not in names:
            raise CaptionerError(
                f'{file}: category {shown(number)} is not in the list "categories"'
            )
        if names[number] in OBJECTS:
            found[image].add(names[number])
    return {image: frozenset(categories) for image, categories in found.items()}


def _category(file: Path, row: object) -> tuple[int, str]:
    if isinstance(row, dict):
        number, name = row.get("id"), row.get("name")
        if type(number) is int and isinstance(name, str):
            return number, name
    raise CaptionerError(
        f'{file}: expected a category with an integer "id" and a "name", not {shown(row)}'
    )


def _image_id(file: Path, row: object, key: str) -> ImageId:
    if not isinstance(row, dict) or key not in row:
        raise CaptionerError(f'{file}: expected an object with "{key}", not {shown(row)}')
    try:
        return check_id(row[key])
    except ValueError as error:
        raise CaptionerError(f"{file}: {error}") from None


@cache
def _phrases() -> dict[tuple[str, ...], str | None]:
    """Map phrases, including plurals, to categories; None for phrases that mention no object."""
    phrases: dict[tuple[str, ...], str | None] = {}
    for category, words in OBJECTS.items():
        phrases |= dict.fromkeys(_with_plurals(words), category)
    for category, words in ANIMALS.items():
        for before in _split(OF_ANIMALS):
            phrases |= {(*before, *name): category for name in _with_plurals(words)}
    return phrases | dict.fromkeys(_with_plurals(NOT_OBJECTS))


@cache
def _longest() -> int:
    return max(map(len, _phrases()))


def _with_plurals(words: str) -> Iterable[tuple[str, ...]]:
    for phrase in _split(words):
        yield phrase
        yield (*phrase[:-1], plural(phrase[-1]))


def _split(words: str) -> list[tuple[str, ...]]:
    # Split clitics as the tokenizer does: "catcher's" becomes catcher 's.
    return [tuple(phrase.replace("'s", " 's").split()) for phrase in words.split(",")]


def plural(noun: str) -> str:
    """Return the plural of an English noun, by rule except for `IRREGULAR`.

    Example:
        >>> [plural(noun) for noun in ("puppy", "toy", "bus", "bench", "man")]
        ['puppies', 'toys', 'buses', 'benches', 'men']
    """
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    if noun.endswith(("s", "sh", "ch", "x")):
        return noun + "es"
    return noun + "s"


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None

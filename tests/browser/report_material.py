"""Material of small reports, for tests of pages and of the browser."""

from collections.abc import Sequence
from pathlib import Path

from conftest import make_photo

from captioner.datasets.records import ImageId
from captioner.evaluation.report import SystemCaptions
from captioner.pages.report_analysis import Material, Model
from captioner.pages.report_attention import LEVELS, WordAttention

ANIMALS = ("dog", "cat", "horse", "bird", "cow")
PLACES = ("grass", "snow", "a street", "the beach")


def references_of(number: int) -> list[str]:
    animal, place = ANIMALS[number % 5], PLACES[number // 5 % 4]
    return [
        f"A brown {animal} runs on {place}.",
        f"a small {animal} plays on {place} number {number}",
    ]


def attention(words: Sequence[str], looks_at: int) -> WordAttention:
    """Attention to one of 2 x 2 regions, which cover the photo's right half."""
    pairs = [[7 * (at == looks_at) for at in half] for half in ((0, 1), (2, 3))]
    levels = "".join(LEVELS[8 * first + second] for first, second in pairs) * len(words)
    return WordAttention(tuple(words), (2, 2), levels, (0.5, 0.0, 0.5, 1.0), (7,) * len(words))


def material(
    folder: Path | None = None,
    count: int = 40,
    *,
    models: int = 2,
    extra: Sequence[tuple[str, list[str], list[str]]] = (),
) -> Material:
    """Return images of animals, and models that describe them more or less well.

    Args:
        folder: Where to put a photo per image. Default: no photos.
        count: Number of images.
        models: Number of models. The first repeats a reference, the second says less and ends
            badly for every fourth image, others always say the same.
        extra: Further images: name, references and captions, the same for all models.
    """
    images: list[ImageId] = [f"photo-{at}.png" for at in range(count)]
    references: dict[ImageId, Sequence[str]] = {
        image: references_of(at) for at, image in enumerate(images)
    }
    names: dict[ImageId, str] = {image: str(image) for image in images}
    photos: dict[ImageId, Path] = {}
    if folder is not None:
        for at, image in enumerate(images):
            photos[image] = make_photo(folder / str(image), at)
    for at, (name, group, _) in enumerate(extra):
        image = f"extra-{at}"
        references[image], names[image] = group, name
    made = []
    for at in range(models):
        candidates: dict[ImageId, list[str]] = {}
        for number, image in enumerate(images):
            animal, place = ANIMALS[number % 5], PLACES[number // 5 % 4]
            candidates[image] = (
                [
                    [f"a brown {animal} runs on {place}", f"a {animal} is on {place}"],
                    [f"a {animal} on a" if number % 4 == 0 else f"a {animal} plays"],
                ][at]
                if at < 2
                else ["a man rides a wave"]
            )
        for number, (_, _, captions) in enumerate(extra):
            candidates[f"extra-{number}"] = captions
        known = tuple(f"a {animal} plays" for animal in ANIMALS)
        system = SystemCaptions(candidates, references, {"checkpoint": f"{at}.ckpt"}, known)
        log_probs = {
            image: [-1.5 - number for number in range(len(group))]
            for image, group in candidates.items()
        }
        looks = {}
        if at == 0:
            looks = {image: attention(candidates[image][0].split(), 3) for image in images}
        made.append(Model(("first", "second", "third")[at], system, log_probs, looks))
    return Material("Animals", tuple(made), names, photos)

r"""Print Kendall's tau-c between each score and expert ratings of Flickr8k captions.

python scripts/human_correlation.py --ratings ExpertAnnotations.txt --captions Flickr8k.token.txt

Both files come with Flickr8k (Hodosh, Young & Hockenmaier 2013). A line of the ratings is
`IMAGE<TAB>CAPTION_ID<TAB>R1<TAB>R2<TAB>R3`: a caption of the data set, mostly of another image,
rated for this image by three experts from 1 (unrelated) to 4 (describes it without errors).

The convention is that of Anderson et al. 2016 (SPICE), as reconstructed by Hessel et al. 2021
(CLIPScore, appendix A). Pairs whose caption is identical to a reference of the image are left out
(158 of 5,822). Each remaining rating is one point (5,664 x 3 = 16,992). The references are all five
captions of the image. Captions are scored singly, but as one set of 16,992, whose references give
CIDEr's document frequencies. Published values with this convention, times 100: BLEU-1 32.3, BLEU-4
30.8, ROUGE-L 32.3, METEOR 41.8, CIDEr 43.9, where "CIDEr" is the official tool's name for CIDEr-D.

`--all-pairs` keeps every pair. A caption that is a reference of its image is then removed from the
references instead (5,822 x 3 = 17,466 points).
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from captioner.errors import CaptionerError, shown
from captioner.evaluation.correlation import kendall_tau_c
from captioner.evaluation.recipe import signature
from captioner.evaluation.scores import score
from captioner.files.json_file import read_bytes
from captioner.tables import FORMATS, Table, render

METRICS = ("BLEU", "METEOR", "ROUGE-L", "CIDEr-D", "CIDEr")

PUBLISHED = {"BLEU-1": 32.3, "BLEU-4": 30.8, "METEOR": 41.8, "ROUGE-L": 32.3, "CIDEr-D": 43.9}
"""Tau-c x 100 in Hessel et al. 2021; BLEU-1 by the same script, as printed by others."""


@dataclass(frozen=True)
class Judgement:
    """One rating of a caption for an image."""

    caption: str
    references: list[str]
    rating: float


def read_captions(path: Path) -> dict[str, str]:
    """Read the captions by id, `NAME.jpg#K`.

    Raises:
        CaptionerError: The file has another format.
    """
    captions = {}
    for place, line in lines(path):
        key, tab, caption = line.partition("\t")
        if not tab or "#" not in key:
            raise CaptionerError(f"{place}: must be NAME.jpg#0<TAB>caption, not {shown(line)}")
        captions[key.strip()] = caption.strip()
    if not captions:
        raise CaptionerError(f"{path}: contains no captions")
    return captions


def read_judgements(path: Path, captions: dict[str, str], all_pairs: bool) -> list[Judgement]:
    """Read all ratings, in file order.

    Args:
        path: File of the expert ratings.
        captions: Captions by id.
        all_pairs: Whether to keep pairs whose caption is a reference of the image.

    Raises:
        CaptionerError: The file has another format, or names an unknown image or caption.
    """
    by_image: dict[str, list[str]] = {}
    for key, caption in captions.items():
        by_image.setdefault(image_name(key), []).append(caption)
    judgements = []
    for place, line in lines(path):
        parts = line.split("\t")
        try:
            image, key, *ratings = (part.strip() for part in parts)
            values = [float(rating) for rating in ratings]
            if len(values) != 3 or not all(1 <= value <= 4 for value in values):
                raise ValueError
        except ValueError:
            raise CaptionerError(
                f"{place}: must be an image, a caption id and three ratings from 1 to 4, "
                f"separated by tabs, not {shown(line)}"
            ) from None
        if key not in captions:
            raise CaptionerError(f"{place}: the caption file has no caption {key!r}")
        references = by_image.get(image_name(image))
        if references is None:
            raise CaptionerError(f"{place}: the caption file has no captions of image {image!r}")
        caption = captions[key]
        if caption in references:
            if not all_pairs:
                continue
            references = [other for other in references if other != caption]
            if not references:
                continue
        judgements += [Judgement(caption, references, value) for value in values]
    if not judgements:
        raise CaptionerError(f"{path}: contains no rating of a caption that is not a reference")
    return judgements


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a file that are not blank, each with its location."""
    for number, line in enumerate(read_bytes(path).decode("utf-8", "replace").split("\n"), start=1):
        if line.strip():
            yield f"{path}, line {number}", line.rstrip("\r")


def image_name(key: str) -> str:
    """Return the part before the first dot; the caption file calls one image `….jpg.1`."""
    return key.split(".")[0]


def main() -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratings", type=Path, required=True, metavar="ExpertAnnotations.txt")
    parser.add_argument("--captions", type=Path, required=True, metavar="Flickr8k.token.txt")
    parser.add_argument("--all-pairs", action="store_true", help="keep every pair")
    parser.add_argument("--format", choices=FORMATS, default="table")
    options = parser.parse_args()
    try:
        captions = read_captions(options.captions)
        judgements = read_judgements(options.ratings, captions, options.all_pairs)
        numbered = dict(enumerate(judgements))
        scores = score(
            {at: one.caption for at, one in numbered.items()},
            {at: one.references for at, one in numbered.items()},
            metrics=METRICS,
        )
        ratings = [judgement.rating for judgement in judgements]
        found = {
            name: kendall_tau_c(values.tolist(), ratings)
            for name, values in scores.per_image.items()
        }
    except CaptionerError as error:
        print(f"human_correlation: error: {error}", file=sys.stderr)
        return error.exit_code
    published = {} if options.all_pairs else PUBLISHED
    rows = [
        (name, f"{100 * tau:.1f}", f"{published[name]:.1f}" if name in published else "")
        for name, tau in found.items()
    ]
    notes = [f"note: {warning}" for warning in scores.warnings]
    notes.append(
        f"tau-c x 100 of {len(judgements):,} ratings; published: Hessel et al. 2021, of 16,992"
    )
    content = {
        "tau_c": found,
        "judgements": len(judgements),
        "recipe": scores.recipe,
        "warnings": list(scores.warnings),
    }
    table = Table(("score", "tau-c", "published"), tuple(rows))
    print(render(options.format, [table], [*notes, signature(scores.recipe)], content))
    return 0


if __name__ == "__main__":
    sys.exit(main())

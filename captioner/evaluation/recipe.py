"""What produced a number: the recipe that goes beside every score.

A BLEU without its tokenizer, its number of references and its split cannot be compared with
another one (Post 2018, "A call for clarity in reporting BLEU scores").
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

Recipe = dict[str, str | int | float]

TOKENIZER = "PTB 3.4.1, no punctuation"

# The short names of the signature; the rest keep theirs.
_SHORT = {
    "n_images": "images",
    "n_references": "refs",
    "package_version": "version",
    "document_frequencies": "df",
}


def recipe_of(
    n_images: int,
    n_references: tuple[int, int],
    metrics: Mapping[str, str],
    **more: str | int | float,
) -> Recipe:
    """The recipe of scores made by this package.

    Args:
        n_images: Images scored.
        n_references: Fewest and most references of an image.
        metrics: What exactly each score is, by its name.
        more: What only the caller knows: split, checkpoint, beam_size …
    """
    fewest, most = n_references
    return {
        **more,
        "n_images": n_images,
        "n_references": fewest if fewest == most else f"{fewest}-{most}",
        "tokenizer": TOKENIZER,
        "case": "lower",
        **metrics,
        "package_version": package_version(),
    }


def package_version() -> str:
    """The version of this package, or "unknown" where it runs without being installed."""
    try:
        return version("captioner")
    except PackageNotFoundError:
        return "unknown"


def signature(recipe: Mapping[str, str | int | float]) -> str:
    """The recipe in one line, for a table or a caption under it.

    Example:
        >>> signature({"split": "test", "n_images": 1000, "n_references": 5, "case": "lower"})
        'split:test|images:1000|refs:5|case:lower'
    """
    return "|".join(
        f"{_SHORT.get(name, name)}:{value}".replace(", ", "+").replace(" ", "-").replace("|", "/")
        for name, value in recipe.items()
    )

"""The recipe of a score: everything that determines its value.

A BLEU score is comparable only if its tokenizer, number of references and split are known (Post
2018, "A call for clarity in reporting BLEU scores").
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

Recipe = dict[str, str | int | float]

TOKENIZER = "PTB 3.4.1, no punctuation"


def tokenizer_recipe(name: str) -> str:
    """Describe a tokenizer of `captioner.text.word_tokenizers` for the recipe.

    Example:
        >>> tokenizer_recipe("ptb")
        'PTB 3.4.1, no punctuation'
    """
    if name == "ptb":
        return TOKENIZER
    try:
        return f"{name}, nltk {version('nltk')}, no punctuation"
    except PackageNotFoundError:
        return f"{name}, no punctuation"


# Abbreviations used in the signature.
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
    tokenizer: str = "ptb",
    **more: str | int | float,
) -> Recipe:
    """Return the recipe of scores computed by this package.

    Args:
        n_images: Number of images scored.
        n_references: Minimum and maximum number of references per image.
        metrics: Exact variant of each metric, by name.
        tokenizer: Name of the tokenizer.
        more: Further entries known to the caller: split, checkpoint, beam_size …
    """
    fewest, most = n_references
    return {
        **more,
        "n_images": n_images,
        "n_references": fewest if fewest == most else f"{fewest}-{most}",
        "tokenizer": tokenizer_recipe(tokenizer),
        "case": "lower",
        **metrics,
        "package_version": package_version(),
    }


def package_version() -> str:
    """Return the version of this package, or "unknown" if it is not installed."""
    try:
        return version("captioner")
    except PackageNotFoundError:
        return "unknown"


def signature(recipe: Mapping[str, str | int | float]) -> str:
    """Format the recipe as one line, for tables and figure captions.

    Example:
        >>> signature({"split": "test", "n_images": 1000, "n_references": 5, "case": "lower"})
        'split:test|images:1000|refs:5|case:lower'
    """
    return "|".join(
        f"{_SHORT.get(name, name)}:{value}".replace(", ", "+").replace(" ", "-").replace("|", "/")
        for name, value in recipe.items()
    )

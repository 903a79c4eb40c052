"""What produced a number: the recipe that goes beside every score.

A BLEU without its tokenizer, its number of references and its split cannot be compared with
another one (Post 2018, "A call for clarity in reporting BLEU scores").
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

Recipe = dict[str, str | int | float]

TOKENIZER = "PTB 3.4.1, no punctuation"


def tokenizer_recipe(name: str) -> str:
    """A tokenizer of `captioner.text.word_tokenizers`, for the recipe.

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
    tokenizer: str = "ptb",
    **more: str | int | float,
) -> Recipe:
    """The recipe of scores made by this package.

    Args:
        n_images: Images scored.
        n_references: Fewest and most references of an image.
        metrics: What exactly each score is, by its name.
        tokenizer: What made the words.
        more: What only the caller knows: split, checkpoint, beam_size …
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

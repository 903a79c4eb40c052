"""A small set of METEOR's files written by hand, and the real ones if installed."""

import gzip
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from captioner.metrics.meteor.data import MeteorData, find_folder, load_data

FUNCTION_WORDS = ("a", "the", "of", "on")
PARAPHRASES = (
    ("a lot of", "many"),
    ("a lot of", "plenty of"),
    ("on top of", "above"),
    ("next to", "beside"),
)
WORDNET = {"dog": "11 12", "hound": "12", "woman": "21", "lady": "21 22", "glass": "31"}
IRREGULAR = {"foot": "feet", "go": "went gone"}

needs_data = pytest.mark.skipif(find_folder() is None, reason="no pycocoevalcap")


def write_data(
    folder: Path,
    paraphrases: Iterable[tuple[str, str]] = PARAPHRASES,
    function_words=FUNCTION_WORDS,
) -> Path:
    """Write files in the layout of METEOR's release to a folder."""
    (folder / "data").mkdir(parents=True)
    with zipfile.ZipFile(folder / "meteor-1.5.jar", "w") as jar:
        jar.writestr("function/english.words", "".join(f"{word}\n" for word in function_words))
        jar.writestr(
            "nonbreaking/english.prefixes", "#titles\n\nmr\nno #NUMERIC_ONLY#\n# others\nvs\n"
        )
        for name, content in (("synsets", WORDNET), ("exceptions", IRREGULAR)):
            lines = "".join(f"{first}\n{second}\n" for first, second in content.items())
            jar.writestr(f"synonym/english.{name}", lines)
    rows = "".join(f"0.1\n{phrase}\n{other}\n" for phrase, other in paraphrases)
    with gzip.open(folder / "data" / "paraphrase-en.gz", "wt", encoding="utf-8") as file:
        file.write(rows)
    return folder


def small_data(folder: Path) -> MeteorData:
    """Load the small set of files."""
    return load_data(write_data(folder))

"""METEOR's word lists and tables for English, read from the Python package pycocoevalcap.

The package contains METEOR 1.5 as published: a Java archive with function words, abbreviations,
WordNet's synonym sets and irregular forms, and a paraphrase table beside it. Neither the package
nor the archive is imported or executed; the archive is read as a zip file.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.machinery import PathFinder
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.metrics.meteor.paraphrases import ParaphraseTable, load_table

PACKAGE = "pycocoevalcap"
HOW_TO_GET_IT = "pip install 'captioner[meteor]'"

ARCHIVE = "meteor-1.5.jar"
_PARAPHRASES = Path("data", "paraphrase-en.gz")

# Inflectional endings and their replacement in the base form, from WordNet's morphology. Nouns,
# verbs and adjectives are tried in this order until the base form is a WordNet word.
_ENDINGS = (
    *(("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh")),
    *(("men", "man"), ("ies", "y"), ("s", ""), ("ies", "y"), ("es", "e"), ("es", "")),
    *(("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    *(("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
)


@dataclass(frozen=True)
class MeteorData:
    """METEOR's word lists and tables for English.

    Attributes:
        function_words: Words with a lower weight than content words.
        abbreviations: Words that keep a final period. True: only before a number.
        synonym_sets: Ids of the synonym sets of each word, separated by spaces.
        irregular_forms: Base forms of irregular plurals, past tenses and other forms.
        paraphrase_file: The gzipped paraphrase table.
    """

    function_words: frozenset[str]
    abbreviations: dict[str, bool]
    synonym_sets: dict[str, str]
    irregular_forms: dict[str, list[str]]
    paraphrase_file: Path
    _sets: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)

    @cached_property
    def paraphrases(self) -> ParaphraseTable:
        """The paraphrase table, read on first use.

        Raises:
            CaptionerError: It cannot be read.
        """
        try:
            return load_table(self.paraphrase_file)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise _unreadable(self.paraphrase_file, error) from error

    def sets_of(self, word: str) -> frozenset[str]:
        """Return the synonym sets of a word and of its base forms."""
        if word not in self._sets:
            forms = {word, *self._base_forms(word)}
            sets = (self.synonym_sets.get(form, "").split() for form in forms)
            self._sets[word] = frozenset(number for group in sets for number in group)
        return self._sets[word]

    def _base_forms(self, word: str) -> list[str]:
        if word in self.irregular_forms:
            return self.irregular_forms[word]
        if len(word) <= 2 or word.endswith("ss"):
            return []
        for ending, instead in _ENDINGS:
            base = word.removesuffix(ending) + instead
            if word.endswith(ending) and base in self.synonym_sets:
                return [base]
        return []


def find_folder() -> Path | None:
    """Return the folder of METEOR's files in pycocoevalcap, or None if it is not installed."""
    found = PathFinder.find_spec(PACKAGE)
    for location in (found and found.submodule_search_locations) or ():
        folder = Path(location) / "meteor"
        if (folder / ARCHIVE).is_file() and (folder / _PARAPHRASES).is_file():
            return folder
    return None


@lru_cache(maxsize=1)
def load_data(folder: Path) -> MeteorData:
    """Read METEOR's files; the paraphrase table is read on first use.

    Raises:
        CaptionerError: They cannot be read.
    """
    archive = folder / ARCHIVE
    try:
        with zipfile.ZipFile(archive) as file:
            return MeteorData(
                function_words=frozenset(_lines(file, "function/english.words")),
                abbreviations=dict(_abbreviations(_lines(file, "nonbreaking/english.prefixes"))),
                synonym_sets=dict(_pairs(_lines(file, "synonym/english.synsets"))),
                irregular_forms=_by_form(_pairs(_lines(file, "synonym/english.exceptions"))),
                paraphrase_file=folder / _PARAPHRASES,
            )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(archive, error) from error


def _unreadable(path: Path, error: Exception) -> CaptionerError:
    return CaptionerError(f"{path}: METEOR's data cannot be read ({error}); reinstall {PACKAGE}")


def _lines(file: zipfile.ZipFile, name: str) -> list[str]:
    return file.read(name).decode("utf-8").splitlines()


def _pairs(lines: list[str]) -> Iterator[tuple[str, str]]:
    return zip(lines[::2], lines[1::2], strict=True)


def _by_form(forms_of: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    bases: dict[str, list[str]] = {}
    for base, forms in forms_of:
        for form in forms.split():
            bases.setdefault(form, []).append(base)
    return bases


def _abbreviations(lines: list[str]) -> Iterator[tuple[str, bool]]:
    for line in lines:
        words = line.split()
        if words and not words[0].startswith("#"):
            yield words[0], words[1:2] == ["#NUMERIC_ONLY#"]

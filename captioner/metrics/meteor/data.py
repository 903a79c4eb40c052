"""What METEOR knows of English, read from the files of the Python package pycocoevalcap.

The package ships METEOR 1.5 as its authors published it: a Java archive, which holds the lists of
function words, abbreviations, WordNet's synonym sets and its irregular forms, and beside it the
paraphrase table. Nothing of it is imported or run; the archive is read as the zip file that it is.
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

# Endings of inflected forms and what the base form has instead (from WordNet's morphology): nouns,
# verbs, adjectives, tried in this order until the base is a word of WordNet.
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
        function_words: Words that weigh less than content words.
        abbreviations: Words that keep a period at their end; True: only before a number.
        synonym_sets: Numbers of the sets of each word, in one text.
        irregular_forms: Base forms of irregular plurals, past tenses and so on.
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
        """The paraphrase table, read when first asked for.

        Raises:
            CaptionerError: If it cannot be read.
        """
        try:
            return load_table(self.paraphrase_file)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise _unreadable(self.paraphrase_file, error) from error

    def sets_of(self, word: str) -> frozenset[str]:
        """The synonym sets of a word and of its base forms."""
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
    """The folder with METEOR's files in the installed pycocoevalcap; None where it is not."""
    found = PathFinder.find_spec(PACKAGE)
    for location in (found and found.submodule_search_locations) or ():
        folder = Path(location) / "meteor"
        if (folder / ARCHIVE).is_file() and (folder / _PARAPHRASES).is_file():
            return folder
    return None


@lru_cache(maxsize=1)
def load_data(folder: Path) -> MeteorData:
    """Reads METEOR's files; the paraphrase table later, when it is needed.

    Raises:
        CaptionerError: If they cannot be read.
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
    return CaptionerError(f"{path}: METEOR's data cannot be read ({error}); install {PACKAGE} anew")


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

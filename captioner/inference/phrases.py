"""Required and banned phrases as a user writes them.

The search takes word ids and constraints; this module makes them from phrases, which it checks
against one another and against the vocabulary of the captioner.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from captioner.decoding.options import check_at_least
from captioner.errors import UsageError, suggestion
from captioner.text.tokenizer import tokenize
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary

if TYPE_CHECKING:
    from captioner.decoding.constraints import Constraint
    from captioner.decoding.required_phrases import RequiredPhrases


@dataclass(frozen=True)
class Forbidden:
    """What captions must not contain, as word ids.

    Attributes:
        words: Words that occur nowhere.
        phrases: Sequences of two words or more that occur nowhere.
        endings: Words and phrases with which no caption ends.
        repeated_ngram: Length of the n-grams that do not occur twice; 0 allows all.
    """

    words: Sequence[int] = ()
    phrases: Sequence[Sequence[int]] = ()
    endings: Sequence[Sequence[int]] = ()
    repeated_ngram: int = 0


@dataclass(frozen=True)
class Wording:
    """Phrases are read as captions are: lower case, without punctuation, "man's" as two words.

    Attributes:
        require: Words and phrases that every caption holds, in any order.
        ban: Words and phrases that none holds.
        ban_ending: Words and phrases with which none ends ("a", "of", "with a").
        no_repeat_ngram: No n words in the same order twice; 0 allows it.

    Raises:
        UsageError: A phrase has no words, or two wishes contradict one another.

    Example:
        >>> vocabulary = Vocabulary.build(["A dog runs.", "A red dog sleeps."], min_count=1)
        >>> [type(one).__name__ for one in Wording(ban=["red dog"]).constraints(vocabulary)]
        ['BannedPhrases']
        >>> Wording(require=["red dog"]).required(vocabulary).phrases == (
        ...     tuple(vocabulary.encode("red dog")),
        ... )
        True
        >>> Wording(ban=["dgo"]).constraints(vocabulary)
        Traceback (most recent call last):
        captioner.errors.UsageError: ban: the captioner does not know 'dgo'; did you mean dog?
    """

    require: Sequence[str] = ()
    ban: Sequence[str] = ()
    ban_ending: Sequence[str] = ()
    no_repeat_ngram: int = 0

    def __post_init__(self) -> None:
        check_at_least("no_repeat_ngram", self.no_repeat_ngram, 0)
        for name in ("require", "ban", "ban_ending"):
            phrases = getattr(self, name)
            if isinstance(phrases, str):
                raise UsageError(f"{name}: {phrases!r} is one text; give a list of phrases")
            for phrase in phrases:
                if not tokenize(phrase):
                    raise UsageError(f"{name}: {phrase!r} has no words")
        for phrase in self.require:
            self._check_required(phrase)

    def _check_required(self, phrase: str) -> None:
        words = tokenize(phrase)
        for banned in self.ban:
            forbidden = tokenize(banned)
            if forbidden in ngrams(words, len(forbidden)):
                raise UsageError(f"require: {phrase!r} holds {banned!r}, which ban forbids")
        n = self.no_repeat_ngram
        if n and has_repeat(ngrams(words, n)):
            raise UsageError(
                f"require: {phrase!r} repeats {n} word{'s' * (n > 1)}, which no_repeat_ngram {n} "
                f"forbids"
            )

    def check_no_repeat_word(self) -> None:
        """Refuse required phrases that a search with `no_repeat_word` cannot write.

        Raises:
            UsageError: A required phrase says a word twice in a row.
        """
        for phrase in self.require:
            if any(one == other for one, other in pairwise(tokenize(phrase))):
                raise UsageError(
                    f"require: {phrase!r} says a word twice, which no_repeat_word forbids; "
                    "--repeat-word (in Python no_repeat_word=False) allows it"
                )

    def forbidden(self, vocabulary: Vocabulary) -> "Forbidden":
        """Return what captions must not contain, as word ids.

        Raises:
            UsageError: The vocabulary lacks a word.
        """
        banned = encoded("ban", self.ban, vocabulary)
        return Forbidden(
            words=[phrase[0] for phrase in banned if len(phrase) == 1],
            phrases=[phrase for phrase in banned if len(phrase) > 1],
            endings=encoded("ban_ending", self.ban_ending, vocabulary),
            repeated_ngram=self.no_repeat_ngram,
        )

    def constraints(self, vocabulary: Vocabulary) -> list["Constraint"]:
        """Return the constraints that forbid words, for search and sampling.

        Raises:
            UsageError: The vocabulary lacks a word.
        """
        from captioner.decoding import constraints  # here, because it imports torch

        forbidden = self.forbidden(vocabulary)
        found: list[Constraint] = []
        if forbidden.words:
            found.append(constraints.BannedWords(forbidden.words))
        if forbidden.phrases:
            found.append(constraints.BannedPhrases(forbidden.phrases))
        if forbidden.endings:
            found.append(constraints.BannedEndings(forbidden.endings))
        if forbidden.repeated_ngram:
            found.append(constraints.NoRepeatedNgram(forbidden.repeated_ngram))
        return found

    def required(self, vocabulary: Vocabulary) -> "RequiredPhrases | None":
        """Return the phrases that every caption of a beam search must contain, if any.

        Raises:
            UsageError: The vocabulary lacks a word.
        """
        if not self.require:
            return None
        from captioner.decoding.required_phrases import RequiredPhrases

        return RequiredPhrases(encoded("require", self.require, vocabulary))


def encoded(name: str, phrases: Iterable[str], vocabulary: Vocabulary) -> list[list[int]]:
    """Return the phrases as word ids; a word that the vocabulary lacks raises UsageError."""
    for word in (word for phrase in phrases for word in vocabulary.tokenize(phrase)):
        if word not in vocabulary:
            nearest = suggestion(word, vocabulary.words[len(SPECIAL_WORDS) :])
            raise UsageError(f"{name}: the captioner does not know {word!r}; {nearest}")
    return [vocabulary.encode(phrase) for phrase in phrases]


def ngrams(words: Sequence[str], n: int) -> list[list[str]]:
    """Return all n-grams, from left to right."""
    return [list(words[at : at + n]) for at in range(len(words) - n + 1)]


def has_repeat(items: Sequence[list[str]]) -> bool:
    """Whether two items are equal."""
    return len({tuple(item) for item in items}) < len(items)

"""The vocabulary of a decoder: conversion between captions and word ids.

It is built from training captions only. A word that occurs only in a held-out split is unknown, as
it would be for new photos.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from captioner.errors import CaptionerError, UsageError
from captioner.files.atomic import write_whole
from captioner.files.regular import read_regular
from captioner.text.word_tokenizers import join_words, word_tokenizer

PAD, START, END, UNKNOWN = 0, 1, 2, 3
"""Ids of the special words: padding, start of caption, end of caption, unknown word."""

MAX_BYTES = 2**26
"""Maximum size of a vocabulary file, in bytes."""

SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")


class Vocabulary:
    """Words by id: first the special words, then the others by decreasing frequency.

    Args:
        words: All words in the order of their ids, including the special words.
        tokenizer: Name of the tokenizer, one of `captioner.text.word_tokenizers.NAMES`.

    Raises:
        UsageError: The tokenizer is unknown.
        CaptionerError: The special words are not first, or a word occurs twice.

    Example:
        >>> vocabulary = Vocabulary.build(["A dog runs.", "A dog sleeps."], min_count=1)
        >>> vocabulary.encode("A dog flies!")
        [4, 5, 3]
        >>> vocabulary.decode([4, 5, 6])
        'a dog runs'
    """

    def __init__(self, words: Sequence[str], tokenizer: str = "ptb") -> None:
        self.words = tuple(words)
        self.tokenizer = tokenizer
        self.tokenize = word_tokenizer(tokenizer)
        if self.words[: len(SPECIAL_WORDS)] != SPECIAL_WORDS:
            raise CaptionerError(f"vocabulary: must begin with {' '.join(SPECIAL_WORDS)}")
        ids = {word: i for i, word in enumerate(self.words)}
        if len(ids) < len(self.words):
            twice = next(word for i, word in enumerate(self.words) if ids[word] != i)
            raise CaptionerError(f"vocabulary: the word {twice!r} occurs twice")

        # Exclude special words: a caption that spells one out must not get its id.
        self._ids = {word: ids[word] for word in self.words[len(SPECIAL_WORDS) :]}

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    @classmethod
    def build(
        cls,
        captions: Iterable[str],
        *,
        min_count: int = 5,
        max_size: int | None = None,
        tokenizer: str = "ptb",
    ) -> "Vocabulary":
        """Build a vocabulary from training captions.

        Args:
            captions: Captions of the training split.
            min_count: Minimum number of occurrences of a word.
            max_size: Maximum number of words, including special words; the most frequent are kept.
            tokenizer: Name of the tokenizer.

        Raises:
            UsageError: The tokenizer is unknown.
        """
        special = cls(SPECIAL_WORDS, tokenizer)
        return special.extended(captions, min_count=min_count, max_size=max_size)

    def extended(
        self, captions: Iterable[str], *, min_count: int = 1, max_size: int | None = None
    ) -> "Vocabulary":
        """Return a vocabulary with the words of further captions; known words keep their ids.

        Args:
            captions: Captions of the training split.
            min_count: Minimum number of occurrences of a new word.
            max_size: Maximum number of words, including special words; the most frequent new words
                are kept.
        """
        counts = Counter(word for caption in captions for word in self.tokenize(caption))
        # Sort ties alphabetically, so that the order of the captions does not matter.
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        new = [w for w, n in ranked if n >= min_count and w not in self and w not in SPECIAL_WORDS]
        limit = None if max_size is None else max(0, max_size - len(self))
        return Vocabulary([*self.words, *new[:limit]], self.tokenizer)

    def encode(self, caption: str) -> list[int]:
        """Return the word ids of a caption, without start and end; `UNKNOWN` for unknown words."""
        return [self._ids.get(word, UNKNOWN) for word in self.tokenize(caption)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the caption of word ids up to the end word, with contractions rejoined."""
        words = []
        for i in ids:
            if i == END:
                break
            if i not in (PAD, START):
                words.append(self.words[i])
        return join_words(words, self.tokenizer)

    def save(self, path: Path) -> None:
        """Write one word per line; the line number, counted from 0, is the word's id."""
        write_whole(path, "".join(word + "\n" for word in self.words))

    @classmethod
    def load(cls, path: Path, tokenizer: str = "ptb") -> "Vocabulary":
        """Read a file written by `save`.

        Args:
            path: The file.
            tokenizer: Name of the tokenizer that produced its words.

        Raises:
            UsageError: There is no such file, or it is not a vocabulary.
        """
        try:
            text = read_regular(path, MAX_BYTES).decode()
        except (OSError, UnicodeDecodeError, CaptionerError) as error:
            raise UsageError(f"{path}: vocabulary cannot be read ({error})") from error
        try:
            return cls(text.removesuffix("\n").split("\n"), tokenizer)
        except CaptionerError as error:
            raise UsageError(f"{path}: not a vocabulary: {error}") from error

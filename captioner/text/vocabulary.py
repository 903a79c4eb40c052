"""The words a decoder knows, and the way between captions and word ids.

Built from the training captions alone: a word that occurs only in a held-out split is unknown, as
it will be for the pictures of a user.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from captioner.errors import CaptionerError, UsageError
from captioner.files.atomic import write_whole
from captioner.files.regular import read_regular
from captioner.text.word_tokenizers import join_words, word_tokenizer

PAD, START, END, UNKNOWN = 0, 1, 2, 3
"""Ids of the special words: filler after a caption's end, its start, its end, a word not known."""

MAX_BYTES = 2**26
"""Bytes of a vocabulary's file."""

SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")


class Vocabulary:
    """Words by id. The special words stand first, then the others from frequent to rare.

    Args:
        words: all words, special ones included, in the order of their ids.
        tokenizer: what makes words of a caption, one of `captioner.text.word_tokenizers.NAMES`.

    Raises:
        UsageError: there is no such tokenizer.
        CaptionerError: the special words are not where they belong, or a word stands twice.

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
            raise CaptionerError(f"a vocabulary begins with {' '.join(SPECIAL_WORDS)}")
        ids = {word: i for i, word in enumerate(self.words)}
        if len(ids) < len(self.words):
            twice = next(word for i, word in enumerate(self.words) if ids[word] != i)
            raise CaptionerError(f"the word {twice!r} stands twice in the vocabulary")

        # A caption that spells out a special word does not get its meaning.
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
        """Count the words of training captions.

        Args:
            captions: captions of the training split.
            min_count: times a word must occur to be known.
            max_size: words at most, special ones included; the most frequent are kept.
            tokenizer: what makes words of a caption.
        """
        tokenize = word_tokenizer(tokenizer)
        counts = Counter(word for caption in captions for word in tokenize(caption))
        # Equally frequent words stand in alphabetical order, whatever the order of the captions.
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        known = [w for w, n in ranked if n >= min_count and w not in SPECIAL_WORDS]
        limit = None if max_size is None else max_size - len(SPECIAL_WORDS)
        return cls([*SPECIAL_WORDS, *known[:limit]], tokenizer)

    def encode(self, caption: str) -> list[int]:
        """Ids of a caption's words, without start and end; unknown words as `UNKNOWN`."""
        return [self._ids.get(word, UNKNOWN) for word in self.tokenize(caption)]

    def decode(self, ids: Iterable[int]) -> str:
        """Caption of word ids, up to the end word; contractions are joined again."""
        words = []
        for i in ids:
            if i == END:
                break
            if i not in (PAD, START):
                words.append(self.words[i])
        return join_words(words, self.tokenizer)

    def save(self, path: Path) -> None:
        """Write one word a line; the line's number, from 0, is the word's id."""
        write_whole(path, "".join(word + "\n" for word in self.words))

    @classmethod
    def load(cls, path: Path, tokenizer: str = "ptb") -> "Vocabulary":
        """Read what `save` wrote.

        Args:
            path: the file.
            tokenizer: what made its words.

        Raises:
            UsageError: no such file, or not a vocabulary.
        """
        try:
            text = read_regular(path, MAX_BYTES).decode()
        except (OSError, UnicodeDecodeError, CaptionerError) as error:
            raise UsageError(f"{path}: no vocabulary could be read ({error})") from error
        try:
            return cls(text.removesuffix("\n").split("\n"), tokenizer)
        except CaptionerError as error:
            raise UsageError(f"{path}: not a vocabulary: {error}") from error

"""Word tokenizers by name, for vocabularies and evaluation.

`ptb` is the tokenizer of the COCO evaluation, for English. The others are from nltk, for other
languages, and need no download. All return lower-case words without punctuation.

- `toktok`: European languages and Arabic; keeps abbreviations (`z.b.`) and numbers whole;
- `tweet`: informal text; keeps contractions, emoji and hashtags whole;
- `wordpunct`: runs of letters and digits, for any language with spaces between words;
- `cjk`: one word per Chinese or Japanese character; otherwise (and for Korean) like `wordpunct`.

nltk is imported on first use of one of its tokenizers.
"""

import unicodedata
from collections.abc import Callable, Sequence
from functools import cache

from captioner.display import blank_out
from captioner.errors import UsageError, shown, suggestion
from captioner.text.tokenizer import tokenize, tokenize_all

WordTokenizer = Callable[[str], list[str]]

NAMES = ("ptb", "toktok", "tweet", "wordpunct", "cjk")


@cache
def word_tokenizer(name: str) -> WordTokenizer:
    """Return a tokenizer by name.

    Args:
        name: One of `NAMES`.

    Raises:
        UsageError: The name is unknown.

    Example:
        >>> word_tokenizer("toktok")("Ein Mann geht, z.B. über die Straße!")
        ['ein', 'mann', 'geht', 'z.b.', 'über', 'die', 'straße']
        >>> word_tokenizer("cjk")("一只狗 2 dogs")
        ['一', '只', '狗', '2', 'dogs']
    """
    if name == "ptb":
        return tokenize
    if name not in NAMES:
        raise UsageError(f"vocabulary.tokenizer: unknown {shown(name)}; {suggestion(name, NAMES)}")
    from nltk.tokenize import ToktokTokenizer, TweetTokenizer, WordPunctTokenizer
    from nltk.tokenize.util import is_cjk

    parts = WordPunctTokenizer().tokenize
    if name == "toktok":
        parts = ToktokTokenizer().tokenize
    elif name == "tweet":
        parts = TweetTokenizer().tokenize

    def words(caption: str) -> list[str]:
        # Normalise, so that a composed and a decomposed "é" are the same word.
        text = unicodedata.normalize("NFC", blank_out(caption)).lower()
        if name == "cjk":
            text = "".join(
                f" {letter} " if is_cjk(letter) and not _has_blanks(letter) else letter
                for letter in text
            )
        return [part for part in parts(text) if not _is_punctuation(part)]

    return words


def tokenize_by(name: str, captions: Sequence[str]) -> list[list[str]]:
    """Return the words of many captions by a named tokenizer; `ptb` takes them all at once.

    Raises:
        UsageError: The name is unknown.
    """
    if name == "ptb":
        return tokenize_all(captions)
    return list(map(word_tokenizer(name), captions))


def join_words(words: list[str], name: str) -> str:
    """Join words to a caption: the inverse of `word_tokenizer`, except for case and punctuation.

    Example:
        >>> join_words(["a", "man", "'s", "dog"], "ptb")
        "a man's dog"
        >>> join_words(["一", "只", "狗", "dog", "2"], "cjk")
        '一只狗 dog 2'
    """
    text = ""
    for word in words:
        text += word if not text or _is_joined(text[-1], word, name) else " " + word
    return text


def _is_joined(before: str, word: str, name: str) -> bool:
    """Return whether a word follows the previous letter without a space."""
    if name == "cjk":
        return not _has_blanks(before) and not _has_blanks(word[:1])
    # The PTB tokenizer splits "man's" and "don't" into man 's and do n't.
    return name == "ptb" and (word.startswith("'") or word == "n't")


def _has_blanks(letter: str) -> bool:
    """Return whether a letter belongs to a script with spaces between words."""
    hangul = "\uac00" <= letter <= "\ud7a3"
    return hangul or unicodedata.east_asian_width(letter or "a") not in ("W", "F")


def _is_punctuation(token: str) -> bool:
    return all(unicodedata.category(letter)[0] == "P" for letter in token)

"""Word tokenizers by name: what makes the words of a vocabulary out of captions.

``ptb`` is the tokenizer of the COCO evaluation, for English. The others come from nltk, for other
languages; they need no download. All give lower-case words without punctuation.

- ``toktok``: European languages and Arabic; abbreviations (``z.b.``) and numbers stay whole;
- ``tweet``: informal text; contractions, emoji and hashtags stay whole;
- ``wordpunct``: runs of letters and digits, in any language with blanks;
- ``cjk``: every Chinese or Japanese character is a word; all else (Korean too) as ``wordpunct``.

nltk is imported when one of its tokenizers is first used.
"""

import unicodedata
from collections.abc import Callable
from functools import cache

from captioner.display import blank_out
from captioner.errors import UsageError, shown, suggestion
from captioner.text.tokenizer import tokenize

WordTokenizer = Callable[[str], list[str]]

NAMES = ("ptb", "toktok", "tweet", "wordpunct", "cjk")


@cache
def word_tokenizer(name: str) -> WordTokenizer:
    """The tokenizer of a name.

    Args:
        name: One of `NAMES`.

    Raises:
        UsageError: There is none of this name.

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
        # One form for each letter: a vocabulary has no use for two spellings of "é".
        text = unicodedata.normalize("NFC", blank_out(caption)).lower()
        if name == "cjk":
            text = "".join(
                f" {letter} " if is_cjk(letter) and not _has_blanks(letter) else letter
                for letter in text
            )
        return [part for part in parts(text) if not _is_punctuation(part)]

    return words


def join_words(words: list[str], name: str) -> str:
    """A caption of its words, the inverse of `word_tokenizer` as far as there is one.

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
    """Whether no blank stands between what is written so far and a word."""
    if name == "cjk":
        return not _has_blanks(before) and not _has_blanks(word[:1])
    # The PTB tokenizer took "man's" and "don't" apart as man 's and do n't.
    return name == "ptb" and (word.startswith("'") or word == "n't")


def _has_blanks(letter: str) -> bool:
    """Whether a letter is of a script that puts blanks between words."""
    hangul = "\uac00" <= letter <= "\ud7a3"
    return hangul or unicodedata.east_asian_width(letter or "a") not in ("W", "F")


def _is_punctuation(token: str) -> bool:
    return all(unicodedata.category(letter)[0] == "P" for letter in token)

r"""METEOR's tokenizer for English, as applied by its option `-norm`.

The official COCO evaluation passes captions to METEOR that are already tokenised and lower-cased.
METEOR tokenises them again, by rules derived from the Moses tokenizer (Koehn et al. 2007). The
result differs where punctuation remains: `black-and-white` becomes three words, `u.s.` becomes
`us` and `n't` becomes `n 't`. A final period is split off unless the word is a known abbreviation
or the next word begins with a lower-case letter.

Character classes such as `\s` and `\p{Digit}` are ASCII only, as in Java.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_LETTERS = (
    "A-Za-z\u0160\u017d\u0161\u017e\u0178\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017e"
    "\u0400-\u04ff\u0500-\u0527\ua640-\ua66e\ua67e-\ua697\u1d00-\u1d7f"
)
_WORD = "0-9" + _LETTERS

# Most captions contain nothing that a rule changes.
_PLAIN = re.compile(r"[a-z0-9 ]*")

_SYMBOL = re.compile(rf"([^{_WORD} \t\n\v\f\r.'`,\-\u2018\u2019])")
_DOTS = re.compile(r"\.(\.+)")
_LAST_DOT = re.compile(r"DOTMULTI\.([^.])")
_SINGLE_QUOTE = re.compile("[`\u2018\u2019]")
_DOUBLE_QUOTE = re.compile("[\u201c\u201d]|''")
_HYPHEN = re.compile(rf"([{_WORD}.])-([{_WORD}])")
_LETTER = re.compile(f"[{_LETTERS}]")
_BLANKS = re.compile("[ \u2000-\u200a\u202f\u205f\u3000\u00a0]+")

# Each rule runs over the whole caption before the next, and its matches cannot overlap: "a,b,c" is
# split at both commas only because there are several rules.
_COMMAS = (
    re.compile("([^0-9]),([^0-9])"),
    re.compile("([0-9]),([^0-9])"),
    re.compile("([^0-9]),([0-9])"),
)
_APOSTROPHES = (
    (re.compile(f"([^{_LETTERS}])'([^{_LETTERS}])"), r"\1 ' \2"),
    (re.compile(f"([^{_LETTERS}0-9])'([{_LETTERS}])"), r"\1 ' \2"),
    (re.compile(f"([{_LETTERS}])'([^{_LETTERS}])"), r"\1 ' \2"),
    (re.compile(f"([{_LETTERS}])'([{_LETTERS}])"), r"\1 '\2"),
    (re.compile("([0-9])'(s)"), r"\1 '\2"),
)

_JAVA_BLANKS = "".join(map(chr, range(33)))  # characters removed by Java's String.trim
_SEPARATORS = re.compile("[ \t\n\r\f]+")  # delimiters of Java's StringTokenizer


def normalize(caption: str, abbreviations: Mapping[str, bool]) -> list[str]:
    """Tokenise a caption and lower-case it.

    Args:
        caption: Tokens joined by spaces.
        abbreviations: Words that keep a final period. True: only before a number.

    Example:
        >>> normalize("a man 's black-and-white u.s. flag", {})
        ['a', 'man', "'", 's', 'black', 'and', 'white', 'us', 'flag']
    """
    if _PLAIN.fullmatch(caption):
        return caption.split()
    text = f" {caption.strip(_JAVA_BLANKS)} "
    text = _SYMBOL.sub(r" \1 ", text)
    text = _hide_dots(text)
    for rule in _COMMAS:
        text = rule.sub(r"\1 , \2", text)
    text = _SINGLE_QUOTE.sub("'", text)
    text = _DOUBLE_QUOTE.sub(' " ', text)
    text = text.replace("\u2013", "-").replace("--", "-")
    text = _HYPHEN.sub(r"\1 \2", text)
    for rule, replacement in _APOSTROPHES:
        text = rule.sub(replacement, text)
    text = " ".join(_part_periods(_split(text), abbreviations))
    return _split(_BLANKS.sub(" ", _show_dots(text)).lower())


def _split(text: str) -> list[str]:
    return [word for word in _SEPARATORS.split(text) if word]


def _hide_dots(text: str) -> str:
    """Replace runs of dots by words in capitals, which no later rule changes."""
    text = _DOTS.sub(r" DOTMULTI\1", text)
    while "DOTMULTI." in text:
        text = _LAST_DOT.sub(r"DOTDOTMULTI \1", text)
        text = text.replace("DOTMULTI.", "DOTDOTMULTI")
    return text


def _show_dots(text: str) -> str:
    while "DOTDOTMULTI" in text:
        text = text.replace("DOTDOTMULTI", "DOTMULTI.")
    return text.replace("DOTMULTI", ".")


def _part_periods(words: list[str], abbreviations: Mapping[str, bool]) -> list[str]:
    out = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if len(word) < 2 or not word.endswith("."):
            out.append(word)
            continue
        stem = word[:-1]
        before_number = "0" <= following[:1] <= "9"
        if "." in stem and _LETTER.search(stem):
            out.append(word.replace(".", ""))
        elif (
            abbreviations.get(stem) is False
            or "a" <= following[:1] <= "z"
            or (stem in abbreviations and before_number)
        ):
            out.append(word)
        else:
            out += [stem, "."]
    return out

r"""METEOR's own tokens: what its option ``-norm`` makes of a caption for English.

The official COCO evaluation hands METEOR captions that were tokenised and lower-cased before, and
METEOR tokenises them once more, by rules that descend from the tokenizer of Moses (Koehn et al.
2007). Its tokens differ where punctuation is left: ``black-and-white`` becomes three words,
``u.s.`` becomes ``us``, ``n't`` becomes ``n 't``, and a period at the end of a word parts from it
unless the word is a known abbreviation or the next word begins with a small letter.

Classes such as ``\s`` and ``\p{Digit}`` mean ASCII here, as they do in Java.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_LETTERS = (
    "A-Za-z\u0160\u017d\u0161\u017e\u0178\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u017e"
    "\u0400-\u04ff\u0500-\u0527\ua640-\ua66e\ua67e-\ua697\u1d00-\u1d7f"
)
_WORD = "0-9" + _LETTERS

# Captions without anything that a rule could touch, which most are.
_PLAIN = re.compile(r"[a-z0-9 ]*")

_SYMBOL = re.compile(rf"([^{_WORD} \t\n\v\f\r.'`,\-\u2018\u2019])")
_DOTS = re.compile(r"\.(\.+)")
_LAST_DOT = re.compile(r"DOTMULTI\.([^.])")
_SINGLE_QUOTE = re.compile("[`\u2018\u2019]")
_DOUBLE_QUOTE = re.compile("[\u201c\u201d]|''")
_HYPHEN = re.compile(rf"([{_WORD}.])-([{_WORD}])")
_LETTER = re.compile(f"[{_LETTERS}]")
_BLANKS = re.compile("[ \u2000-\u200a\u202f\u205f\u3000\u00a0]+")

# Each rule runs over the whole caption before the next one begins, and what it matches cannot
# overlap: "a,b,c" is parted at both commas only because there is more than one rule.
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

_JAVA_BLANKS = "".join(map(chr, range(33)))  # what String.trim drops
_SEPARATORS = re.compile("[ \t\n\r\f]+")  # what StringTokenizer parts at


def normalize(caption: str, abbreviations: Mapping[str, bool]) -> list[str]:
    """The tokens of a caption, in lower case.

    Args:
        caption: Tokens joined by blanks.
        abbreviations: Words that keep a period at their end; True: only before a number.

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
    """Several dots in a row become words of capital letters, which no later rule touches."""
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

"""Penn Treebank tokens of captions, as the official COCO caption evaluation makes them.

That tool pipes all captions through the Java program PTBTokenizer of Stanford CoreNLP 3.4.1
(options ``-preserveLines -lowerCase``) and then drops a list of punctuation marks. Here the same
lexer is written as a table of rules, `treebank_rules`, read under the same convention: the longest
match wins, the first rule on a tie. What comes out, in short:

- contractions part before their clitic: ``doesn't`` -> ``does n't``, ``man's`` -> ``man 's``,
  ``cannot`` -> ``can not``, ``gonna`` -> ``gon na``;
- abbreviations and acronyms keep their period: ``mr.``, ``u.s.``; numbers, dates, times, ordinals,
  fractions, telephone numbers, addresses of pages and people stay whole, a blank inside becoming a
  no-break space (``1 1/2``);
- hyphened words stay whole; dashes, quotes and ellipses become ``--``, double grave accents and
  double apostrophes, and ``...``, and fall to the list of punctuation;
- brackets become ``-lrb-`` and so on, and stay: the tool drops only their upper-case names;
- characters that the lexer does not know (emoji, most symbols beyond the basic plane) vanish.

Where this departs from the tool, on purpose:

- a line separator inside a caption (carriage return, vertical tab, form feed, U+2028, U+2029) is a
  blank; the tool starts a new line there, and from then on gives every caption the tokens of its
  neighbour;
- the last caption is read like all others; the tool finds no end of line after it, and makes
  ``should ve`` of a closing ``should've``;
- a caption is read by itself; the tool reads on into the next one, which matters for one thing: a
  single letter with a period at the end (``plan B.``) loses its period if the next caption begins
  with one of some forty capitalised words (``A``, ``The``). Scores that shall equal the tool's to
  the last digit need that: `tokenize_all(..., in_sequence=True)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from captioner.errors import CaptionerError, shown
from captioner.text.lexer import Lexer
from captioner.text.treebank import DEFINITIONS, RULES

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""Tokens that the official tool drops. Runs such as ``!!`` and brackets are not among them."""

_LINE_BREAKS = str.maketrans(dict.fromkeys("\n\r\v\f\u2028\u2029", " "))

_BRACKETS = {
    "(": "-LRB-",
    ")": "-RRB-",
    "[": "-LSB-",
    "]": "-RSB-",
    "{": "-LCB-",
    "}": "-RCB-",
}
_FRACTIONS = {"\u00bc": "1/4", "\u00bd": "1/2", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3"}
_CURRENCIES = {"\u00a2": "cents", "\u00a3": "#"} | dict.fromkeys("\u0080\u00a4\u20a0\u20ac", "$")
_CURLY_QUOTES = str.maketrans(
    dict.fromkeys("\u0091\u2018\u201b\u2039", "`")
    | dict.fromkeys("\u0092\u2019\u203a", "'")
    | dict.fromkeys("\u0093\u201c\u00ab", "``")
    | dict.fromkeys("\u0094\u201d\u00bb", "''")
)


def _quotes(token: str, single: str) -> str:
    token = token.replace("&apos;", single).replace("'", single)
    token = token.replace("&quot;", 2 * single).replace('"', 2 * single)
    return token.translate(_CURLY_QUOTES)


def _keep_blanks(token: str) -> str:
    return token.replace(" ", "\u00a0")


def _parentheses(token: str) -> str:
    return _keep_blanks(token).replace("(", "-LRB-").replace(")", "-RRB-")


_ACTIONS: dict[str, Callable[[str], str]] = {
    "as is": str,
    "split 2": str,
    "split 3": str,
    "period again": str,
    "end of sentence": str,
    # The soft hyphen marks where a word may be broken at the end of a line.
    "word": lambda token: token.replace("\u00ad", "") or "-",
    "keep blanks": _keep_blanks,
    "parentheses": _parentheses,
    "dash": lambda _: "--",
    "hyphens": lambda token: "--" if 3 <= len(token) <= 4 else token,
    "dots": lambda _: "...",
    "ampersand": lambda token: re.sub("&amp;", "&", token, flags=re.IGNORECASE),
    "open quote": lambda token: _quotes(token, "`"),
    "close quote": lambda token: _quotes(token, "'"),
    "fraction": lambda token: _FRACTIONS.get(token, token),
    "currency": lambda token: _CURRENCIES.get(token, token),
    "bracket": lambda token: _BRACKETS[token],
    "less": lambda _: "<",
    "greater": lambda _: ">",
}


@cache
def _lexer() -> Lexer:
    return Lexer(RULES, DEFINITIONS)


def _lex(text: str, stop: int) -> list[str]:
    """The tokens of ``text`` that begin before ``stop``, lower-cased, punctuation among them."""
    match = _lexer().match
    tokens = []
    at = 0
    while at < stop:
        found = match(text, at)
        if found is None:  # a character that the lexer does not know: the tool deletes it
            at += 1
            continue
        name, end = found
        token = text[at:end]
        at = end
        if name == "skip":
            continue
        if name == "split 2" or name == "split 3":
            at -= int(name[-1])
            token = text[end - len(token) : at]
        elif name == "period again":  # once more, as the end of the sentence
            at -= 1
        elif name == "end of sentence":
            at -= 1
            if len(token) == 2:
                token = token[0]
        tokens.append(_ACTIONS[name](token).lower())
    if tokens:  # the tool strips its lines; the token of an address may end in an odd blank
        tokens[-1] = tokens[-1].rstrip()
    return tokens


# A word between blanks whose tokens depend on nothing outside of it: letters, apostrophes, hyphens
# and marks that no rule carries across a blank, and a period only after a word of two letters. (One
# letter may be an acronym, and the words of BEFORE_NUMBER wait for a digit.)
_SELF_CONTAINED = re.compile(
    r"""[A-Za-z"',;:!?-]*"""
    r"""|[A-Za-z",;:!?-]*[A-Za-z]{2}(?<!\bca)(?<!\bfig)(?<!\bfigs)(?<!\bprop)(?<!\bnos)(?<!\bno)"""
    r"""(?<!\bart)(?<!\bbldg)(?<!\bpp)(?<!\bop)(?<!\bpt[ey])\.|\.""",
    re.IGNORECASE,
)

# The only words of nothing but letters that are parted.
_ASSIMILATIONS = frozenset(["cannot", "gonna", "gotta", "lemme", "gimme", "wanna"])


class _KnownWords(dict[str, tuple[str, ...] | None]):
    """Tokens of the words met so far; None where the words around have a say.

    Most captions are made of a few thousand words. Looking these up, instead of lexing them again,
    makes the tokenizer some fifteen times faster.
    """

    LIMIT = 200_000  # words, some 30 MB: enough for every set of captions in the field

    def __missing__(self, word: str) -> tuple[str, ...] | None:
        if len(self) >= self.LIMIT:
            self.clear()
        tokens: tuple[str, ...] | None = None
        if word.isascii() and word.isalpha() and word.lower() not in _ASSIMILATIONS:
            tokens = (word.lower(),)
        elif _SELF_CONTAINED.fullmatch(word):
            tokens = _without_punctuation(_lex(word + "\n", len(word)))
        self[word] = tokens
        return tokens


_known_words = _KnownWords()


def _without_punctuation(tokens: list[str]) -> tuple[str, ...]:
    return tuple(token for token in tokens if token not in PUNCTUATION)


def tokenize(caption: str) -> list[str]:
    """The tokens of one caption.

    Args:
        caption: Any text; white space of any kind, line separators included, parts words.

    Returns:
        Lower-case tokens without punctuation. A token may hold a no-break space (``1 1/2``).

    Example:
        >>> tokenize("A man's dog isn't running (fast).")
        ['a', 'man', "'s", 'dog', 'is', "n't", 'running', '-lrb-', 'fast', '-rrb-']
    """
    return tokenize_all([caption])[0]


def tokenize_all(captions: Iterable[str], *, in_sequence: bool = False) -> list[list[str]]:
    """The tokens of many captions, at 3 to 5 microseconds each.

    Args:
        captions: Any texts.
        in_sequence: Whether the end of a caption is read in the light of the next one, as the
            official tool does (see the head of this module). Otherwise a caption's tokens are the
            same in any company, and those of `tokenize`.

    Raises:
        CaptionerError: The captions are one text.
    """
    if isinstance(captions, str):
        raise CaptionerError(f"captions are one text, {shown(captions)}: give a list of captions")
    captions = list(captions)
    known = _known_words
    out = []
    for index, caption in enumerate(captions):
        tokens: list[str] = []
        for word in caption.split(" "):
            word_tokens = known[word]
            if word_tokens is None:
                following = _next_line(captions, index + 1) if in_sequence else ""
                text = caption.translate(_LINE_BREAKS)
                tokens = [*_without_punctuation(_lex(f"{text}\n{following}", len(text)))]
                break
            tokens += word_tokens
        out.append(tokens)
    return out


def _next_line(captions: Sequence[str], begin: int) -> str:
    """How the text goes on: no rule looks further than over blanks and one word or tag."""
    for index in range(begin, len(captions)):
        if captions[index] and not captions[index].isspace():
            return captions[index].translate(_LINE_BREAKS)[:200] + "\n"
    return ""

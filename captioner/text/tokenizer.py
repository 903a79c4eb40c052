"""Penn Treebank tokenizer that reproduces the official COCO caption evaluation.

The official tool runs all captions through the Java program PTBTokenizer of Stanford CoreNLP 3.4.1
(options `-preserveLines -lowerCase`) and then drops a list of punctuation marks. `treebank` has the
same lexer as a table of rules with the same convention: the longest match wins, and of equal
matches the first rule. In short:

- Contractions are split before the clitic: `doesn't` -> `does n't`, `man's` -> `man 's`,
  `cannot` -> `can not`, `gonna` -> `gon na`.
- Abbreviations and acronyms keep their period: `mr.`, `u.s.`. Numbers, dates, times, ordinals,
  fractions, telephone numbers, URLs and e-mail addresses are one token. A space inside a token
  becomes a no-break space (`1 1/2`).
- Hyphenated words are one token. Dashes become `--`, ellipses `...`, and quotes double grave
  accents or double apostrophes. All of these are dropped as punctuation.
- Brackets become `-lrb-` and so on, and stay: the tool drops only their upper-case names.
- Characters unknown to the lexer (emoji, most symbols beyond the basic plane) are dropped.

This module deliberately differs from the tool in three cases:

- A line separator inside a caption (carriage return, vertical tab, form feed, U+2028, U+2029) is a
  space. The tool starts a new line there, so every later caption gets its neighbour's tokens.
- The last caption is tokenised like any other. The tool finds no end of line after it and turns a
  final `should've` into `should ve`.
- Each caption is tokenised on its own. The tool looks ahead into the next caption, with one effect:
  a final single letter with a period (`plan B.`) loses its period if the next caption begins with
  one of about forty capitalised words (`A`, `The`). For scores equal to the tool's to the last
  digit, use `tokenize_all(..., in_sequence=True)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from captioner.errors import CaptionerError, shown
from captioner.text.lexer import Lexer
from captioner.text.treebank import DEFINITIONS, RULES

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""Tokens that the official tool drops. It keeps runs such as `!!` and brackets."""

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
    # A soft hyphen marks a possible line break inside a word.
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
    """Return the lower-cased tokens of `text` that begin before `stop`, including punctuation."""
    match = _lexer().match
    tokens = []
    at = 0
    while at < stop:
        found = match(text, at)
        if found is None:  # unknown to the lexer: dropped, as in the tool
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
        elif name == "period again":  # read again, as the end of the sentence
            at -= 1
        elif name == "end of sentence":
            at -= 1
            if len(token) == 2:
                token = token[0]
        tokens.append(_ACTIONS[name](token).lower())
    if tokens:  # the tool strips lines; the token of a URL may end in white space
        tokens[-1] = tokens[-1].rstrip()
    return tokens


# A word between spaces whose tokens do not depend on its neighbours: letters, apostrophes, hyphens
# and marks that no rule continues across a space, and a period only after two letters. One letter
# may be an acronym, and the words of BEFORE_NUMBER depend on a following digit.
_SELF_CONTAINED = re.compile(
    r"""[A-Za-z"',;:!?-]*"""
    r"""|[A-Za-z",;:!?-]*[A-Za-z]{2}(?<!\bca)(?<!\bfig)(?<!\bfigs)(?<!\bprop)(?<!\bnos)(?<!\bno)"""
    r"""(?<!\bart)(?<!\bbldg)(?<!\bpp)(?<!\bop)(?<!\bpt[ey])\.|\.""",
    re.IGNORECASE,
)

# The only purely alphabetic words that are split.
_ASSIMILATIONS = frozenset(["cannot", "gonna", "gotta", "lemme", "gimme", "wanna"])


class _KnownWords(dict[str, tuple[str, ...] | None]):
    """Cache of the tokens of each word; None for words whose tokens depend on their neighbours.

    Most captions consist of a few thousand words, so the cache makes the tokenizer about fifteen
    times faster.
    """

    LIMIT = 200_000  # words, about 30 MB; no published caption data set has more

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
    """Tokenise one caption.

    Args:
        caption: Any text. All white space, including line separators, separates words.

    Returns:
        Lower-case tokens without punctuation. A token may contain a no-break space (`1 1/2`).

    Example:
        >>> tokenize("A man's dog isn't running (fast).")
        ['a', 'man', "'s", 'dog', 'is', "n't", 'running', '-lrb-', 'fast', '-rrb-']
    """
    return tokenize_all([caption])[0]


def tokenize_all(captions: Iterable[str], *, in_sequence: bool = False) -> list[list[str]]:
    """Tokenise many captions, at 3 to 5 microseconds each.

    Args:
        captions: Any texts.
        in_sequence: Whether to look ahead into the next caption, as the official tool does (see the
            module docstring). Otherwise, the result equals `tokenize` for each caption.

    Raises:
        CaptionerError: `captions` is a string.

    Example:
        >>> tokenize_all(["We follow plan B.", "The dog runs."])
        [['we', 'follow', 'plan', 'b.'], ['the', 'dog', 'runs']]
        >>> tokenize_all(["We follow plan B.", "The dog runs."], in_sequence=True)
        [['we', 'follow', 'plan', 'b'], ['the', 'dog', 'runs']]
    """
    if isinstance(captions, str):
        raise CaptionerError(f"captions: one string, {shown(captions)}; expected a list")
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
    """Return the following text; no rule looks ahead further than one word or tag."""
    for index in range(begin, len(captions)):
        if captions[index] and not captions[index].isspace():
            return captions[index].translate(_LINE_BREAKS)[:200] + "\n"
    return ""

"""The Snowball stemmer for English ("Porter2"), in the version used by METEOR 1.5.

Porter 1980, "An algorithm for suffix stripping"; Porter 2001, "Snowball: a language for stemming
algorithms". Later Snowball releases stem some words differently, so a current stemmer cannot
replace this one.

A word's region R1 begins after the first non-vowel that follows a vowel; R2 is the same within R1.
Each step finds the longest matching suffix in its list and replaces it if it lies in the required
region. If it lies outside, the step does nothing.
"""

from __future__ import annotations

from functools import cache

_VOWELS = frozenset("aeiouy")
_VALID_BEFORE_LI = frozenset("cdeghkmnrt")
_DOUBLES = frozenset(["bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt"])

_IRREGULAR = {
    "skis": "ski",
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "idly": "idl",
    "gently": "gentl",
    "ugly": "ugli",
    "early": "earli",
    "only": "onli",
    "singly": "singl",
} | {word: word for word in ("sky", "news", "howe", "atlas", "cosmos", "bias", "andes")}

# Words that keep their form once the plural is removed.
_KEPT = frozenset(
    ["inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed"]
)

_STEP_2 = {
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "abli": "able",
    "entli": "ent",
    "izer": "ize",
    "ization": "ize",
    "ational": "ate",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "aliti": "al",
    "alli": "al",
    "fulness": "ful",
    "ousli": "ous",
    "ousness": "ous",
    "iveness": "ive",
    "iviti": "ive",
    "biliti": "ble",
    "bli": "ble",
    "ogi": "og",
    "fulli": "ful",
    "lessli": "less",
    "li": "",
}
_STEP_3 = {
    "tional": "tion",
    "ational": "ate",
    "alize": "al",
    "icate": "ic",
    "iciti": "ic",
    "ical": "ic",
    "ful": "",
    "ness": "",
    "ative": "",
}
_STEP_4 = dict.fromkeys(
    [
        *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement"),
        *("ment", "ent", "ism", "ate", "iti", "ous", "ive", "ize", "ion"),
    ],
    "",
)


@cache
def stem(word: str) -> str:
    """Return the stem of a lower-case word.

    Example:
        >>> [stem(word) for word in ("running", "relational", "kites", "happily")]
        ['run', 'relat', 'kite', 'happili']
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 3:
        return word
    word = _mark_consonant_y(word.removeprefix("'"))
    r1, r2 = _regions(word)
    word = _step_1a(word)
    if word not in _KEPT:
        word = _step_1c(_step_1b(word, r1))
        word = _step_2(word, r1)
        word = _step_3(word, r1, r2)
        word = _step_4(word, r2)
        word = _step_5(word, r1, r2)
    return word.replace("Y", "y")


def _mark_consonant_y(word: str) -> str:
    """Write Y for a consonant y: one at the beginning or after a vowel."""
    letters = list(word)
    for at, letter in enumerate(letters):
        if letter == "y" and (at == 0 or letters[at - 1] in _VOWELS):
            letters[at] = "Y"
    return "".join(letters)


def _regions(word: str) -> tuple[int, int]:
    """Return the indices at which R1 and R2 begin."""
    for prefix in ("gener", "commun", "arsen"):
        if word.startswith(prefix):
            r1 = len(prefix)
            break
    else:
        r1 = _after_vowel_and_consonant(word, 0)
    return r1, _after_vowel_and_consonant(word, r1)


def _after_vowel_and_consonant(word: str, at: int) -> int:
    while at < len(word) and word[at] not in _VOWELS:
        at += 1
    while at < len(word) and word[at] in _VOWELS:
        at += 1
    return min(at + 1, len(word))


def _has_vowel(text: str) -> bool:
    return not _VOWELS.isdisjoint(text)


def _ends_in_short_syllable(word: str) -> bool:
    """Return whether a word ends in a short syllable ("hop", "rap") or is one ("at")."""
    if len(word) < 2 or word[-1] in _VOWELS or word[-2] not in _VOWELS:
        return False
    return len(word) == 2 or (word[-3] not in _VOWELS and word[-1] not in "wxY")


def _longest_suffix(word: str, suffixes: dict[str, str]) -> str | None:
    for length in range(min(len(word), 7), 0, -1):
        if word[-length:] in suffixes:
            return word[-length:]
    return None


def _step_1a(word: str) -> str:
    """Remove possessives and plurals."""
    for possessive in ("'s'", "'s", "'"):
        if word.endswith(possessive):
            word = word.removesuffix(possessive)
            break
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and _has_vowel(word[:-2]):
        return word[:-1]
    return word


def _step_1b(word: str, r1: int) -> str:
    """Remove past tenses and participles."""
    for suffix in ("eedly", "eed"):
        if word.endswith(suffix):
            at = len(word) - len(suffix)
            return word[:at] + "ee" if at >= r1 else word
    for suffix in ("ingly", "edly", "ing", "ed"):
        if word.endswith(suffix):
            shorter = word.removesuffix(suffix)
            if not _has_vowel(shorter):
                return word
            if shorter.endswith(("at", "bl", "iz")):
                return shorter + "e"
            if shorter[-2:] in _DOUBLES:
                return shorter[:-1]
            if len(shorter) == r1 and _ends_in_short_syllable(shorter):
                return shorter + "e"
            return shorter
    return word


def _step_1c(word: str) -> str:
    if len(word) > 2 and word[-1] in "yY" and word[-2] not in _VOWELS:
        return word[:-1] + "i"
    return word


def _step_2(word: str, r1: int) -> str:
    suffix = _longest_suffix(word, _STEP_2)
    if suffix is None:
        return word
    at = len(word) - len(suffix)
    before = word[at - 1 : at]
    if at < r1 or (suffix == "ogi" and before != "l"):
        return word
    if suffix == "li" and before not in _VALID_BEFORE_LI:
        return word
    return word[:at] + _STEP_2[suffix]


def _step_3(word: str, r1: int, r2: int) -> str:
    suffix = _longest_suffix(word, _STEP_3)
    if suffix is None:
        return word
    at = len(word) - len(suffix)
    if at < r1 or (suffix == "ative" and at < r2):
        return word
    return word[:at] + _STEP_3[suffix]


def _step_4(word: str, r2: int) -> str:
    suffix = _longest_suffix(word, _STEP_4)
    if suffix is None:
        return word
    at = len(word) - len(suffix)
    if at < r2 or (suffix == "ion" and word[at - 1 : at] not in ("s", "t")):
        return word
    return word[:at]


def _step_5(word: str, r1: int, r2: int) -> str:
    at = len(word) - 1
    if word.endswith("e") and (at >= r2 or (at >= r1 and not _ends_in_short_syllable(word[:-1]))):
        return word[:-1]
    if word.endswith("ll") and at >= r2:
        return word[:-1]
    return word

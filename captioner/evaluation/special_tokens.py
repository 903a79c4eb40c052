"""Marks that captioners leave in their captions: start, end, padding and unknown words.

They are words of a vocabulary, not of a caption. Those at its edges are stripped, and what follows
an end mark is no part of the caption. A mark of an unknown word stands for a word, so it stays, and
matches no reference.
"""

import re

_START = ("<start>", "<s>", "<bos>", "<sos>", "[cls]", "[bos]", "<|startoftext|>", "startseq")
_END = ("<end>", "</s>", "<eos>", "[sep]", "[eos]", "<|endoftext|>", "endseq")
_PAD = ("<pad>", "[pad]", "<mask>", "[mask]")
_UNKNOWN = ("<unk>", "[unk]")


def _pattern(marks: tuple[str, ...]) -> str:
    texts = [
        rf"(?<!\w){re.escape(mark)}(?!\w)" if mark.isalpha() else re.escape(mark) for mark in marks
    ]
    return f"(?:{'|'.join(texts)})"


_ANY = re.compile(_pattern((*_START, *_END, *_PAD, *_UNKNOWN)), re.IGNORECASE)
_LEADING = re.compile(rf"(?:\s*{_pattern((*_START, *_END, *_PAD))})+\s*", re.IGNORECASE)
_ENDING = re.compile(rf"\s*{_pattern(_END)}.*", re.IGNORECASE | re.DOTALL)
_INSIDE = re.compile(rf"\s*{_pattern((*_START, *_PAD))}", re.IGNORECASE)


def has_special_tokens(caption: str) -> bool:
    """Whether a caption holds a special token of a captioner, unknown words included.

    Example:
        >>> has_special_tokens("a dog <end>"), has_special_tokens("a dog"), has_special_tokens("[UNK]")
        (True, False, True)
    """  # noqa: E501
    return _ANY.search(caption) is not None


def strip_special_tokens(caption: str) -> str:
    """A caption without special tokens and without what follows its end.

    Example:
        >>> strip_special_tokens("<start> a dog runs <end> <pad> <pad>")
        'a dog runs'
        >>> strip_special_tokens("[CLS] an <unk> runs . [SEP] a a a")
        'an <unk> runs .'
    """
    if not has_special_tokens(caption):
        return caption
    caption = _LEADING.sub("", caption, count=1) if _LEADING.match(caption) else caption
    return _INSIDE.sub("", _ENDING.sub("", caption)).strip()

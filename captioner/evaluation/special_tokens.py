"""Remove the special tokens that captioning programs leave in captions.

Start, end and padding tokens are not words of the caption and are stripped, together with all text
after an end token. A token for an unknown word stands for a word, so it stays and matches no
reference.
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
    """Return whether a caption contains a special token, including one for unknown words.

    Example:
        >>> [has_special_tokens(text) for text in ("a dog <end>", "a dog", "[UNK]")]
        [True, False, True]
    """
    return _ANY.search(caption) is not None


def strip_special_tokens(caption: str) -> str:
    """Return a caption without special tokens and without any text after an end token.

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

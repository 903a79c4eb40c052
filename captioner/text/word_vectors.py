"""Word vectors in text format, one word per line: GloVe's, or word2vec's with a header line.

Dimensions: V vocabulary, E embedding size.
"""

from collections.abc import Iterable, Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from captioner.errors import CaptionerError, UsageError
from captioner.files.atomic import write_output
from captioner.files.regular import open_regular
from captioner.text.vocabulary import SPECIAL_WORDS

MAX_LINE = 2**20
"""Maximum characters per line: a word and about 50,000 numbers."""

LARGEST = torch.finfo(torch.float32).max
"""Largest absolute value; anything larger would be infinite in the embeddings."""


class WordVectors(NamedTuple):
    """Vectors of the vocabulary's words found in a file."""

    rows: list[int]
    """Ids of the words found, in file order."""
    vectors: Tensor
    """Their vectors (found, E)."""
    missing: list[str]
    """Words without a vector, except special words."""


def read_vectors(path: Path, words: Sequence[str], size: int) -> WordVectors:
    """Read the vectors of a vocabulary's words, skipping all other words.

    Args:
        path: Text file with a word and E numbers per line, separated by spaces. A header line with
            the number of words and E is skipped.
        words: The vocabulary, by id.
        size: Required length of a vector, E.

    Raises:
        UsageError: There is no such file, or a line has the wrong number of values or a value that
            is not a finite number. The message names the line.
        CaptionerError: The file has none of the words.
    """
    ids = {word: i for i, word in enumerate(words) if word not in SPECIAL_WORDS}
    found: dict[int, list[float]] = {}
    for number, parts in _lines(path):
        if number == 1 and len(parts) == 2:
            _check_size(path, number, _number(parts[1]), size)
            continue
        # A word in GloVe's files may contain spaces (". . ."). So count the numbers from the end.
        # If a number precedes them, the line has too many.
        ragged = len(parts) <= size or (len(parts) > size + 1 and _is_number(parts[-size - 1]))
        if ragged or (number == 1 and len(parts) != size + 1):
            _check_size(path, number, len(parts) - 1, size)
        i = ids.get(" ".join(parts[:-size]))
        if i is None or i in found:
            continue
        try:
            vector = [float(part) for part in parts[-size:]]
        except ValueError as error:
            raise UsageError(f"{path}: line {number}: {error}") from error
        if not all(abs(x) <= LARGEST for x in vector):
            raise UsageError(f"{path}: line {number}: a number is not finite in single precision")
        found[i] = vector
    if not found:
        raise CaptionerError(
            f"{path}: has none of the {len(ids):,} words of the vocabulary; its words must be "
            "lower-case"
        )
    missing = [word for word, i in ids.items() if i not in found]
    return WordVectors(list(found), torch.tensor(list(found.values())), missing)


def write_vectors(path: Path, words: Iterable[str], vectors: Tensor) -> None:
    """Write vectors (V, E) in word2vec's text format, which `read_vectors` and gensim read."""
    rows = (
        " ".join([word, *(f"{x:.6g}" for x in vector)])
        for word, vector in zip(words, vectors.tolist(), strict=True)
    )
    write_output(path, "\n".join([f"{len(vectors)} {vectors.shape[1]}", *rows]) + "\n")


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with TextIOWrapper(open_regular(path), encoding="utf-8") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), ""), 1):
                if len(line) == MAX_LINE:
                    raise UsageError(
                        f"{path}: line {number}: at most {MAX_LINE:,} characters per line"
                    )
                parts = line.rstrip().split(" ")
                if parts != [""]:
                    yield number, parts
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such word vector file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: word vectors cannot be read ({error})") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else -1


def _check_size(path: Path, number: int, found: int, size: int) -> None:
    if found == size:
        return
    right = (
        f"set decoder.embedding_size {found}" if number == 1 and found > 0 else "correct the file"
    )
    raise UsageError(
        f"{path}: line {number}: {max(found, 0)} numbers, but decoder.embedding_size is {size}; "
        f"{right}"
    )

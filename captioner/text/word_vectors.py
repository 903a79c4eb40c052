"""Word vectors as text, one word a line: GloVe's format, and word2vec's, which has a head line.

Letters: V vocabulary, E embedding size.
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
"""Letters of a line: a word and up to some 50,000 numbers."""

LARGEST = torch.finfo(torch.float32).max
"""What is larger would become infinite in the embeddings."""


class WordVectors(NamedTuple):
    """Vectors of those words of a vocabulary that a file knows."""

    rows: list[int]
    """Ids of the words found, in the file's order."""
    vectors: Tensor
    """Their vectors (found, E)."""
    missing: list[str]
    """Words without a vector, special words not counted."""


def read_vectors(path: Path, words: Sequence[str], size: int) -> WordVectors:
    """Vectors of a vocabulary's words; lines of other words are passed over, none is kept.

    Args:
        path: text file, a word and its E numbers a line, between blanks; a head line with the two
            numbers of words and of dimensions is passed over.
        words: the vocabulary, by id.
        size: numbers that a vector must have, E.

    Raises:
        UsageError: no such file, a row with another number of numbers, something that is no
            number; the message names the line.
        CaptionerError: not one word of the vocabulary is in the file.
    """
    ids = {word: i for i, word in enumerate(words) if word not in SPECIAL_WORDS}
    found: dict[int, list[float]] = {}
    for number, parts in _lines(path):
        if number == 1 and len(parts) == 2:
            _check_size(path, number, _number(parts[1]), size)
            continue
        # A word of GloVe's may hold blanks (". . ."): the numbers are counted from the end, and
        # what stands before them is a number too many if it is one.
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
            raise UsageError(
                f"{path}: line {number}: a number that is not finite in single precision"
            )
        found[i] = vector
    if not found:
        raise CaptionerError(
            f"{path}: holds none of the {len(ids):,} words of the vocabulary; its words must be "
            "in lower case"
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
                    raise UsageError(f"{path}: line {number}: longer than {MAX_LINE:,} letters")
                parts = line.rstrip().split(" ")
                if parts != [""]:
                    yield number, parts
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file of word vectors") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: no word vectors could be read ({error})") from error


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
    right = f"set decoder.embedding_size {found}" if number == 1 and found > 0 else "mend the file"
    raise UsageError(
        f"{path}: line {number}: {max(found, 0)} numbers where decoder.embedding_size is {size}; "
        f"{right}"
    )

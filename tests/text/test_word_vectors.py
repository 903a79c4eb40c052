"""Files of word vectors: both formats, what is found, and one line for each fault."""

from pathlib import Path

import pytest
import torch

from captioner.errors import CaptionerError
from captioner.text.vocabulary import SPECIAL_WORDS
from captioner.text.word_vectors import read_vectors, write_vectors

WORDS = [*SPECIAL_WORDS, "dog", "cat", "n't"]


def file_of(folder: Path, text: str) -> Path:
    path = folder / "vectors.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("head", ["", "4 2\n"], ids=["GloVe", "word2vec"])
def test_both_formats(tmp_path: Path, head: str) -> None:
    path = file_of(tmp_path, head + "cat 1 2\n<start> 9 9\n. . . 5 5\ndog -0.5 1e-3\ncat 7 7\n\n")
    found = read_vectors(path, WORDS, 2)
    assert found.rows == [5, 4]
    torch.testing.assert_close(found.vectors, torch.tensor([[1.0, 2.0], [-0.5, 1e-3]]))
    assert found.missing == ["n't"]


def test_round_trip(tmp_path: Path) -> None:
    vectors = torch.randn(3, 4)
    write_vectors(tmp_path / "out.txt", WORDS[4:], vectors)
    found = read_vectors(tmp_path / "out.txt", WORDS, 4)
    assert found.rows == [4, 5, 6]
    torch.testing.assert_close(found.vectors, vectors, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog 1 2 3\n", "line 1: 3 numbers, but .* is 2; set decoder.embedding_size 3"),
        ("4 3\ndog 1 2 3\n", "line 1: 3 numbers, but .* is 2; set decoder.embedding_size 3"),
        (
            "cat 1 2\ndog 1\n",
            "line 2: 1 numbers, but decoder.embedding_size is 2; correct the file",
        ),
        ("cat 1 2\ndog 1 2 3\n", "line 2: 3 numbers, but decoder.embedding_size is 2; correct"),
        ("cat 1 2\nowl 1 2 3\n", "line 2: 3 numbers, but decoder.embedding_size is 2; correct"),
        ("4 \u00b2\ncat 1 2\n", "line 1: 0 numbers, but decoder.embedding_size is 2; correct"),
        ("cat 1 2\ndog 1 x\n", "line 2: could not convert string to float: 'x'"),
        ("cat 1 nan\n", "line 1: a number is not finite"),
        ("cat 1 -1e39\n", "line 1: a number is not finite in single precision"),
        pytest.param(f"4 {'9' * 5000}\ncat 1 2\n", "line 1: 0 numbers, but", id="long"),
        ("Dog 1 2\n", "has none of the 3 words of the vocabulary"),
        ("", "has none of the 3 words"),
    ],
)
def test_faults(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CaptionerError, match=rf"vectors\.txt: {message}"):
        read_vectors(file_of(tmp_path, text), WORDS, 2)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match="no such word vector file"):
        read_vectors(tmp_path / "none.txt", WORDS, 2)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CaptionerError, match="word vectors cannot be read"):
        read_vectors(tmp_path / "binary", WORDS, 2)

"""`captioner words`: neighbours, export, mistakes."""

from pathlib import Path

import pytest
import torch

from captioner import checkpoint
from captioner.analysis import embeddings as words
from captioner.cli import main
from captioner.text.word_vectors import read_vectors


def test_neighbours_are_by_cosine(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = checkpoint.load(tiny_checkpoint)
    known = trained.vocabulary.words
    weight = words.embeddings(trained)
    weight[5] = 3 * weight[4]  # the same direction, another length
    weight[6] = -weight[4]
    found = words.nearest(trained, known[4], len(known))
    assert found[0][0] == known[5]
    assert found[0][1] == pytest.approx(1)
    assert found[-1] == (known[6], pytest.approx(-1))
    assert len(found) == len(known) - 5  # neither itself nor special words
    arguments = ["--checkpoint", str(tiny_checkpoint), "--nearest", known[4], "--count", "2"]
    assert main(["words", *arguments]) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{known[4]}: ")
    assert line.count(",") == 1


def test_export_is_read_back(tiny_checkpoint: Path, tmp_path: Path) -> None:
    trained, path = checkpoint.load(tiny_checkpoint), tmp_path / "vectors.txt"
    assert main(["words", "--checkpoint", str(tiny_checkpoint), "--export", str(path)]) == 0
    weight = words.embeddings(trained)
    found = read_vectors(path, trained.vocabulary.words, weight.shape[1])
    assert found.rows == list(range(4, len(weight)))
    torch.testing.assert_close(found.vectors, weight[4:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        ([], "nothing to do; add --nearest WORD, --export F, or both", 2),
        (["--nearest", "rde"], "'rde' is not one of the", 1),
        (["--export", "nowhere/f.txt"], "--export: no folder nowhere", 2),
    ],
)
def test_mistakes(
    tiny_checkpoint: Path,
    arguments: list[str],
    message: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["words", "--checkpoint", str(tiny_checkpoint), *arguments]) == code
    assert message in capsys.readouterr().err

"""How probable a captioner finds sentences that are given."""

import math
from pathlib import Path

import pytest
from PIL import Image

from captioner import Predictor
from captioner.cli import main
from captioner.decoding.options import SearchOptions
from captioner.errors import CaptionerError, UsageError


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "red.png"
    Image.new("RGB", (60, 40), "red").save(path)
    return path


def test_a_caption_has_the_log_probability_that_its_search_gave(tiny_checkpoint, photo):
    search = SearchOptions(beam_size=9, n_best=9, max_length=12, word_reward=-9.0)
    predictor = Predictor.load(tiny_checkpoint, search=search, device="cpu")
    found = [one for one in predictor.caption(photo).candidates if len(one.words) < 12]
    assert found
    scores = predictor.score(photo, [one.caption for one in found])
    assert scores == pytest.approx([one.log_prob for one in found], abs=1e-4)


@pytest.mark.parametrize("average", ["probability", "log_probability"])
def test_an_ensemble_of_one_captioner_twice_scores_as_one(tiny_checkpoint, photo, average):
    one = Predictor.load(tiny_checkpoint, device="cpu")
    two = Predictor.load([tiny_checkpoint] * 2, device="cpu", average=average)
    texts = ["a red square", "", "words that nobody knows"] * 30
    assert two.score(photo, texts) == pytest.approx(one.score(photo, texts), abs=1e-4)


def test_a_sentence_scores_the_same_alone_and_among_others(tiny_checkpoint, photo):
    predictor = Predictor.load(tiny_checkpoint, device="cpu")
    texts = ["a red square", "two", "a large blue circle above it"]
    alone = [predictor.score(photo, [text])[0] for text in texts]
    assert predictor.score(photo, texts) == pytest.approx(alone, abs=1e-4)
    assert predictor.score(photo, []) == []
    assert all(math.isfinite(score) and score < 0 for score in alone)


def test_wrong_arguments_are_one_line(tiny_checkpoint, photo, tmp_path):
    predictor = Predictor.load(tiny_checkpoint, device="cpu")
    with pytest.raises(UsageError, match="a list of sentences"):
        predictor.score(photo, "a red square")
    with pytest.raises(UsageError, match="sentence 2: 1,001 words"):
        predictor.score(photo, ["a", "a " * 1001])
    with pytest.raises(UsageError, match="not list"):
        predictor.score([photo], ["a"])
    with pytest.raises(CaptionerError, match=r"none\.jpg"):
        predictor.score(tmp_path / "none.jpg", ["a"])


def test_command_writes_a_line_per_sentence(tiny_checkpoint, photo, tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("a red square\n\nzzyzx\n", encoding="utf-8")
    arguments = ["score", str(photo), str(tmp_path / "none.jpg"), "--captions", str(texts)]
    assert main([*arguments, "--checkpoint", str(tiny_checkpoint)]) == 1
    said = capsys.readouterr()
    rows = [line.split("\t") for line in said.out.splitlines()]
    assert [(Path(row[0]), row[2]) for row in rows] == [(photo, "a red square"), (photo, "zzyzx")]
    assert all(float(row[1]) < 0 for row in rows)
    assert "words are not in the vocabulary" in said.err
    assert "none.jpg" in said.err


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no file"), (b"", "no sentence"), (b"\xff\xfe\x00", "UTF-8")]
)
def test_command_refuses_unusable_sentences(photo, tmp_path, capsys, content, message):
    texts = tmp_path / "texts.txt"
    if content is not None:
        texts.write_bytes(content)
    assert main(["score", str(photo), "--captions", str(texts)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message.lower() in line.lower() or content is None

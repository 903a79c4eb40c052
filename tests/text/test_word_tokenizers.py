"""Tokenizers by name: what they make of other languages, and that the choice travels."""

import subprocess
import sys
from pathlib import Path

import pytest

from captioner.display import is_one_line
from captioner.errors import UsageError
from captioner.evaluation.scores import score
from captioner.text.tokenizer import tokenize
from captioner.text.vocabulary import Vocabulary
from captioner.text.word_tokenizers import NAMES, word_tokenizer

CAPTIONS = {
    "german": ("toktok", "Ein Mann geht, z.B. über die Straße!", 7),
    "arabic": ("toktok", "رجل يركب حصاناً بنيّاً على الشاطئ.", 6),
    "chinese": ("cjk", "一只狗在草地上奔跑。", 9),
    "japanese": ("cjk", "犬が走る、2匹", 6),
    "korean": ("cjk", "개가 잔디 위를 달린다.", 4),
    "russian": ("wordpunct", "Собака бежит по траве.", 4),
    "informal": ("tweet", "so cute!!! #dog can't wait :)", 5),
}


@pytest.mark.parametrize("language", CAPTIONS)
def test_words_of_other_languages(language: str) -> None:
    name, caption, count = CAPTIONS[language]
    words = word_tokenizer(name)(caption)
    assert len(words) == count
    assert all(word == word.lower() for word in words)
    vocabulary = Vocabulary.build([caption], min_count=1, tokenizer=name)
    ids = vocabulary.encode(caption)
    assert vocabulary.encode(vocabulary.decode(ids)) == ids


def test_the_default_is_the_tokenizer_of_the_evaluation() -> None:
    assert word_tokenizer("ptb") is tokenize
    assert Vocabulary.build(["a man's dog"], min_count=1).tokenizer == "ptb"


@pytest.mark.parametrize("name", NAMES)
def test_no_words(name: str) -> None:
    assert word_tokenizer(name)("") == word_tokenizer(name)(" . , ") == []


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match=r"vocabulary\.tokenizer: unknown 'tok'; did you mean"):
        word_tokenizer("tok")


def test_a_vocabulary_is_read_with_its_tokenizer(tmp_path: Path) -> None:
    built = Vocabulary.build(["一只狗"], min_count=1, tokenizer="cjk")
    built.save(tmp_path / "v.txt")
    read = Vocabulary.load(tmp_path / "v.txt", "cjk")
    assert read.encode("狗") == built.encode("狗") != [3]


def test_scores_by_another_tokenizer_say_so() -> None:
    references = {1: ["一只狗在草地上跑"], 2: ["两只猫睡在沙发上"]}
    captions = {1: "一只狗在草地上", 2: "两只猫睡在沙发上"}
    found = score(captions, references, metrics=["BLEU", "METEOR"], tokenizer="cjk")
    assert found.corpus["BLEU-1"] > 0.9
    assert str(found.recipe["tokenizer"]).startswith("cjk, nltk ")
    assert found.warnings[0].startswith("METEOR is skipped: it requires the tokenizer ptb")
    assert score(captions, references, metrics=["BLEU"]).corpus["BLEU-1"] < 0.6


def test_nltk_is_imported_when_it_is_needed() -> None:
    code = (
        "import sys, captioner.text.vocabulary, captioner.evaluation.scores\n"
        "from captioner.text.word_tokenizers import word_tokenizer\n"
        "word_tokenizer('ptb')('a dog'); assert 'nltk' not in sys.modules\n"
        "word_tokenizer('toktok'); assert 'nltk' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_no_word_holds_a_control_character(name: str) -> None:
    caption = "ein\x1b[2J Hund \u202eläuft\u200f \x9b weg\u2028 \x07\x7f und a\x85b"
    words = word_tokenizer(name)(caption)
    assert {"hund", "weg", "und"} <= set(words)
    assert all(is_one_line(word) for word in words)

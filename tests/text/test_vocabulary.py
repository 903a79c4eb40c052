"""The vocabulary: what it counts, what it keeps, what it refuses."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.errors import CaptionerError, UsageError
from captioner.text.vocabulary import END, PAD, START, UNKNOWN, Vocabulary

CAPTIONS = ["A dog runs.", "a dog sleeps", "The dog's ball"]


def test_special_words_then_frequent_to_rare() -> None:
    words = Vocabulary.build(CAPTIONS, min_count=1).words
    assert words[:4] == ("<pad>", "<start>", "<end>", "<unk>")
    assert words[4:6] == ("dog", "a")
    assert words[6:] == ("'s", "ball", "runs", "sleeps", "the")  # equally rare: alphabetical


def test_minimum_count_and_maximum_size() -> None:
    assert Vocabulary.build(CAPTIONS, min_count=2).words[4:] == ("dog", "a")
    assert Vocabulary.build(CAPTIONS, min_count=1, max_size=5).words[4:] == ("dog",)


def test_unknown_words() -> None:
    vocabulary = Vocabulary.build(CAPTIONS, min_count=2)
    assert vocabulary.encode("A DOG, flying!") == [5, 4, UNKNOWN]


def test_captions_of_a_user_cannot_forge_special_words() -> None:
    vocabulary = Vocabulary.build(["<end> <pad> dog"] * 3, min_count=1)
    assert not {START, END, PAD} & set(vocabulary.encode("<start> dog <end> <pad>"))


def test_decode_ends_at_the_end_word_and_joins_contractions() -> None:
    vocabulary = Vocabulary.build(["the dog's ball isn't red"], min_count=1)
    ids = vocabulary.encode("The dog's ball isn't red.")
    assert vocabulary.decode([START, *ids, END, 4, 4, PAD]) == "the dog's ball isn't red"
    assert vocabulary.decode([END]) == ""


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.sampled_from(["a", "the", "dog", "cat's", "can't", "runs", "u.s.", "1/2"]), max_size=8
    )
)
def test_decode_undoes_encode(words: list[str]) -> None:
    vocabulary = Vocabulary.build(["a the dog cat's can't runs u.s. 1/2"], min_count=1)
    ids = vocabulary.encode(" ".join(words))
    assert UNKNOWN not in ids
    assert vocabulary.encode(vocabulary.decode(ids)) == ids


def test_saved_as_text_that_a_person_can_read(tmp_path: Path) -> None:
    vocabulary = Vocabulary.build(["café 1 1/2 dog"], min_count=1)
    path = tmp_path / "vocabulary.txt"
    vocabulary.save(path)
    assert path.read_text(encoding="utf-8").splitlines()[4] == vocabulary.words[4]
    assert Vocabulary.load(path).words == vocabulary.words


def test_what_is_no_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.txt: vocabulary cannot be read"):
        Vocabulary.load(tmp_path / "none.txt")
    path = tmp_path / "words.txt"
    path.write_text("dog\ncat\n")
    with pytest.raises(UsageError, match=r"not a vocabulary: .* begin with <pad> <start>"):
        Vocabulary.load(path)
    with pytest.raises(CaptionerError, match="the word 'dog' occurs twice"):
        Vocabulary(["<pad>", "<start>", "<end>", "<unk>", "dog", "dog"])

"""METEOR's tokens, stems and word lists."""

import zipfile

import pytest
from meteor_files import small_data, write_data
from nltk.stem.snowball import EnglishStemmer

from captioner.errors import CaptionerError
from captioner.metrics.meteor.data import find_folder, load_data
from captioner.metrics.meteor.normalizer import normalize
from captioner.metrics.meteor.stemmer import stem

# Abbreviations as in the file. True: only before a number.
ABBREVIATIONS = {"vs": False, "no": True}


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("a man 's dog", "a man ' s dog"),
        ("is n't it", "is n 't it"),
        ("rock'n'roll", "rock 'n'roll"),
        ("the 1990's", "the 1990 's"),
        ("black-and-white", "black and white"),
        ("x-ray a-b-c", "x ray a b-c"),
        ("u.s. flag", "us flag"),
        ("u.s.-based", "us based"),
        ("st. john", "st. john"),
        ("st. 5", "st . 5"),
        ("no. 5", "no. 5"),
        ("no. (5)", "no . ( 5 )"),
        ("2 vs. (3)", "2 vs. ( 3 )"),
        ("the end.", "the end ."),
        ("1,000 men,women", "1,000 men , women"),
        ("wait ... what", "wait ... what"),
        ("wait.. what", "wait .. what"),
        ("\u201cquoted\u201d \u2018text\u2019", "\" quoted \" ' text '"),
        ("''", '"'),
        ("50% off", "50 % off"),
        ("1\u00a01/2 cups", "1 1 / 2 cups"),
        ("\u00e9t\u00e9 \u0161koda", "\u00e9t\u00e9 \u0161koda"),
        ("a -- b \u2013 c", "a - b - c"),
        ("-lrb- x -rrb-", "-lrb- x -rrb-"),
        ("\U0001f600x", "\U0001f600 x"),
        ("", ""),
        ("  a   dog ", "a dog"),
    ],
)
def test_tokens(caption, words):
    assert normalize(caption, ABBREVIATIONS) == words.split()


def test_stems_follow_the_algorithm():
    # Porter's own examples, and examples of the exceptions and of each step.
    expected = {
        "consistency": "consist",
        "knightly": "knight",
        "generously": "generous",
        "communities": "communiti",
        "skis": "ski",
        "news": "news",
        "herring": "herring",
        "herrings": "herring",
        "hopping": "hop",
        "hoping": "hope",
        "luxuriated": "luxuri",
        "ties": "tie",
        "cries": "cri",
        "gas": "gas",
        "kiwis": "kiwi",
        "by": "by",
        "say": "say",
        "enjoying": "enjoy",
        "youth": "youth",
        "'tis": "tis",
        "dogs'": "dog",
        "dog's": "dog",
        "freed": "freed",
        "feed": "feed",
        "is": "is",
    }
    assert {word: stem(word) for word in expected} == expected


COMMON_WORDS = (
    "sitting standing running jumps jumped grassy happily beautifully decorated skateboarder "
    "skateboarding surfers baseball umpires bicycles bicyclists buses parking traffic lights "
    "giraffes elephants zebras grazing fences kitchens refrigerators appliances stainless "
    "donuts pizzas slices sliced vegetables broccoli plates wooden tables dining children's "
    "women ladies gentlemen wearing dressed colorful umbrellas rainy snowboarding mountains "
    "skies flying airplanes taking-off runway stationary motorcycles driving driver's mirror "
    "reflection reflecting buildings tallest oldest biggest relational national fulness "
    "usefulness hopeful sensitivity rational operators feudalism electrical adjustment "
    "replacement adoption irritant controlling rolling probate bowdlerize cease yelling bully "
    "syzygy yoyo eyed ugly early dying lying proceeded exceeding innings arsenal"
)


def test_stems_against_nltk():
    theirs = EnglishStemmer()
    words = COMMON_WORDS.split()
    assert [stem(word) for word in words] == [theirs.stem(word) for word in words]


@pytest.mark.parametrize(
    ("word", "sets"),
    [
        ("dog", {"11", "12"}),
        ("dogs", {"11", "12"}),
        ("ladies", {"21", "22"}),
        ("women", {"21"}),
        ("glass", {"31"}),
        ("glasses", {"31"}),
        ("dress", set()),
        ("kite", set()),
        ("", set()),
    ],
)
def test_synonym_sets_include_those_of_the_base_form(tmp_path, word, sets):
    assert small_data(tmp_path / "meteor").sets_of(word) == sets


def test_irregular_forms_have_the_sets_of_their_base(tmp_path, monkeypatch):
    monkeypatch.setattr("meteor_files.WORDNET", {"foot": "1", "go": "2 3", "feet": "4"})
    data = small_data(tmp_path / "meteor")
    assert data.sets_of("feet") == {"1", "4"}
    assert data.sets_of("went") == {"2", "3"}


def test_lists_are_read(tmp_path):
    data = small_data(tmp_path / "meteor")
    assert data.function_words == {"a", "the", "of", "on"}
    assert data.abbreviations == {"mr": False, "no": True, "vs": False}
    assert data.irregular_forms == {"feet": ["foot"], "went": ["go"], "gone": ["go"]}


def test_unreadable_files_are_one_line(tmp_path):
    folder = write_data(tmp_path / "one")
    (folder / "meteor-1.5.jar").write_bytes(b"no archive")
    with pytest.raises(CaptionerError) as raised:
        load_data(folder)
    assert str(raised.value) == (
        f"{folder}/meteor-1.5.jar: METEOR's data cannot be read (File is not a zip file); "
        "reinstall pycocoevalcap"
    )
    folder = write_data(tmp_path / "two")
    with zipfile.ZipFile(folder / "meteor-1.5.jar", "w") as jar:
        jar.writestr("function/english.words", "a\n")
    with pytest.raises(CaptionerError, match=r"nonbreaking/english\.prefixes"):
        load_data(folder)


def test_the_package_is_found_by_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert find_folder() is None
    (tmp_path / "pycocoevalcap").mkdir()
    assert find_folder() is None
    folder = write_data(tmp_path / "pycocoevalcap" / "meteor")
    assert find_folder() == folder

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.text.tokenizer import PUNCTUATION, tokenize, tokenize_all

ORACLES = Path(__file__).resolve().parents[2].parent / "shared" / "oracles" / "tokenizer"

needs_oracles = pytest.mark.skipif(not ORACLES.is_dir(), reason="no oracle files")


def oracle(name: str) -> list[dict[str, str]]:
    return json.loads((ORACLES / f"{name}.json").read_text(encoding="utf-8"))


# By hand, from the conventions of the Penn Treebank.
@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A dog runs.", "a dog runs"),
        ("The man's dogs' bowls", "the man 's dogs bowls"),
        ("It isn't; they can\u2019t", "it is n't they ca n't"),
        ("I'm sure they've said he'd", "i 'm sure they 've said he 'd"),
        ("cannot gonna 'tis 'Twas", "can not gon na 't is 't was"),
        ("A black-and-white t-shirt -- worn", "a black-and-white t-shirt worn"),
        ("Mr. Smith of the U.S. met Dr. Jones, etc.", "mr. smith of the u.s. met dr. jones etc."),
        ("1,000 people paid $5.99 or 50% off", "1,000 people paid $ 5.99 or 50 % off"),
        ("1/2 of ½, 1 1/2 cups", "1/2 of 1/2 1\xa01/2 cups"),
        ("at 10:30 a.m. on 10/11/2009", "at 10:30 a.m. on 10/11/2009"),
        ("2 € and 3 £ and 5¢", "2 $ and 3 # and 5 cents"),
        ('A sign "STOP" (red) [x] {y}', "a sign stop -lrb- red -rrb- -lsb- x -rsb- -lcb- y -rcb-"),
        ("wait...what?!", "wait what ?!"),
        ("www.flickr.com/photos by me@example.com", "www.flickr.com/photos by me@example.com"),
        ("@you #tag :) ^_^", "@you #tag :-rrb- ^_^"),
        ("black &amp; white <b>bold</b>", "black & white <b> bold </b>"),
        ("soft\xadhyphen and café", "softhyphen and café"),
        ("a dog 🐶 plays", "a dog plays"),
        ("日本語の文", "日本語の文"),
        ("see foo.org/xy\u2009", "see foo.org/xy"),
        ("", ""),
        (" . ", ""),
    ],
)
def test_tokens_by_hand(caption, tokens):
    assert " ".join(tokenize(caption)) == tokens


@pytest.mark.parametrize("separator", ["\n", "\r", "\r\n", "\v", "\f", "\u2028", "\u2029", "\x85"])
def test_line_separator_is_a_blank(separator):
    assert tokenize(f"a dog{separator}runs") == ["a", "dog", "runs"]
    assert tokenize_all([f"a{separator}b", "second"]) == [["a", "b"], ["second"]]


def test_a_caption_has_the_same_tokens_in_any_company_unless_asked():
    captions = ["plan B.", "", "A dog"]
    assert tokenize_all(captions)[0] == tokenize("plan B.") == ["plan", "b."]
    assert tokenize_all(captions, in_sequence=True)[0] == ["plan", "b"]
    assert tokenize_all(["plan B.", "a dog"], in_sequence=True)[0] == ["plan", "b."]


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_gives_small_tokens_without_punctuation(text):
    for token in tokenize(text):
        assert token
        assert token == token.lower()
        assert token not in PUNCTUATION
        assert not set(token) & set(" \t\n\r\v\f\u2028\u2029")


# Words that are looked up and words that need their neighbours must read the same side by side.
WORDS = [
    "A",
    "dog",
    "dog's",
    '"no',
    "no.",
    "5",
    "art.",
    "B.",
    "The",
    "1",
    "1/2",
    "Inc.",
    "it,",
    ".",
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=6))
def test_looked_up_words_read_as_if_lexed(words):
    caption = " ".join(words)
    # A character that the lexer deletes keeps every word from being looked up, and changes nothing.
    assert tokenize(caption) == tokenize(f"{caption} \U0001f436")


@needs_oracles
@pytest.mark.parametrize("name", ["flickr8k_40k", "edited_40k"])
def test_every_line_reads_as_in_the_official_tool(name):
    rows = oracle(name)
    found = tokenize_all([row["caption"] for row in rows], in_sequence=True)
    wrong = [
        row for row, tokens in zip(rows, found, strict=True) if " ".join(tokens) != row["tokens"]
    ]
    assert wrong == []


@needs_oracles
def test_awkward_captions_read_as_in_the_official_tool():
    for row in oracle("awkward"):
        assert " ".join(tokenize(row["caption"])) == row["tokens_in_batch"]


@needs_oracles
def test_only_two_captions_depend_on_the_next_one():
    rows = oracle("edited_40k")
    found = tokenize_all([row["caption"] for row in rows])
    differing = [
        (" ".join(tokens), row["tokens"])
        for row, tokens in zip(rows, found, strict=True)
        if " ".join(tokens) != row["tokens"]
    ]
    assert [(ours[-3:], theirs[-2:]) for ours, theirs in differing] == [
        (" s.", " s"),
        (" s.", " s"),
    ]

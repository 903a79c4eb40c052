import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.text.lexer import Lexer, Rule

# Expressions whose meaning is the same here and in `re`, apart from which match is preferred.
PATTERNS = ["a", "ab|a", "[ab]+", "(ab)*c?a", "a{2,3}", "b{2,}", "[^a]b", "a.?b", "(a|b|c)(b|c)*"]


def longest_by_trial(rules: list[Rule], text: str, begin: int) -> tuple[str, int] | None:
    """Tries every end, the last one first, and every rule, the first one first."""
    for whole in range(len(text), begin, -1):
        for rule in rules:
            for end in range(whole, begin - 1, -1):
                if re.fullmatch(rule.pattern, text[begin:end]) and re.fullmatch(
                    rule.context, text[end:whole]
                ):
                    return rule.name, end
    return None


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=5),
    st.lists(st.sampled_from(["", "", "a", "b+", "c|ab"]), min_size=5, max_size=5),
    st.text("abc", max_size=8),
)
def test_match_is_the_longest_of_all_that_exist(patterns, contexts, text):
    rules = [
        Rule(str(at), pattern, context)
        for at, (pattern, context) in enumerate(zip(patterns, contexts, strict=False))
    ]
    lexer = Lexer(rules, {})
    for begin in range(len(text)):
        assert lexer.match(text, begin) == longest_by_trial(rules, text, begin)


def test_first_rule_wins_a_tie():
    assert Lexer([Rule("one", "ab"), Rule("two", "a.")], {}).match("ab", 0) == ("one", 2)
    assert Lexer([Rule("two", "a."), Rule("one", "ab")], {}).match("ab", 0) == ("two", 2)


def test_context_counts_for_the_length_but_is_not_taken():
    lexer = Lexer([Rule("word", "[a-z]+"), Rule("before digits", "[a-z]+", "[0-9]+")], {})
    assert lexer.match("abc12", 0) == ("before digits", 3)
    assert lexer.match("abc", 0) == ("word", 3)


def test_letters_match_in_either_case_but_sets_do_not():
    lexer = Lexer([Rule("free", "mr"), Rule("bound", "[M]s")], {})
    assert lexer.match("mR", 0) == ("free", 2)
    assert lexer.match("MS", 0) == ("bound", 2)
    assert lexer.match("ms", 0) is None


def test_definitions_may_be_expressions_or_sets():
    definitions = {"DIGIT": str.isdecimal, "NUMBER": "{DIGIT}+|none"}
    lexer = Lexer([Rule("pair", "{NUMBER}-{NUMBER}")], definitions)
    assert lexer.match("12-none.", 0) == ("pair", 7)


@pytest.mark.parametrize("pattern", ["(a", "a)", "[a"])
def test_unbalanced_expression_is_refused(pattern):
    with pytest.raises(ValueError, match="unbalanced"):
        Lexer([Rule("x", pattern)], {})

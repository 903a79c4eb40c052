"""A lexer that takes the longest match, and on a tie the rule that stands first.

That is the convention of lex, flex and JFlex, and not the one of Python's ``re``, whose ``a|ab``
stops at ``a``. A tokenizer that was generated under that convention can only be followed exactly
under it, so this module turns a list of regular expressions into one automaton:

1. each expression is parsed into a small tree;
2. each place in the tree where a character is read becomes a *position*, and it is noted which
   positions can start a match, follow one another and end one (the position automaton of
   Glushkov 1961, which has no empty moves);
3. the sets of positions that a text really leads to become the states of a deterministic
   automaton, made when they are first met. Reading on costs one dictionary look-up per character.

Syntax of an expression: ``|``, ``( )``, ``* + ? {m,n}``, bracketed sets as in ``re``, ``.`` (any
character), backslash for a literal, ``{NAME}`` for a definition. A plain letter matches in either
case; a bracketed set matches only what it names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

Accepts = Callable[[str], object]
"""Says whether one character belongs to a set (by truth value)."""

Definitions = Mapping[str, str | Accepts]
"""What ``{NAME}`` stands for: an expression, or a set of characters."""


@dataclass(frozen=True)
class Rule:
    """One rule of a lexer.

    Attributes:
        name: What the caller's action goes by.
        pattern: The expression that the token matches.
        context: An expression that must follow the token. It counts for the length of the match,
            but is read again for the next token; where the border is ambiguous the token is as
            long as can be.
    """

    name: str
    pattern: str
    context: str = ""


@dataclass(frozen=True)
class _Char:
    accepts: Accepts


@dataclass(frozen=True)
class _Sequence:
    parts: tuple[_Node, ...]


@dataclass(frozen=True)
class _Choice:
    options: tuple[_Node, ...]


@dataclass(frozen=True)
class _Repeat:
    body: _Node
    least: int
    most: int | None


_Node = _Char | _Sequence | _Choice | _Repeat

# Other characters whose capital or small form is one of these letters.
_COUSINS = {"i": "\u0130\u0131", "k": "\u212a", "s": "\u017f"}

_BRACKETED = re.compile(r"\[\^?(?:\\.|[^\\\]])+\]", re.DOTALL)
_COUNTED = re.compile(r"\{(\d+)(,?)(\d*)\}")
_NAMED = re.compile(r"\{([A-Z_0-9]*[A-Z][A-Z_0-9]*)\}")
_REPEATS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class _Parser:
    """Recursive descent over one expression."""

    def __init__(self, pattern: str, definitions: Definitions):
        self.pattern = pattern
        self.definitions = definitions
        self.at = 0

    def parse(self) -> _Node:
        node = self._choice()
        if self.at < len(self.pattern):
            raise ValueError(f"unbalanced ')' at {self.at} in {self.pattern!r}")
        return node

    def _peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def _choice(self) -> _Node:
        options = [self._sequence()]
        while self._peek() == "|":
            self.at += 1
            options.append(self._sequence())
        return options[0] if len(options) == 1 else _Choice(tuple(options))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated())
        return parts[0] if len(parts) == 1 else _Sequence(tuple(parts))

    def _repeated(self) -> _Node:
        node = self._atom()
        while True:
            if self._peek() in _REPEATS:
                least, most = _REPEATS[self._peek()]
                self.at += 1
            elif found := _COUNTED.match(self.pattern, self.at):
                least = int(found[1])
                most = least if not found[2] else int(found[3]) if found[3] else None
                self.at = found.end()
            else:
                return node
            node = _Repeat(node, least, most)

    def _atom(self) -> _Node:
        char = self._peek()
        if char == "(":
            self.at += 1
            node = self._choice()
            if self._peek() != ")":
                raise ValueError(f"unbalanced '(' in {self.pattern!r}")
            self.at += 1
            return node
        if char == "[":
            found = _BRACKETED.match(self.pattern, self.at)
            if found is None:
                raise ValueError(f"unbalanced '[' at {self.at} in {self.pattern!r}")
            self.at = found.end()
            return _Char(_bracketed(found[0]))
        if found := _NAMED.match(self.pattern, self.at):
            self.at = found.end()
            meaning = self.definitions[found[1]]
            if isinstance(meaning, str):
                return _Parser(meaning, self.definitions).parse()
            return _Char(meaning)
        self.at += 1
        if char == ".":
            return _Char(_anything)
        if char == "\\":
            char = self._peek()
            self.at += 1
        return _Char(_either_case(char.lower()))


def _anything(_: str) -> bool:
    return True


@cache
def _bracketed(expression: str) -> Accepts:
    return re.compile(expression).match


@cache
def _either_case(lower: str) -> Accepts:
    return frozenset((lower, lower.upper(), *_COUSINS.get(lower, ""))).__contains__


class _State(dict[str, "_State"]):
    """A state of the automaton: where each character leads, found out when first asked for."""

    def __init__(self, automaton: _Automaton, positions: frozenset[int], rule: int):
        super().__init__()
        self.automaton = automaton
        self.positions = positions
        self.rule = rule  # the first rule that may end here; -1: none
        self.dead = not positions

    def __missing__(self, char: str) -> _State:
        state = self[char] = self.automaton.step(self, char)
        return state


class _Automaton:
    """The deterministic automaton of several expressions, built as it is used."""

    def __init__(self, trees: Sequence[_Node]):
        # Position 0 is the start: it reads nothing and is followed by every first position.
        # Many positions read the same set of characters, so each set is asked once a character.
        self.sets: list[Accepts] = [lambda _: False]
        self.set_of: list[int] = [0]  # position -> number of its set
        self.numbers: dict[Accepts, int] = {}
        self.sets_with: dict[str, frozenset[int]] = {}  # character -> the sets that hold it
        self.follow: list[set[int]] = [set()]
        self.ends: dict[int, int] = {}  # position -> the rule that may end there
        for rule, tree in enumerate(trees):
            nullable, first, last = self._add(tree)
            self.follow[0] |= first
            self.ends.update(dict.fromkeys(last | {0} if nullable else last, rule))
        self.states: dict[frozenset[int], _State] = {}
        self.start = self._state(frozenset({0}))

    def _add(self, node: _Node) -> tuple[bool, set[int], set[int]]:
        """Adds the positions of ``node``; returns (may be empty, first positions, last ones)."""
        if isinstance(node, _Char):
            if node.accepts not in self.numbers:
                self.numbers[node.accepts] = len(self.sets)
                self.sets.append(node.accepts)
            self.set_of.append(self.numbers[node.accepts])
            self.follow.append(set())
            position = {len(self.set_of) - 1}
            return False, position, position
        if isinstance(node, _Choice):
            added = [self._add(option) for option in node.options]
            return (
                any(nullable for nullable, _, _ in added),
                set().union(*(first for _, first, _ in added)),
                set().union(*(last for _, _, last in added)),
            )
        if isinstance(node, _Sequence):
            return self._add_sequence([(part, False) for part in node.parts])
        # x{2,4} is x x x? x?, and x{2,} is x x x*.
        copies = [(node.body, False)] * node.least
        if node.most is not None:
            copies += [(node.body, True)] * (node.most - node.least)
            return self._add_sequence(copies)
        if node.least == 0:
            copies = [(node.body, True)]
        nullable, first, last = self._add_sequence(copies[:-1])
        body_nullable, body_first, body_last = self._add(copies[-1][0])
        for before in body_last | last:
            self.follow[before] |= body_first
        body_nullable = body_nullable or node.least == 0
        return (
            nullable and body_nullable,
            first | body_first if nullable else first,
            last | body_last if body_nullable else body_last,
        )

    def _add_sequence(self, parts: Sequence[tuple[_Node, bool]]) -> tuple[bool, set[int], set[int]]:
        """Adds parts one after the other; the flag beside a part says that it may be left out."""
        nullable, first, last = True, set[int](), set[int]()
        for part, optional in parts:
            part_nullable, part_first, part_last = self._add(part)
            part_nullable = part_nullable or optional
            for before in last:
                self.follow[before] |= part_first
            if nullable:
                first = first | part_first
            last = last | part_last if part_nullable else part_last
            nullable = nullable and part_nullable
        return nullable, first, last

    def _state(self, positions: frozenset[int]) -> _State:
        if positions not in self.states:
            rule = min((self.ends[p] for p in positions if p in self.ends), default=-1)
            self.states[positions] = _State(self, positions, rule)
        return self.states[positions]

    def step(self, state: _State, char: str) -> _State:
        if char not in self.sets_with:
            held = (number for number, accepts in enumerate(self.sets) if accepts(char))
            self.sets_with[char] = frozenset(held)
        sets, set_of = self.sets_with[char], self.set_of
        candidates: set[int] = set().union(*(self.follow[p] for p in state.positions))
        return self._state(frozenset(p for p in candidates if set_of[p] in sets))

    def accepts_whole(self, text: str) -> bool:
        state = self.start
        for char in text:
            state = state[char]
        return state.rule >= 0


class Lexer:
    """Finds the longest match among rules, the first rule on a tie.

    Args:
        rules: In order of precedence.
        definitions: What the names in the rules' expressions stand for.

    Example:
        >>> lexer = Lexer([Rule("short", "a"), Rule("long", "ab|a")], {})
        >>> lexer.match("abc", 0)
        ('long', 2)
        >>> lexer.match("ac", 0)
        ('short', 1)
        >>> lexer.match("c", 0) is None
        True
    """

    def __init__(self, rules: Sequence[Rule], definitions: Definitions):
        def tree(pattern: str) -> _Node:
            return _Parser(pattern, definitions).parse()

        self._names = [rule.name for rule in rules]
        self._start = _Automaton(
            [_Sequence((tree(rule.pattern), tree(rule.context))) for rule in rules]
        ).start
        self._borders = {
            index: (_Automaton([tree(rule.pattern)]), _Automaton([tree(rule.context)]))
            for index, rule in enumerate(rules)
            if rule.context
        }

    def match(self, text: str, begin: int) -> tuple[str, int] | None:
        """The name of the rule that wins at ``begin`` and where its token ends; None: no rule."""
        state = self._start
        rule, end = -1, begin
        for at in range(begin, len(text)):
            state = state[text[at]]
            if state.rule >= 0:
                rule, end = state.rule, at + 1
            elif state.dead:
                break
        if rule < 0:
            return None
        if rule in self._borders:
            token, context = self._borders[rule]
            whole = end
            while not (
                token.accepts_whole(text[begin:end]) and context.accepts_whole(text[end:whole])
            ):
                end -= 1
        return self._names[rule], end

"""What the pages about searching show is true: the code runs, the flags exist."""

import doctest
import re
from pathlib import Path

import captioner.inference.phrases
from captioner.commands.parser import Parser
from captioner.commands.search_flags import add_search_arguments

PAGE = Path(__file__).parents[2] / "docs" / "search.md"


def test_the_example_of_a_step_of_ones_own_runs() -> None:
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.attempted >= 8
    assert found.failed == 0


def test_examples_of_wording_run() -> None:
    assert doctest.testmod(captioner.inference.phrases).failed == 0


def test_every_flag_is_told_and_every_flag_told_exists() -> None:
    parser = Parser(prog="captioner")
    add_search_arguments(parser)
    named = re.compile(r"--[a-z][a-z-]*")
    others = {"--attention", "--checkpoint", "--format", "--help", "--seed"}
    flags = set(named.findall(parser.format_help())) - others
    assert set(named.findall(PAGE.read_text())) - others == flags

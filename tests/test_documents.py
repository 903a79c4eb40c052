"""What the papers show is true: commands parse, code imports, files and links exist."""

import ast
import importlib
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import captioner.config.parser
import captioner.study.study_file
from captioner.commands.parser import Parser

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "data" / "README.md"])
TEXTS = [page for page in PAGES if page.name not in ("CHANGELOG.md", "EXPERIMENTS.md")]
"""Pages that say what is; the other two say what was."""

NAMES = [str(page.relative_to(ROOT)) for page in TEXTS]
MOST_WORDS = 1400
"""Of README."""


def blocks(page: Path, *languages: str) -> list[str]:
    """The code blocks of a page in some languages."""
    found = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    return [text for language, text in found if language in languages]


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of each `captioner …` line of a page's shell blocks; `$S` is written out."""
    for block in blocks(page, "bash", "sh", ""):
        variables: dict[str, str] = {}
        for line in block.replace("\\\n", " ").splitlines():
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            words = shlex.split(line, comments=True) if line.strip() else []
            if words and (assigned := re.fullmatch(r"([A-Z]+)=(.*)", words[0])):
                variables[assigned[1]] = assigned[2]
            elif words and words[0] == "captioner":
                yield [word for word in words[1:] if word not in ("…", "...")]


class Parsed(Exception):  # noqa: N818
    """A command has understood its flags."""


@pytest.fixture
def only_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands end as soon as they have understood their flags."""

    def ending(function: Any) -> Any:
        def wrapper(*arguments: Any, **named: Any) -> None:
            function(*arguments, **named)
            raise Parsed

        return wrapper

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(Parser, "parse_args", ending(Parser.parse_args))
    for module, name in (
        (captioner.config.parser, "parse_config"),
        (captioner.study.study_file, "read_study"),
    ):
        monkeypatch.setattr(module, name, ending(getattr(module, name)))


@pytest.mark.usefixtures("only_parsing")
@pytest.mark.parametrize("name", NAMES)
def test_every_command_parses(name: str) -> None:
    for command, *arguments in commands(ROOT / name):
        if command.startswith("-"):
            continue
        run = importlib.import_module(f"captioner.commands.{command}").run
        with pytest.raises(Parsed):
            run(arguments)


def test_commands_are_found() -> None:
    found = [command[0] for name in NAMES for command in commands(ROOT / name)]
    assert len(found) > 40
    assert {"caption", "evaluate", "prepare", "train", "audit", "study", "words"} <= set(found)


@pytest.mark.parametrize("name", NAMES)
def test_scripts_of_commands_exist(name: str) -> None:
    for block in blocks(ROOT / name, "bash", "sh"):
        for script in re.findall(r"\b(?:scripts|configs)/[\w/.]+", block):
            assert (ROOT / script.rstrip(".")).exists(), script


@pytest.mark.parametrize("name", NAMES)
def test_python_compiles_and_its_imports_resolve(name: str) -> None:
    for block in blocks(ROOT / name, "python"):
        if block.startswith(">>>"):  # run by its own test
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)


@pytest.mark.parametrize("name", NAMES)
def test_links_resolve(name: str) -> None:
    page = ROOT / name
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        linked = Path(os.path.normpath(page.parent / file)) if file else page
        assert linked.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", linked.read_text("utf-8"), re.M)
            assert heading in [anchor(title) for title in titles], target


def anchor(title: str) -> str:
    """What a heading is called in links."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= MOST_WORDS


def test_files_of_the_map_exist() -> None:
    [tree] = [text for text in blocks(ROOT / "README.md", "") if text.startswith("captioner/")]
    folders: list[str] = []
    for line in tree.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        assert (ROOT / "".join(folders)).exists(), "".join(folders)
        assert len(line.split()) > 1 or name.endswith("/"), f"{name} has no comment"


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_named_files_exist(name: str) -> None:
    room = ""
    for line in (ROOT / name).read_text("utf-8").splitlines():
        # In a row about a room, `file.py` is a file of that room.
        row = re.match(r"\| `(\w+/)`", line)
        room = row[1] if row else ""
        for quoted in re.findall(r"`([\w/.-]+)`", line):
            if re.search(r"\.(py|md|yaml|sh|toml|lock)$", quoted) or quoted.endswith("/"):
                there = any((place / quoted).exists() for place in (ROOT, ROOT / "captioner"))
                inside = "/" not in quoted[:-1] and any((ROOT / "captioner" / room).rglob(quoted))
                assert there or inside or quoted in ("site/", ".venv/"), quoted


def test_a_typical_change_touches_four_files_at_most() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Where does")[2]
    rows = re.findall(r"^\| (?!change|---)(.*) \|$", section.partition("\n## ")[0], re.M)
    assert len(rows) >= 10
    for row in rows:
        files = re.findall(r"`[\w/]+\.(?:py|md|toml)`", row)
        new = row.count("a new file")
        assert 1 <= len(files) + new <= 4, row


def test_rooms_stand_in_the_order_of_the_import_contract() -> None:
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]
    level = {
        room.strip().removeprefix("captioner."): depth
        for depth, layer in enumerate(contract["layers"])
        for room in layer.split("|")
        if room.strip() != "__main__"
    }
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    rows = re.findall(r"^\| ((?:`[\w/.]+`(?:, )?)+) \|", text, re.M)
    rooms = [re.findall(r"`(\w+)(?:/|\.py)`", row) for row in rows]
    told = [room for row in rooms for room in row if room in level]
    assert set(told) == set(level)
    assert [level[room] for room in told] == sorted(level[room] for room in told)

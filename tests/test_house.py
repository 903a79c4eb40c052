"""The layout of the package: small modules, short functions, few of them at the top."""

import ast
from pathlib import Path

import pytest

import captioner

ROOT = Path(captioner.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
TOP = 8
LINES = 400
FUNCTION_LINES = 80


def lengths(tree: ast.Module) -> dict[str, int]:
    """Lines of each function by name, decorators left out."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.name: (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, functions)
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LINES, "split the module by idea"
    long = {name: n for name, n in lengths(ast.parse(text)).items() if n > FUNCTION_LINES}
    assert not long, "split the function by idea"


def test_every_package_says_what_it_holds() -> None:
    for path in ROOT.rglob("__init__.py"):
        described = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert len(described.splitlines()) >= 3, f"{path.parent.name}: a paragraph is missing"


def test_few_modules_stand_at_the_top() -> None:
    top = {path.stem for path in ROOT.glob("*.py")} - {"__init__", "__main__"}
    assert len(top) <= TOP, sorted(top)


def test_no_test_file_hides_another() -> None:
    """Two files of one name in different folders cannot be collected together."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert len(names) == len(set(names))

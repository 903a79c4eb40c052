"""Which room may import which, and what the command line may not import before it must."""

import subprocess
import sys

import pytest


def modules_after(statement: str) -> set[str]:
    # What the statement itself prints, a help text say, stands before the mark.
    code = f"import sys\n{statement}\nprint('modules:', *sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.rpartition("modules:")[2].split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["caption", "--help"],
        ["evaluate", "--help"],
        ["audit", "--help"],
        ["inspect", "--help"],
        ["study", "--help"],
    ],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    statement = (
        f"from captioner.cli import main\ntry: main({arguments!r})\nexcept SystemExit: pass\n"
    )
    loaded = modules_after(statement)
    assert "captioner.cli" in loaded
    for heavy in ("torch", "numpy", "lightning", "wandb", "nltk", "PIL", "jsonargparse", "yaml"):
        assert heavy not in loaded


def test_training_help_leaves_torch_out() -> None:
    statement = (
        "from captioner.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass\n"
    )
    assert not {"torch", "lightning", "wandb"} & modules_after(statement)


def test_captioning_needs_torch_and_pillow_alone() -> None:
    loaded = modules_after("import captioner.inference.predictor")
    assert "torch" in loaded
    for heavy in ("torchvision", "lightning", "wandb", "nltk", "pycocotools", "jsonargparse"):
        assert heavy not in loaded


def test_nothing_but_the_engine_imports_ray() -> None:
    loaded = modules_after(
        "import importlib, captioner\n"
        "from captioner.commands import COMMANDS\n"
        "for name in COMMANDS:\n"
        "    importlib.import_module(f'captioner.commands.{name}').build_parser()\n"
        "captioner.Predictor\n"
        "import captioner.study.conduct, captioner.features.prepare\n"
    )
    assert not {"ray", "pyarrow", "captioner.cluster"} & loaded


def test_import_contracts() -> None:
    from importlinter.cli import lint_imports

    assert lint_imports(cache_dir=None) == 0

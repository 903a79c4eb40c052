"""The wheel and the source distribution: what they hold, what they declare, and that they run."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import torch
import yaml
from conftest import make_photo, save_checkpoint, tiny_config

import captioner

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution of this tree, and the wheel made of it."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")

    def build(target: str, source: Path) -> None:
        command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
        subprocess.run(command, cwd=source, check=True, capture_output=True)

    build("sdist", ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    build("wheel", folder / sdist.name.removesuffix(".tar.gz"))
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def package_files() -> set[str]:
    """Files of the package and the configurations, without what Python made of them."""
    return {
        path.relative_to(ROOT).as_posix()
        for room in ("captioner", "configs")
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_wheel_and_sdist_carry_every_file(built: tuple[Path, Path]) -> None:
    sdist, wheel = built
    assert wheel.name == f"captioner-{captioner.__version__}-py3-none-any.whl"
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    assert package_files() <= in_sdist
    assert {"README.md", "LICENSE", "requirements.lock", "scripts/setup.sh"} <= in_sdist
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    expected = {re.sub("^configs/", "captioner/configs/", name) for name in package_files()}
    assert expected <= in_wheel
    assert {name.split("/")[0] for name in in_wheel} == {
        "captioner",
        f"captioner-{captioner.__version__}.dist-info",
    }


def test_the_version_stands_in_one_place() -> None:
    assert "version" not in PROJECT["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == captioner.__version__


def test_every_import_is_declared() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    groups = [PROJECT["project"]["dependencies"], *extras]
    declared = {re.split(r"[\[<>=]", line)[0].lower() for group in groups for line in group}
    owners = packages_distributions()
    for path in (ROOT / "captioner").rglob("*.py"):
        for name in third_party(ast.parse(path.read_text())):
            # A package that is not installed here goes by the name that it is imported by.
            distributions = owners.get(name, [name])
            named = {one.lower().replace("_", "-") for one in distributions}
            assert named & declared, f"{path.relative_to(ROOT)} imports {name}"


def test_every_extra_that_a_message_names_exists() -> None:
    declared = set(PROJECT["project"]["optional-dependencies"])
    files = [*(ROOT / "captioner").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]
    named = {
        name.strip()
        for path in [*files, ROOT / "README.md"]
        for names in re.findall(r"captioner\[([a-z0-9, ]+)\]", path.read_text())
        for name in names.split(",")
    }
    assert {"hub", "heic", "pretrained"} <= named <= declared


def third_party(tree: ast.Module) -> set[str]:
    """Top-level names of the packages that a module imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"captioner"}


def test_the_lock_holds_every_dependency_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    locked = set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
    groups = [
        PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"].values(),
        PROJECT["dependency-groups"]["dev"],
    ]
    for line in (line for group in groups for line in group):
        assert re.split(r"[\[<>=]", line)[0].lower() in locked
    assert "://" not in lock


@pytest.mark.slow
def test_the_wheel_runs_in_a_bare_environment(built: tuple[Path, Path], tmp_path: Path) -> None:
    _, wheel = built
    bare = tmp_path / "bare"
    venv.create(bare)
    python = bare / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet", "install"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    # The dependencies are those of this environment, without its link to the checkout.
    (packages,) = (bare / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")

    def run(*arguments: object) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            [bare / "bin" / "captioner", *map(str, arguments)],
            cwd=tmp_path,
            env=environment | {"WANDB_MODE": "disabled"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = "import captioner; print(captioner.__file__)"
    found = subprocess.run([python, "-c", where], cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout.startswith(str(packages))
    assert run("--version") == f"captioner {captioner.__version__}\n"
    photo = make_photo(tmp_path / "photo.png", 0)
    checkpoint = save_checkpoint(tmp_path / "random.ckpt", tiny_config())
    assert run("caption", photo, "--checkpoint", checkpoint).strip()
    few = ("--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2)
    best = run("train", "--config", "shapes", *few, "--trainer.limit_val_batches", 1).strip()
    assert best == "runs/shapes/checkpoints/best.ckpt"
    run("evaluate", "--checkpoint", best, "--split", "test", "--output", "scores.json")
    assert (tmp_path / "scores.json").is_file()

"""The Dockerfile: its lines are run outside Docker, in a folder and an environment of their own."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest
import torch
from conftest import make_photo, save_checkpoint, tiny_config

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile with what stands behind it, in order."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def named(instruction: str) -> list[str]:
    return [rest for name, rest in instructions() if name == instruction]


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in named("COPY"):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored


def test_requirements_are_those_of_the_project() -> None:
    runs = " ".join(named("RUN"))
    for package in ("torch", "torchvision"):
        (asked,) = re.findall(rf'"({package}>=[^"]+)"', runs)
        assert asked in PROJECT["dependencies"]
    (extras,) = re.findall(r'"\.\[(.+?)\]"', runs)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_photos_are_mounted_where_the_command_looks() -> None:
    (command,) = named("CMD")
    assert json.loads(command) == ["caption", "/photos"]
    usage = re.findall(r"^#   (docker run .*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert usage
    assert all(":/photos:ro" in line for line in usage)


@pytest.mark.slow
def test_the_lines_run(tmp_path: Path) -> None:
    hatchling = pytest.importorskip("hatchling")
    work, environment = tmp_path / "captioner", tmp_path / "environment"
    work.mkdir()
    for line in named("COPY"):
        *sources, target = line.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, work / target)
            else:
                shutil.copy(ROOT / source, work / target)
    venv.create(environment, with_pip=True)
    (packages,) = (environment / "lib").glob("python*/site-packages")
    # The dependencies are those of this environment: nothing is downloaded.
    links = {str(Path(module.__file__).parents[1]) for module in (torch, hatchling)}
    (packages / "dependencies.pth").write_text("\n".join(sorted(links)))
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    variables["PATH"] = f"{environment / 'bin'}:{variables['PATH']}"
    variables["TORCH_INDEX"] = ""
    offline = "pip install --no-deps --no-index --no-build-isolation"

    def shell(line: str, where: Path) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["sh", "-e", "-c", line.replace("pip install", offline)],
            cwd=where,
            env=variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done

    for line in named("RUN"):
        if not line.startswith("useradd"):
            shell(line, work)
    shutil.rmtree(work)  # the image works without its sources
    photos = tmp_path / "photos"
    make_photo(photos / "one.png", 1)
    make_photo(photos / "two.jpg", 2)
    checkpoint = save_checkpoint(tmp_path / "random.ckpt", tiny_config())
    (entry,), (command,) = named("ENTRYPOINT"), named("CMD")
    parts = [
        str(photos) if part == "/photos" else part
        for part in json.loads(entry) + json.loads(command)
    ]
    found = shell(shlex.join([*parts, "--checkpoint", str(checkpoint)]), tmp_path)
    assert len(found.stdout.splitlines()) == 2

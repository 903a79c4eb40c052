"""Configurations by name: `--config shapes`."""

import shutil
from pathlib import Path

import pytest

from captioner.config import named
from captioner.config.named import config_folder, config_names, config_path, with_config_paths
from captioner.config.parser import config_parser, parse_config
from captioner.errors import UsageError

CONFIGS = Path(__file__).parents[2] / "configs"


def test_names_are_those_of_the_shipped_files() -> None:
    assert config_names() == sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    assert config_names(studies=True) == sorted(p.stem for p in CONFIGS.glob("study/*.yaml"))


@pytest.mark.parametrize("arguments", [["--config", "shapes"], ["--config=shapes"]])
def test_a_name_is_the_shipped_file(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config, _ = parse_config(config_parser("train", ""), [*arguments, "--seed", "5"])
    assert (config.output, config.seed) == ("runs/shapes", 5)


def test_studies_have_names_of_their_own() -> None:
    path = config_path("seeds", studies=True)
    assert path == config_path("study/seeds", studies=True)
    assert path.read_bytes() == (CONFIGS / "study" / "seeds.yaml").read_bytes()
    with pytest.raises(UsageError, match="no configuration of that name"):
        config_path("shapes", studies=True)


def test_a_file_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("coco").mkdir()  # a folder is no configuration
    assert config_path("coco").name == "coco.yaml"
    Path("shapes").write_text("seed: 3\n")
    assert config_path("shapes") == Path("shapes")
    assert config_path("shapes.yaml") == Path("shapes.yaml")


@pytest.mark.parametrize("given", ["shape", "configs/shapes", "", "../shapes", "SHAPES", "a b"])
def test_unknown_names_list_the_choices(given: str) -> None:
    with pytest.raises(UsageError) as error:
        config_path(given)
    text = str(error.value)
    assert text.startswith(f"--config: no file {given!r} and no configuration of that name")
    assert all(name in text for name in config_names())


def test_only_values_of_config_are_replaced() -> None:
    arguments = ["--output", "shapes", "--config", "shapes", "--config"]
    shapes = str(config_folder() / "shapes.yaml")
    assert with_config_paths(arguments) == ["--output", "shapes", "--config", shapes, "--config"]


def test_a_wheel_carries_them_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "captioner" / "configs"
    shutil.copytree(CONFIGS, inside)
    monkeypatch.setattr(named.captioner, "__file__", str(inside.parent / "__init__.py"))
    assert config_folder() == inside
    assert config_path("flickr8k") == inside / "flickr8k.yaml"

"""Configurations by name: `--config shapes` is `configs/shapes.yaml` of the package or checkout."""

from collections.abc import Sequence
from pathlib import Path

import captioner
from captioner.errors import UsageError, shown, suggestion

SUFFIXES = (".yaml", ".yml")


def config_folder() -> Path:
    """The folder of the configurations that come with captioner.

    A wheel carries them inside the package; a checkout has them beside it.
    """
    package = Path(captioner.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def config_names(*, studies: bool = False) -> list[str]:
    """Names of the configurations that come with captioner: of runs, or of studies."""
    folder = config_folder() / "study" if studies else config_folder()
    return sorted(path.stem for path in folder.glob("*.yaml"))


def config_path(given: str, *, studies: bool = False) -> Path:
    """The file that `--config` names: an existing file, or a configuration by its name.

    A path that ends in `.yaml` or `.yml` is returned as it is.

    Args:
        given: a path, or a name such as `shapes`.
        studies: whether the name is that of a study: `seeds` or `study/seeds`.

    Raises:
        UsageError: neither a file nor a known name; the message lists the names.
    """
    path = Path(given)
    if path.suffix.lower() in SUFFIXES or (path.exists() and not path.is_dir()):
        return path
    names = config_names(studies=studies)
    name = given.removeprefix("study/") if studies else given
    if name in names:
        return config_folder() / ("study" if studies else "") / f"{name}.yaml"
    near = suggestion(name, names)
    near = f"{near} " if near.endswith("?") else ""
    raise UsageError(
        f"--config: no file {shown(given)} and no configuration of that name; "
        f"{near}choose one of {', '.join(names)}"
    )


def with_config_paths(arguments: Sequence[str]) -> list[str]:
    """Arguments with the name after each `--config` replaced by its file.

    Raises:
        UsageError: a name is unknown.
    """
    replaced: list[str] = []
    for i, argument in enumerate(arguments):
        if i and arguments[i - 1] == "--config":
            replaced.append(str(config_path(argument)))
        elif argument.startswith("--config="):
            replaced.append(f"--config={config_path(argument.removeprefix('--config='))}")
        else:
            replaced.append(argument)
    return replaced


def with_start(arguments: Sequence[str]) -> list[str]:
    """Arguments with `--from P` as `--config finetune` at the beginning and the setting it means.

    Later configurations and flags change what `configs/finetune.yaml` sets.

    Raises:
        UsageError: `--from` has no value.

    Example:
        >>> with_start(["--data.root", "photos", "--from", "flickr8k"])
        ['--config', 'finetune', '--data.root', 'photos', '--finetune.checkpoint', 'flickr8k']
    """
    replaced: list[str] = []
    for i, argument in enumerate(arguments):
        if argument == "--from":
            if i + 1 == len(arguments) or arguments[i + 1].startswith("--"):
                raise UsageError("--from: needs a checkpoint, an export or a name such as flickr8k")
            replaced.append("--finetune.checkpoint")
        elif argument.startswith("--from="):
            replaced.append(f"--finetune.checkpoint={argument.removeprefix('--from=')}")
        else:
            replaced.append(argument)
    return replaced if replaced == list(arguments) else ["--config", "finetune", *replaced]

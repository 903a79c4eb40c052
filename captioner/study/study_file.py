"""Read the study file, which lists the configurations to compare, in YAML.

    base: ../flickr8k.yaml            # run configurations in layers, relative to this file's folder
    output: runs/sizes                # folder of the study
    score: CIDEr-D                    # score that sorts the table
    split: val                        # split whose captions are scored
    set: {decoder.dropout: 0.3}       # settings of all runs
    grid:                             # every combination of these ...
      decoder.cell: [lstm, gru]
      decoder.hidden_size: [128, 256]
    runs:                             # ... and these in addition
    - {decoder.cell: gru, decoder.layers: 2}
    seeds: [0, 1, 2]                  # each configuration is run once per seed

To run some configurations with more seeds than others, list `parts`, each a grid or runs with its
own seeds. A run that occurs in two parts is executed once.

    parts:
    - grid: {decoder.cell: [lstm, gru], decoder.place: [init]}
      seeds: [0, 1, 2]
    - grid: {decoder.cell: [lstm, gru], decoder.place: [pre, par, merge]}
      seeds: [0]
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from captioner.config.checks import MAX_SEED
from captioner.config.named import config_names
from captioner.config.parser import (
    config_parser,
    parse_config,
    read_yaml,
    settings,
    suggest_setting,
)
from captioner.config.schema import Config
from captioner.errors import UsageError, suggestion
from captioner.study.plan import Entry, Study, plan

PART_KEYS = ("grid", "runs", "seeds")
STUDY_KEYS = ("base", "output", "score", "split", "set", *PART_KEYS, "parts")
SCORES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D")
SPLITS = ("train", "val", "test")
FLAGS = ("config", "output", "jobs", "devices", "report")
DECIDED = {
    "seed": "seeds are set with `seeds: [0, 1, 2]` in the study file",
    "output": "the study's folder is set with `output` at the top of the study file or --output",
    "trainer.enable_progress_bar": "a study prints one progress line, and its runs no bar",
}
"""Run settings that the study itself determines, each with what to write instead."""


def read_study(path: Path, overrides: Sequence[str] = (), output: str | None = None) -> Study:
    """Read and check a study file.

    Args:
        path: The study file.
        overrides: Settings for all runs, as on the command line: `--dotted.name value`.
        output: Folder of the study; None uses the file's.

    Raises:
        UsageError: A file, key or value is wrong; the message names it.
    """
    given = parse_overrides(overrides)
    values = read_yaml(path)
    try:
        check_keys(values, STUDY_KEYS, "the file")
        entries = list(read_entries(values))
        for name in given:
            if any(name in entry.settings for entry in entries):
                raise UsageError(f"--{name}: the study varies this setting; edit the file instead")
        folder = values.get("output", f"runs/{path.stem}") if output is None else output
        if not isinstance(folder, str) or not folder.strip():
            raise UsageError(f"output: expected the path of a folder, not {folder!r}")
        fixed = check_settings(values.get("set") or {}, "set")
        return Study(
            output=Path(folder),
            score=one_of(values.get("score", "CIDEr-D"), SCORES, "score"),
            split=one_of(values.get("split", "val"), SPLITS, "split"),
            configurations=plan(
                entries,
                base=read_base(values.get("base", []), path.parent),
                fixed={**fixed, **given},
                output=Path(folder),
            ),
        )
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def read_entries(values: Mapping[str, Any]) -> Iterator[Entry]:
    """Yield the configurations of a study file, part by part."""
    seeds = check_seeds(values.get("seeds", [0]), "seeds")
    if "parts" not in values:
        yield from read_part(values, seeds, "")
        return
    for key in ("grid", "runs"):
        if key in values:
            raise UsageError(f"{key}: move it into one of the parts, or remove `parts`")
    for number, part in enumerate(check_list(values["parts"], "parts", "parts"), start=1):
        where = f"part {number}"
        check_keys(part, PART_KEYS, where)
        own = check_seeds(part.get("seeds", seeds), f"{where}, seeds")
        yield from read_part(part, own, f"{where}, ")


def read_part(part: Mapping[str, Any], seeds: Sequence[int], where: str) -> Iterator[Entry]:
    """Yield every combination of the grid, then the runs listed one by one."""
    grid = check_settings(part.get("grid", {}), f"{where}grid")
    for name, choices in grid.items():
        check_list(choices, f"{where}grid {name}", "values")
    if grid or "runs" not in part:
        for choice in product(*grid.values()):
            yield Entry(dict(zip(grid, choice, strict=True)), seeds)
    if "runs" in part:
        for run in check_list(part["runs"], f"{where}runs", "runs"):
            yield Entry(check_settings(run, f"{where}runs"), seeds)


def read_base(names: Any, folder: Path) -> Config:
    """Read the base configuration from its layers.

    A layer is a path relative to the study file's folder, or a configuration by name (`shapes`).
    """
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(
            f"base: expected the path of a run configuration, or a list, not {names!r}"
        )
    known = config_names()
    layers = [
        part
        for name in names
        for part in (
            "--config",
            name if name in known and not (folder / name).exists() else str(folder / name),
        )
    ]
    return parse_config(config_parser("train", ""), layers)[0]


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse settings of a command line, `--name value` or `--name=value`, by dotted name.

    Raises:
        UsageError: A flag is unknown or has no value.
    """
    found: dict[str, Any] = {}
    left = iter(arguments)
    for argument in left:
        flag, equals, value = argument.partition("=")
        name = flag.removeprefix("--")
        if name == flag:
            raise UsageError(
                f"unexpected argument {argument!r}; settings are given as --name value"
            )
        if "." not in name and name not in DECIDED:
            raise UsageError(f"unknown flag --{name}; {suggestion(name, [*FLAGS, *settings()])}")
        check_name(name, f"unknown flag --{name}")
        if not equals:
            value = next(left, "--")
            if value.startswith("--"):
                raise UsageError(f"--{name}: expected a value")
        found[name] = value
    return found


def check_settings(values: Any, where: str) -> dict[str, Any]:
    """Check a mapping from dotted setting names to values."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: expected dotted names and values, not {values!r}")
    for name in values:
        check_name(str(name), f"{where}: unknown setting {name}")
    return dict(values)


def check_name(name: str, complaint: str) -> None:
    """Refuse an unknown setting, and one that the study itself determines."""
    if name in DECIDED:
        raise UsageError(f"{name}: {DECIDED[name]}")
    if name in settings():
        return
    inside = [known for known in settings() if known.startswith(f"{name}.")]
    if inside:
        raise UsageError(f"{complaint}; write the dotted name, for example {inside[0]}")
    raise UsageError(f"{complaint}; {suggest_setting(name)}")


def check_keys(values: Any, known: Sequence[str], where: str) -> None:
    """Refuse anything but a mapping with known keys."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} needs some of {', '.join(known)}, not {values!r}")
    for key in values:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key}; {suggestion(str(key), known)}")


def check_list(values: Any, where: str, what: str) -> list[Any]:
    """Check a list that must not be empty."""
    if not isinstance(values, list) or not values:
        raise UsageError(f"{where}: expected a list of {what}, not {values!r}")
    return values


def check_seeds(values: Any, where: str) -> list[int]:
    """Check distinct whole numbers from 0 to `MAX_SEED`."""
    seeds = check_list(values, where, "whole numbers")
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
            raise UsageError(f"{where}: expected whole numbers from 0 to {MAX_SEED}, not {seed!r}")
    return list(dict.fromkeys(seeds))


def one_of(value: Any, choices: Sequence[str], where: str) -> str:
    """Check that a value is one of the choices."""
    if value not in choices:
        raise UsageError(f"{where}: unknown {value!r}; {suggestion(str(value), choices)}")
    return str(value)

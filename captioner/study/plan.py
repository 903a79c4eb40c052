"""Plan the runs of a study: one complete, checked `Config` per configuration and seed."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from captioner.config.checks import check
from captioner.config.parser import config_parser, in_our_words
from captioner.config.schema import Config
from captioner.config.settings import from_dict
from captioner.errors import UsageError


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        name: Name of its configuration.
        seed: Seed of all its random numbers.
        config: Its complete configuration, whose output is the run's folder.
    """

    name: str
    seed: int
    config: Config

    @property
    def folder(self) -> Path:
        """Folder of the run's files."""
        return Path(self.config.output)

    def __str__(self) -> str:
        return f"{self.name} seed {self.seed}"


@dataclass(frozen=True)
class Configuration:
    """One compared configuration, with a run per seed.

    Attributes:
        name: Name and folder name, made of its settings: "cell=gru,hidden_size=256".
        settings: Its settings, by dotted name.
        runs: One run per seed.
    """

    name: str
    settings: dict[str, Any]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Study:
    """Everything to run and compare.

    Attributes:
        output: Folder of the study.
        score: Score that sorts and compares the configurations.
        split: Split whose captions are scored.
        configurations: Configurations in the order of the file.
    """

    output: Path
    score: str
    split: str
    configurations: tuple[Configuration, ...]

    @property
    def runs(self) -> list[Run]:
        """All runs: the first seed of each configuration, then the second ones, and so on.

        If a study is cut short, every configuration thus has about equally many runs.
        """
        rounds = zip_longest(*(configuration.runs for configuration in self.configurations))
        return [run for one_round in rounds for run in one_round if run is not None]


@dataclass(frozen=True)
class Entry:
    """A configuration in the study file: some settings and their seeds."""

    settings: Mapping[str, Any]
    seeds: Sequence[int]


def plan(
    entries: Iterable[Entry], *, base: Config, fixed: Mapping[str, Any], output: Path
) -> tuple[Configuration, ...]:
    """Turn the entries of a study file into configurations.

    An entry with the same configuration as an earlier one adds its seeds to that one, so that
    overlapping grids train nothing twice.

    Args:
        entries: Entries of the study file.
        base: Configuration that all settings override.
        fixed: Values that all runs share, by dotted name.
        output: Folder of the study.

    Raises:
        UsageError: A value is wrong; the message names the run.
    """
    entries = list(entries)
    short = short_names(name for entry in entries for name in entry.settings)
    parser = config_parser("study", "")
    found: dict[str, tuple[str, Config, Entry]] = {}  # by content
    for entry in entries:
        name = configuration_name(entry.settings, short)
        try:
            config = overlay(parser, base, {**fixed, **entry.settings})
        except UsageError as error:
            raise UsageError(f"run {name}: {error}") from error
        content = json.dumps(asdict(config))
        if content in found:
            name, _, first = found[content]
            seeds = list(dict.fromkeys([*first.seeds, *entry.seeds]))
            found[content] = (name, config, Entry(first.settings, seeds))
        elif name in [other for other, _, _ in found.values()]:
            raise UsageError(f"run {name}: another configuration has the same name")
        else:
            found[content] = (name, config, entry)
    return tuple(
        Configuration(
            name,
            dict(entry.settings),
            tuple(Run(name, seed, for_seed(config, name, seed, output)) for seed in entry.seeds),
        )
        for name, config, entry in found.values()
    )


def for_seed(config: Config, name: str, seed: int, output: Path) -> Config:
    """Return the configuration of one run, with its folder and its W&B name."""
    wandb = replace(
        config.wandb,
        name=config.wandb.name or f"{name} seed {seed}",
        group=config.wandb.group or output.name,
    )
    return replace(config, seed=seed, output=str(output / name / f"seed-{seed}"), wandb=wandb)


def overlay(parser: ArgumentParser, base: Config, changes: Mapping[str, Any]) -> Config:
    """Return a configuration with some settings, by dotted name, changed.

    Raises:
        UsageError: A value has the wrong type or is out of range.
    """
    values = asdict(base)
    # No progress bars in log files; the study prints one progress line itself.
    for name, value in {"trainer.enable_progress_bar": False, **changes}.items():
        *groups, last = name.split(".")
        inner = values
        for group in groups:
            inner = inner[group]
        inner[last] = value
    try:
        config = from_dict(Config, parser.parse_object(values).as_dict())
    except (ArgumentError, TypeError, ValueError) as error:
        raise UsageError(in_our_words(str(error))) from error
    check(config)
    if config.finetune.checkpoint is not None:
        raise UsageError("finetune.checkpoint: a study trains from the start; remove it")
    return config


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Shorten each dotted name to its last part, unless two names share that part."""
    names = set(names)
    ends = [name.rpartition(".")[2] for name in names]
    return {
        name: end if ends.count(end) == 1 else name for name, end in zip(names, ends, strict=True)
    }


def configuration_name(settings: Mapping[str, Any], short: Mapping[str, str]) -> str:
    """Return a readable name that is valid as a file name: "cell=gru,hidden_size=256"."""
    text = ",".join(f"{short[name]}={shown(value)}" for name, value in settings.items())
    return re.sub(r"[^\w.+=,-]+", "-", text) or "base"


def shown(value: Any) -> str:
    """Return a value as YAML."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)

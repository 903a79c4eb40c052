"""The runs of a study: configurations x seeds, each a whole, checked `Config`."""

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
        name: of its configuration.
        seed: of all its random numbers.
        config: the whole of it; its output is the run's folder.
    """

    name: str
    seed: int
    config: Config

    @property
    def folder(self) -> Path:
        """Where the run's files are."""
        return Path(self.config.output)

    def __str__(self) -> str:
        return f"{self.name} seed {self.seed}"


@dataclass(frozen=True)
class Configuration:
    """What is compared: some settings, with a run for each seed.

    Attributes:
        name: the settings that make it, "cell=gru,hidden_size=256"; also the name of its folder.
        settings: these settings, by dotted name.
        runs: one for each seed.
    """

    name: str
    settings: dict[str, Any]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Study:
    """All that is run and compared.

    Attributes:
        output: the study's folder.
        score: what configurations are sorted by and compared under.
        split: the split whose captions are scored.
        configurations: in the order of the file.
    """

    output: Path
    score: str
    split: str
    configurations: tuple[Configuration, ...]

    @property
    def runs(self) -> list[Run]:
        """All runs: the first seed of each configuration, then the second ones, and so on.

        A study that is cut short has each configuration before it has one of them often.
        """
        rounds = zip_longest(*(configuration.runs for configuration in self.configurations))
        return [run for one_round in rounds for run in one_round if run is not None]


@dataclass(frozen=True)
class Entry:
    """A configuration as the study file names it: some settings, to be run with some seeds."""

    settings: Mapping[str, Any]
    seeds: Sequence[int]


def plan(
    entries: Iterable[Entry], *, base: Config, fixed: Mapping[str, Any], output: Path
) -> tuple[Configuration, ...]:
    """Configurations out of the entries of a study file.

    An entry that makes the same run configuration as an earlier one adds its seeds to that one, so
    that overlapping grids cost nothing.

    Args:
        entries: what is compared.
        base: what all settings go over.
        fixed: dotted names and values that all runs share.
        output: the study's folder.

    Raises:
        UsageError: a value is wrong; the message names the run.
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
    """The configuration of one run, with its folder and its name in W&B."""
    wandb = replace(
        config.wandb,
        name=config.wandb.name or f"{name} seed {seed}",
        group=config.wandb.group or output.name,
    )
    return replace(config, seed=seed, output=str(output / name / f"seed-{seed}"), wandb=wandb)


def overlay(parser: ArgumentParser, base: Config, changes: Mapping[str, Any]) -> Config:
    """A configuration with some settings, by dotted name, changed.

    Raises:
        UsageError: a value is of the wrong type or out of range.
    """
    values = asdict(base)
    # A log file is no place for progress bars; the study has one line of its own.
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
    return config


def short_names(names: Iterable[str]) -> dict[str, str]:
    """The last part of each dotted name, or the whole where two end alike."""
    names = set(names)
    ends = [name.rpartition(".")[2] for name in names]
    return {
        name: end if ends.count(end) == 1 else name for name, end in zip(names, ends, strict=True)
    }


def configuration_name(settings: Mapping[str, Any], short: Mapping[str, str]) -> str:
    """A name that a person reads and a file system bears, "cell=gru,hidden_size=256"."""
    text = ",".join(f"{short[name]}={shown(value)}" for name, value in settings.items())
    return re.sub(r"[^\w.+=,-]+", "-", text) or "base"


def shown(value: Any) -> str:
    """A value as YAML writes it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)

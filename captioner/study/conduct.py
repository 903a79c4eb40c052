"""Conduct a study: prepare features once, train all runs, write one table and one page of plots."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

from captioner.config.schema import Config
from captioner.console import StatusLine
from captioner.errors import CaptionerError, UsageError
from captioner.files.lock import take_lock
from captioner.metrics.meteor.data import HOW_TO_GET_IT, find_folder
from captioner.study.plan import Run, Study
from captioner.study.run_folder import read_summary, state_of
from captioner.study.runner import (
    STOPPED,
    InItsOwnProcess,
    InThisProcess,
    Job,
    Progress,
    Start,
    execute,
)
from captioner.training.failures import TerminatedError


def conduct(
    study: Study, *, jobs: int = 1, devices: Sequence[str] = (), start: Start | None = None
) -> Progress:
    """Run the remaining part of a study; it may be killed and resumed at any time.

    Args:
        study: The study.
        jobs: Number of simultaneous runs. A single run is executed in this process if possible.
        devices: Values of CUDA_VISIBLE_DEVICES for the slots; empty leaves it unchanged.
        start: Starts a run elsewhere, such as on a cluster; None starts it on this machine.

    Returns:
        The final progress, including the failed runs.

    Raises:
        UsageError: A folder holds a run with other settings, or the score cannot be computed here.
        CaptionerError: The data set is refused, features cannot be computed, or another process
            conducts the study.
    """
    check_score(study.score)
    left = [run for run in study.runs if state_of(run, study.split) != "done"]
    progress = Progress(total=len(study.runs), done=len(study.runs) - len(left))
    if not left:
        return progress
    threads = max(1, processors() // jobs)

    def start_here(run: Run, slot: int) -> Job:
        if jobs == 1 and not devices and can_share_this_process(run.config):
            return InThisProcess(run, study.split)
        device = devices[slot % len(devices)] if devices else None
        return InItsOwnProcess(run, study.split, threads, device)

    line = StatusLine()
    with held(study), interrupted_by_sigterm(), line:
        prepare_once(study, left)
        execute(
            left,
            start or start_here,
            slots=jobs,
            progress=progress,
            show=lambda now: line.show(now.line()),
            result=lambda run: told_score(run, study.score),
        )
    return progress


def report(study: Study) -> str:
    """Write the table and plots of the finished runs, and return the table as text.

    Raises:
        UsageError: The score cannot be computed here.
        CaptionerError: No run is finished.
    """
    check_score(study.score)
    from captioner.files.atomic import write_whole
    from captioner.study.plots import draw
    from captioner.study.results import rank
    from captioner.study.table import as_content, as_csv, as_table, flat, notes
    from captioner.tables import json_text, render

    ranking = rank(study)
    content = as_content(study, ranking)
    tables, below = [as_table(ranking)], notes(study, ranking)
    heading = f"# {study.output.name}\n\n"
    write_whole(
        study.output / "table.md", heading + render("markdown", tables, below, content) + "\n"
    )
    write_whole(study.output / "table.csv", as_csv(ranking))
    write_whole(study.output / "table.json", json_text(content) + "\n")
    draw(study, ranking)
    log_to_wandb(study, flat(ranking))
    return render("table", tables, below, content)


def log_to_wandb(study: Study, rows: Sequence[Mapping[str, Any]]) -> None:
    """Log the table and plots to Weights & Biases, if the study's runs log there."""
    wandb = study.runs[0].config.wandb
    if wandb.mode == "disabled":
        return  # without importing Lightning
    from captioner.training.wandb_log import log_study

    log_study(study.output, mode=wandb.mode, project=wandb.project, tags=wandb.tags, rows=rows)


def check_score(name: str) -> None:
    """Refuse a score whose data are missing, before training rather than after it.

    Raises:
        UsageError: The message says how to install them.
    """
    if name == "METEOR" and find_folder() is None:
        raise UsageError(f"score: METEOR: its data are not installed ({HOW_TO_GET_IT})")


def prepare_once(study: Study, runs: Sequence[Run]) -> None:
    """Prepare the vocabulary and features of all runs, each distinct configuration once."""
    from captioner.features.prepare import prepare

    prepared: list[Config] = []
    for run in runs:
        config = Config(
            output=str(study.output),
            data=run.config.data,
            vocabulary=run.config.vocabulary,
            encoder=run.config.encoder,
            trainer=replace(Config().trainer, accelerator=run.config.trainer.accelerator),
        )
        if config not in prepared:
            prepared.append(config)
            prepare(config)


def can_share_this_process(config: Config) -> bool:
    """Return whether a run leaves no state behind in the process.

    Training on several devices restarts this program on each of them, and W&B keeps its run open.
    """
    return config.trainer.devices == 1 and config.wandb.mode == "disabled"


def told_score(run: Run, name: str) -> str:
    """Return the score of a finished run, times 100, as text."""
    summary = read_summary(run.folder)
    if summary is None:
        raise CaptionerError(f"{run.folder}: no summary")
    return f"{name} {100 * summary.scores[name]:.1f}"


def processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def held(study: Study) -> Iterator[None]:
    """Lock the study's folder, so that no other process conducts the study at the same time.

    Raises:
        CaptionerError: Another process conducts it.
    """
    study.output.mkdir(parents=True, exist_ok=True)
    with (study.output / "lock").open("ab") as file:
        if not take_lock(file):
            raise CaptionerError(f"{study.output}: another process conducts this study")
        yield


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """End a study and its processes on SIGTERM as on Ctrl-C.

    Raises:
        TerminatedError: The process received SIGTERM.
    """
    asked = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt  # no handler on the way catches it as an ordinary error

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt as error:
        if asked:
            raise TerminatedError(STOPPED) from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)

"""Runs one after another in this process, or several at once in processes of their own."""

import contextlib
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TextIO

from captioner.study.job import arguments_of, carry_out, in_a_line
from captioner.study.plan import Run
from captioner.study.run_folder import forget_failure, read_failure, record_failure
from captioner.training.failures import InterruptedRunError, TerminatedError

POLL_SECONDS = 0.2

STOPPED = "stopped by SIGTERM; the same command goes on"


class Job(Protocol):
    """A run that has been started."""

    def ended(self) -> bool:
        """Whether it has come to an end."""

    def problem(self) -> str | None:
        """Once ended: what went wrong, in a line; None if nothing did."""

    def stop(self) -> None:
        """End it."""


Start = Callable[[Run, int], Job]
"""Starts a run in a slot, counted from 0."""


@dataclass
class Progress:
    """How far a study has come, for one line.

    Attributes:
        total: runs of the study.
        done: runs that are trained and scored, earlier ones included.
        running: runs that go on now.
        failed: runs that ended with an error.
        last: the last run that was done, and its score.
        seconds_left: an estimate, from the runs done since the study was started.
    """

    total: int
    done: int = 0
    running: list[Run] = field(default_factory=list)
    failed: list[Run] = field(default_factory=list)
    last: str = ""
    seconds_left: float | None = None

    def line(self) -> str:
        """The progress for a person."""
        parts = [f"{self.done} of {self.total} runs done", f"{len(self.running)} running"]
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if self.seconds_left is not None and self.running:
            parts.append(f"about {spoken(self.seconds_left)} left")
        if self.last:
            parts.append(f"last: {self.last}")
        return "study: " + ", ".join(parts)


def spoken(seconds: float) -> str:
    """A span of time as a person says it."""
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def execute(
    runs: Sequence[Run],
    start: Start,
    *,
    slots: int,
    progress: Progress,
    show: Callable[[Progress], None],
    result: Callable[[Run], str],
) -> None:
    """Carry out all runs; one that fails is recorded and the others go on.

    Args:
        runs: what is left to do.
        start: starts one; may also carry it out at once.
        slots: how many go on at the same time.
        progress: is kept up to date.
        show: told of every change.
        result: the score of a run that is done, in words.
    """
    waiting = list(runs)
    jobs: dict[int, tuple[Run, Job]] = {}
    begun = time.monotonic()
    ended = 0
    try:
        while waiting or jobs:
            for slot in range(slots):
                if slot in jobs or not waiting:
                    continue
                run = waiting.pop(0)
                forget_failure(run.folder)
                progress.running.append(run)
                show(progress)
                jobs[slot] = (run, start(run, slot))
            for slot, (run, job) in list(jobs.items()):
                if not job.ended():
                    continue
                del jobs[slot]
                progress.running.remove(run)
                problem = job.problem()
                if problem is None:
                    progress.done += 1
                    progress.last = f"{run} {result(run)}"
                else:
                    progress.failed.append(run)
                    progress.last = f"{run} failed: {problem}"
                    record_failure(run.folder, problem)
                ended += 1
                each = (time.monotonic() - begun) / ended
                progress.seconds_left = each * (len(waiting) + len(jobs))
                show(progress)
            if jobs:
                time.sleep(POLL_SECONDS)
    finally:
        for _, job in jobs.values():
            job.stop()


class InThisProcess:
    """A run carried out as soon as it is made: nothing is imported or read twice.

    Args:
        run: what is done.
        split: what is scored.
    """

    def __init__(self, run: Run, split: str) -> None:
        self._problem: str | None = None
        with log_file(run.folder).open("a", encoding="utf-8") as log, spoken_into(log):
            try:
                carry_out(run, split)
            except InterruptedRunError as error:
                raise KeyboardInterrupt from error
            except TerminatedError as error:  # SIGTERM is for the whole study
                raise TerminatedError(STOPPED) from error
            except SystemExit as error:  # how Lightning passes on that it was interrupted
                raise KeyboardInterrupt from error
            except Exception as error:  # whatever it is, the other runs go on
                traceback.print_exc()
                self._problem = in_a_line(error)

    def ended(self) -> bool:
        """Always."""
        return True

    def problem(self) -> str | None:
        """What went wrong."""
        return self._problem

    def stop(self) -> None:
        """Nothing goes on."""


class InItsOwnProcess:
    """A run in another process, which ends with this one.

    Args:
        run: what is done.
        split: what is scored.
        threads: of the process.
        device: what CUDA_VISIBLE_DEVICES is to be; None leaves it alone.
    """

    def __init__(self, run: Run, split: str, threads: int, device: str | None = None) -> None:
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        self._folder = run.folder
        with log_file(run.folder).open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "captioner.study.job", arguments_of(run, split)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def ended(self) -> bool:
        """Whether the process has."""
        return self._process.poll() is not None

    def problem(self) -> str | None:
        """What the process noted, or how it ended, if it failed."""
        self._close()
        code = self._process.returncode
        if code == 0:
            return None
        ending = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return read_failure(self._folder) or ending

    def stop(self) -> None:
        """Ask the process to end, and see that it does."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()


def log_file(folder: Path) -> Path:
    """The file that holds what a run says; its folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "log.txt"


@contextlib.contextmanager
def spoken_into(file: TextIO) -> Iterator[None]:
    """Let all that is printed go to a file."""
    with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield

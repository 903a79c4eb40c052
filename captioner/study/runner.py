"""Execute runs one after another in this process, or several at once in their own processes."""

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

STOPPED = "stopped by SIGTERM; rerun the same command to resume"


class Job(Protocol):
    """A started run."""

    def ended(self) -> bool:
        """Return whether the run has ended."""

    def problem(self) -> str | None:
        """Return the error of an ended run in one line; None if it succeeded."""

    def stop(self) -> None:
        """End the run."""


Start = Callable[[Run, int], Job]
"""Starts a run in a slot; slots are counted from 0."""


@dataclass
class Progress:
    """Progress of a study.

    Attributes:
        total: Number of runs.
        done: Runs that are trained and scored, including earlier ones.
        running: Runs in progress.
        failed: Runs that ended with an error.
        last: The last ended run with its score or error.
        seconds_left: Estimate from the runs since the study was started.
    """

    total: int
    done: int = 0
    running: list[Run] = field(default_factory=list)
    failed: list[Run] = field(default_factory=list)
    last: str = ""
    seconds_left: float | None = None

    def line(self) -> str:
        """Return the progress as one line of text."""
        parts = [f"{self.done} of {self.total} runs done", f"{len(self.running)} running"]
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if self.seconds_left is not None and self.running:
            parts.append(f"about {spoken(self.seconds_left)} left")
        if self.last:
            parts.append(f"last: {self.last}")
        return "study: " + ", ".join(parts)


def spoken(seconds: float) -> str:
    """Return a duration as text."""
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
    """Execute all runs; record a failed run and continue with the others.

    Args:
        runs: Remaining runs.
        start: Starts a run; it may also execute the run before it returns.
        slots: Number of simultaneous runs.
        progress: Updated in place.
        show: Called after every change of the progress.
        result: Returns the score of a finished run as text.
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
    """A run that is executed in this process when the object is created.

    This saves importing modules and reading data again.

    Args:
        run: The run.
        split: Split to score.
    """

    def __init__(self, run: Run, split: str) -> None:
        self._problem: str | None = None
        with log_file(run.folder).open("a", encoding="utf-8") as log, spoken_into(log):
            try:
                carry_out(run, split)
            except InterruptedRunError as error:
                raise KeyboardInterrupt from error
            except TerminatedError as error:  # SIGTERM ends the whole study
                raise TerminatedError(STOPPED) from error
            except SystemExit as error:  # Lightning's form of an interrupt
                raise KeyboardInterrupt from error
            except Exception as error:  # whatever the error, the other runs continue
                traceback.print_exc()
                self._problem = in_a_line(error)

    def ended(self) -> bool:
        """Always."""
        return True

    def problem(self) -> str | None:
        """Return the error in one line; None if the run succeeded."""
        return self._problem

    def stop(self) -> None:
        """Do nothing: the run has already ended."""


class InItsOwnProcess:
    """A run in another process, which ends with this one.

    Args:
        run: The run.
        split: Split to score.
        threads: Number of CPU threads of the process.
        device: Value of CUDA_VISIBLE_DEVICES; None leaves it unchanged.
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
        """Return whether the process has ended."""
        return self._process.poll() is not None

    def problem(self) -> str | None:
        """Return the error that the process recorded, or its exit status if it failed."""
        self._close()
        code = self._process.returncode
        if code == 0:
            return None
        ending = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return read_failure(self._folder) or ending

    def stop(self) -> None:
        """Terminate the process, and kill it if it does not end."""
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
    """Return the path of a run's log file; create its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "log.txt"


@contextlib.contextmanager
def spoken_into(file: TextIO) -> Iterator[None]:
    """Redirect all printed output to a file."""
    with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield

#!/usr/bin/env python3
"""Kill commands at random moments, rerun them, and compare with the undisturbed result.

    python scripts/fault_drill.py --kills 50            every drill, 50 kills each
    python scripts/fault_drill.py train --kills 200

A round starts a command with a fresh output and kills it repeatedly (with SIGKILL, SIGINT or
SIGTERM, as the drill allows), until the planned number of kills is reached or the command ends by
itself. Otherwise the round lets the last run finish. If a drill locks its output, a second run is
started beside the last one and must be refused. After each kill, the remaining files must be
complete. After the round, the output must equal that of an undisturbed command.

Half of the kills come at a random moment of the command's run time, the others within milliseconds
after a change of its output. Only kills that meet a live command count, and rounds are repeated
until there are enough. Commands run in forks of this process, so that kills rarely hit imports.

The killed commands are in `drilled_commands.py`. To add a drill, write a class there and name it in
`DRILLS`.
"""

import argparse
import math
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from drilled_commands import DRILLS, Drill

from captioner.cli import main as run_captioner
from captioner.evaluation import report  # noqa: F401
from captioner.inference import split  # noqa: F401  # loaded before the forks, not in each
from captioner.training import run  # noqa: F401


@dataclass
class Outcome:
    """Result of a drill.

    Attributes:
        kills: Kills that met a live command.
        writing: Kills after the command had changed its output since its start.
        rounds: Completed rounds.
        seconds: Run time of the undisturbed command.
        changes: Changes of its output observed in that time.
        failures: Descriptions of wrong results.
    """

    kills: int = 0
    writing: int = 0
    rounds: int = 0
    seconds: float = 0.0
    changes: int = 0
    failures: list[str] = field(default_factory=list)


def carry_out(drill: Drill, kills: int, seed: int, folder: Path) -> Outcome:
    """Kill a command `kills` times."""
    draw = random.Random(seed)
    expected, log = folder / "expected", folder / "log.txt"
    end(start(lambda: drill.make(folder), log), log)
    drill.begin(folder, expected)
    outcome, begun = Outcome(), time.monotonic()
    child = start(partial(run_captioner, drill.command(folder, expected)), log)
    outcome.changes = watch(child, expected)
    end(child, log, drill.exit_code)
    outcome.seconds = time.monotonic() - begun
    while outcome.kills < kills:
        output = folder / f"round{outcome.rounds}"
        command = partial(run_captioner, drill.command(folder, output))
        drill.begin(folder, output)
        outcome.rounds += 1
        wrong = []
        try:
            for _ in range(min(draw.randint(1, 5), kills - outcome.kills)):
                before = state_of(output)
                child = start(command, log)
                if not killed(child, output, outcome, draw, drill):
                    break
                outcome.kills += 1
                outcome.writing += state_of(output) != before
                wrong += drill.remnants(expected, output)
            child = start(command, log)
            if drill.locks:
                wrong += second_run(child, command, output, log)
            end(child, log, drill.exit_code)
            wrong += drill.differences(expected, output)
        except Exception as error:  # report any error and start the next round
            wrong.append(f"{type(error).__name__}: {error}")
        outcome.failures += [f"{output.name}: {text}" for text in wrong]
    return outcome


def start(work: Callable[[], int | None], log: Path) -> int:
    """Run a function in a fork, append its output to a file, and return the process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        with log.open("a", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            code = work() or 0
            sys.stdout.flush()
            sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def end(child: int, log: Path, expected: int = 0) -> None:
    """Wait for a process, which must end with an exit code.

    Raises:
        RuntimeError: It ended with another code; the message has the end of its output.
    """
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != expected:
        raise RuntimeError(f"exit code {code}: {log.read_text(encoding='utf-8')[-2000:]}")


def second_run(child: int, command: Callable[[], int], output: Path, log: Path) -> list[str]:
    """Start a second run on the output of a live one; return what is wrong unless it is refused."""
    watch(child, output, changes=1)
    other = start(command, log)
    code = os.waitstatus_to_exitcode(os.waitpid(other, 0)[1])
    if alive(child) and code != 1:
        return [f"a second run on the same output ended with exit code {code}"]
    return []


def killed(child: int, output: Path, usual: Outcome, draw: random.Random, drill: Drill) -> bool:
    """Kill a command at a random moment; return False if it had already ended."""
    if draw.random() < 0.5:
        watch(child, output, seconds=usual.seconds * draw.random())
    else:
        watch(child, output, changes=draw.randint(1, max(1, usual.changes)))
        time.sleep(0.003 * draw.random())
    number = draw.choice(drill.signals)
    os.kill(child, number)  # an ended process exists until it is waited for
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code in (-number, 128 + number)


def watch(child: int, output: Path, *, changes: float = math.inf, seconds: float = math.inf) -> int:
    """Wait for output changes, a time or the command's end; return the number of changes seen."""
    seen, state, until = 0, state_of(output), time.monotonic() + seconds
    while seen < changes and alive(child) and time.monotonic() < until:
        time.sleep(0.0002)
        before, state = state, state_of(output)
        seen += state != before
    return seen


def alive(child: int) -> bool:
    """Return whether a process is still running; it can be waited for afterwards."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of all files in a folder, at any depth."""
    state = {}
    for at, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(at, name)  # noqa: PTH118  # quick: asked a thousand times a second
            try:
                status = os.stat(path)  # noqa: PTH116
            except FileNotFoundError:  # it was just renamed
                continue
            state[path] = status.st_size, status.st_mtime_ns
    return state


def main() -> int:
    """Run the drills; return 1 if a result was wrong."""
    parser = argparse.ArgumentParser(description="Kill commands at random moments, and compare.")
    parser.add_argument(
        "drills", nargs="*", metavar="DRILL", help=f"any of {', '.join(DRILLS)}; default: all"
    )
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="per drill; default: 50")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments; default: 0")
    options = parser.parse_args()
    for name in options.drills:
        if name not in DRILLS:
            parser.error(f"unknown drill {name!r}; choose from {', '.join(DRILLS)}")
    torch.set_num_threads(1)  # a fork has no other threads
    failed = False
    for name in options.drills or DRILLS:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.monotonic()
            outcome = carry_out(DRILLS[name], options.kills, options.seed, Path(folder))
        seconds = time.monotonic() - begun
        print(
            f"{name}: {outcome.kills} kills in {outcome.rounds} rounds of a command of "
            f"{outcome.seconds:.1f} s, {outcome.writing} of them after it had begun to write, "
            f"{len(outcome.failures)} differences, {seconds:.0f} s",
            flush=True,
        )
        for failure in outcome.failures:
            print(f"  {failure}")
        failed |= bool(outcome.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Kills commands at random moments, starts them again, and compares with the undisturbed result.

    python scripts/fault_drill.py --kills 50            every drill, 50 kills each
    python scripts/fault_drill.py train --kills 200

A round starts a command with a fresh output and kills it (SIGKILL) at a random moment, again and
again, until it was killed as often as planned or has ended by itself; then it is left to end. What
it leaves must be what it leaves undisturbed. Rounds go on until there were enough kills. The
commands run in forks of this process, so that the kills fall into their work, not into imports.

A new drill is a class with the three methods of `Drill`, named in `DRILLS`.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from captioner.cli import main as run_captioner
from captioner.training import trainer  # noqa: F401  # loaded before the forks, not in each


class Drill(Protocol):
    """A command that is killed."""

    def make(self, folder: Path) -> None:
        """Write the input of the command."""

    def command(self, folder: Path, output: Path) -> list[str]:
        """Arguments of `captioner`, the same at the first start and after each kill."""

    def differences(self, expected: Path, found: Path) -> list[str]:
        """In what an output is not the undisturbed one; empty if in nothing."""


@dataclass
class Outcome:
    """What a drill came to."""

    kills: int = 0
    rounds: int = 0
    failures: list[str] = field(default_factory=list)


class TrainDrill:
    """`captioner train --resume auto`: weights, optimiser, log and the best checkpoint."""

    def make(self, folder: Path) -> None:
        """Twelve noisy pictures with captions, a random encoder, and the features."""
        from torchvision import models

        torch.manual_seed(0)
        torch.save(models.squeezenet1_1().state_dict(), folder / "encoder.pth")
        lines = []
        for i in range(12):
            noise = np.random.default_rng(i).integers(0, 256, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(noise).save(folder / f"{i}.png")
            words = ("dog", "cat", "bird")[i % 3], ("runs", "sleeps")[i // 3 % 2]
            captions = [f"a {words[0]} {words[1]}", f"the {words[0]} that {words[1]} is red"]
            split = "train" if i < 9 else "val"
            lines.append(json.dumps({"image": f"{i}.png", "captions": captions, "split": split}))
        (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        _, *settings = self.command(folder, folder / "prepared")
        end(start(["prepare", *settings[:-2]], folder / "prepare.log"), folder / "prepare.log")

    def command(self, folder: Path, output: Path) -> list[str]:
        """A run of 50 steps with dropout, a plateau schedule and the gradient watched."""
        settings = {
            "output": output,
            "data.format": "jsonl",
            "data.root": folder,
            "data.features": folder / "features",
            "data.batch_size": 2,
            "vocabulary.min_count": 1,
            "encoder.name": "squeezenet1_1",
            "encoder.weights": folder / "encoder.pth",
            "encoder.size": 48,
            "decoder.embedding_size": 8,
            "decoder.hidden_size": 16,
            "optimization.schedule": "plateau",
            "optimization.warmup_steps": 7,
            "search.beam_size": 2,
            "trainer.max_epochs": 10,
            "trainer.accelerator": "cpu",
            "trainer.enable_progress_bar": "false",
            "trainer.log_every_n_steps": 1,
            "checkpoint.every_steps": 3,
            "watch.gradient_every": 4,
            "watch.gradient_steps": 2,
            "wandb.mode": "disabled",
        }
        flags = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
        return ["train", *flags, "--resume", "auto"]

    def differences(self, expected: Path, found: Path) -> list[str]:
        """States to the bit, rows to the letter; clocks apart."""
        different = []
        for name in ("last.ckpt", "best.ckpt"):
            one, two = (
                torch.load(run / "checkpoints" / name, weights_only=True)
                for run in (expected, found)
            )
            parts = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "counts", "epoch")
            different += [f"{name}: {part}" for part in parts if not same(one[part], two[part])]
        one, two = (rows_of(run / "metrics.csv") for run in (expected, found))
        if one != two:
            different.append(f"metrics.csv: {len(one)} and {len(two)} rows")
        if rows_of(expected / "gradients.csv") != rows_of(found / "gradients.csv"):
            different.append("gradients.csv")
        return different


DRILLS: dict[str, Drill] = {"train": TrainDrill()}


def same(one: Any, two: Any) -> bool:
    """Whether nested states are equal, tensors to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file without the clock's column."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "words_per_second"} for row in rows]


def start(arguments: Sequence[str], log: Path) -> int:
    """Run a command in a fork; what it says is appended to a file. Returns its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        with log.open("a", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            code = run_captioner(arguments)
            sys.stdout.flush()
            sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def end(child: int, log: Path) -> None:
    """Wait for a command that must succeed.

    Raises:
        RuntimeError: it did not; the end of what it said.
    """
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 0:
        raise RuntimeError(f"exit code {code}: {log.read_text(encoding='utf-8')[-2000:]}")


def killed(child: int, after: float) -> bool:
    """Kill a command after some seconds; False if it had ended before, and well."""
    time.sleep(after)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def carry_out(drill: Drill, kills: int, seed: int, folder: Path) -> Outcome:
    """Kill a command `kills` times."""
    draw = random.Random(seed)
    drill.make(folder)
    expected, log = folder / "expected", folder / "log.txt"
    begun = time.monotonic()
    end(start(drill.command(folder, expected), log), log)
    whole = time.monotonic() - begun
    outcome = Outcome()
    while outcome.kills < kills:
        output = folder / f"round{outcome.rounds}"
        command = drill.command(folder, output)
        outcome.rounds += 1
        for _ in range(min(draw.randint(1, 5), kills - outcome.kills)):
            if not killed(start(command, log), whole * draw.random() ** 2):
                break
            outcome.kills += 1
        try:
            end(start(command, log), log)
            different = drill.differences(expected, output)
        except (RuntimeError, OSError) as error:
            different = [str(error)]
        outcome.failures += [f"{output.name}: {text}" for text in different]
    return outcome


def main() -> int:
    """Carry out the drills; returns 1 if an outcome was not the undisturbed one."""
    parser = argparse.ArgumentParser(description="Kill commands at random moments, and compare.")
    parser.add_argument("drills", nargs="*", metavar="DRILL", help=f"of {', '.join(DRILLS)}; all")
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="of each drill; 50")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments; 0")
    options = parser.parse_args()
    for name in options.drills:
        if name not in DRILLS:
            parser.error(f"no drill {name!r}; choose of {', '.join(DRILLS)}")
    torch.set_num_threads(1)  # a fork has no other threads
    failed = False
    for name in options.drills or DRILLS:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.monotonic()
            outcome = carry_out(DRILLS[name], options.kills, options.seed, Path(folder))
        seconds = time.monotonic() - begun
        print(
            f"{name}: {outcome.kills} kills in {outcome.rounds} rounds, "
            f"{len(outcome.failures)} differences, {seconds:.0f} s",
            flush=True,
        )
        for failure in outcome.failures:
            print(f"  {failure}")
        failed |= bool(outcome.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Execute one run of a study: train or resume it, then score it.

The module is also a program. A study starts it for each run in its own process.
"""

import json
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict

from captioner.config.schema import Config
from captioner.config.settings import from_dict
from captioner.errors import CaptionerError
from captioner.files.atomic import write_whole
from captioner.study.plan import Run
from captioner.study.run_folder import (
    Summary,
    read_curves,
    record_failure,
    state_of,
)
from captioner.tables import json_text
from captioner.training.failures import TerminatedError
from captioner.training.run_files import last_checkpoint


def carry_out(run: Run, split: str) -> None:
    """Train and score a run, as far as that is not done yet.

    Raises:
        CaptionerError: Training or scoring failed.
    """
    from captioner.evaluation.report import report_on
    from captioner.study.scoring import caption_stored
    from captioner.training.lightning_setup import is_rank_zero
    from captioner.training.run import train

    folder, state = run.folder, state_of(run, split)
    folder.mkdir(parents=True, exist_ok=True)
    if state in ("new", "started"):
        best = train(run.config, last_checkpoint(folder) if state == "started" else None)
        if not is_rank_zero():
            return
        write_whole(folder / "trained", f"checkpoints/{best.name}\n")
    if state != "done":
        checkpoint = folder / (folder / "trained").read_text(encoding="utf-8").strip()
        trained = caption_stored(run.config, checkpoint, split)
        report, curves = report_on(trained.system), read_curves(folder)
        write_whole(folder / "captions.json", trained.system.results())
        write_whole(folder / "per_image.jsonl", report.per_image(as_csv=False))
        summary = Summary(
            split=split,
            scores=report.content()["scores"],
            recipe=report.content()["recipe"],
            parameters=trained.parameters,
            words_per_second=curves.median_speed,
            best_epoch=trained.epoch + 1,
            epochs=len(curves.val_loss),
        )
        write_whole(folder / "summary.json", json_text(asdict(summary)) + "\n")


def in_a_line(error: Exception) -> str:
    """Return an exception as one line, with its type unless it is a `CaptionerError`."""
    text = " ".join(str(error).split())
    return text if isinstance(error, CaptionerError) else f"{type(error).__name__}: {text}"


def arguments_of(run: Run, split: str) -> str:
    """Encode a run as one command-line argument of the program."""
    return json.dumps({"name": run.name, "split": split, "config": asdict(run.config)})


def main(arguments: Sequence[str]) -> None:
    """Execute the run given as the only argument; end early if the study ends."""
    values = json.loads(arguments[0])
    config = from_dict(Config, values["config"])
    threading.Thread(target=end_with_the_study, daemon=True).start()
    run = Run(values["name"], config.seed, config)
    try:
        carry_out(run, values["split"])
    except TerminatedError as error:  # not a failure: the study resumes the run later
        sys.exit(error.exit_code)
    except Exception as error:  # the study reports any error as one line
        record_failure(run.folder, in_a_line(error))
        raise


def end_with_the_study() -> None:
    """End this process when the study's end of the pipe closes, even if the study is killed."""
    # Not sys.stdin.read(): its lock would still be held at exit and crash the interpreter.
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])

"""The command line: one function a command.

Arguments are parsed before anything heavy is imported, so that `--help` and a mistyped flag
answer at once. Exit codes: 0 all went well; 1 something could not be done (the rest was); 2 the
call itself was wrong.
"""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from captioner import __version__
from captioner.config import DataConfig
from captioner.decoding.options import LENGTH_NORMS
from captioner.errors import CaptionerError, UsageError, suggestion
from captioner.photo_paths import image_of_photo
from captioner.reporting import (
    add_report_flags,
    check_report_flags,
    evaluate_files,
    report_captioned,
)

if TYPE_CHECKING:
    from captioner.decoding.options import SearchOptions
    from captioner.predictor import Captioned, Predictor

FORMATS = ("text", "jsonl", "csv", "coco")

HELP = """\
usage: captioner COMMAND ...

CNN + RNN image captioning: train, search, score, compare.

commands:
  prepare   vocabulary and image features of a data set
  train     train a captioner
  evaluate  score a checkpoint on a split, or a file of captions
  caption   write captions for photos
  study     train a grid of configurations x seeds and compare them

`captioner COMMAND --help` tells the rest.

options:
  -h, --help   show this text
  --version    show the version
  --debug      show a traceback where something goes wrong (before or after the command)

exit codes: 0 all went well; 1 something could not be done; 2 the call was wrong
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        return run(given)
    except CaptionerError as error:
        return failed(str(error), error.exit_code, debug)
    except KeyboardInterrupt:
        return failed("interrupted", 130, debug)
    except BrokenPipeError:  # whoever read our output has had enough: `captioner … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that may not be written
        where = f"{error.filename}: " if error.filename else ""
        return failed(f"{where}{error.strerror or error}", 1, debug)


def run(arguments: list[str]) -> int:
    """Hand over to the command that was named."""
    commands = {
        "prepare": prepare_command,
        "train": train_command,
        "evaluate": evaluate_command,
        "caption": caption_command,
        "study": study_command,
    }
    if not arguments:
        print(HELP, file=sys.stderr, end="")
        return 2
    name, *rest = arguments
    if name in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if name == "--version":
        print(f"captioner {__version__}")
        return 0
    if name not in commands:
        kind = "option" if name.startswith("-") else "command"
        raise UsageError(f"unknown {kind} {name!r}; {suggestion(name, list(commands))}")
    return commands[name](rest)


def prepare_command(arguments: list[str]) -> int:
    """`captioner prepare`: vocabulary and features."""
    from captioner.config_parser import config_parser, parse_config

    parser = config_parser("prepare", "Write the vocabulary and the features of all photos.")
    config, _ = parse_config(parser, arguments)

    from captioner.preparation import prepare

    prepare(config)
    return 0


def train_command(arguments: list[str]) -> int:
    """`captioner train`: train, validate, keep the best and the last checkpoint."""
    from captioner.config_parser import config_parser, parse_config

    parser = config_parser("train", "Train a captioner; run `captioner prepare` first.")
    parser.add_argument(
        "--resume", type=str, default=None, metavar="PATH", help="Checkpoint to go on from."
    )
    config, parsed = parse_config(parser, arguments)
    resume = None if parsed.resume is None else Path(parsed.resume)
    if resume is not None and not resume.is_file():
        raise UsageError(f"--resume: no checkpoint {resume}")

    from captioner.training.trainer import train

    best = train(config, resume)
    print(best)
    return 0


def evaluate_command(arguments: list[str]) -> int:
    """`captioner evaluate`: scores of a checkpoint on a split, or of a file of captions."""
    parser = Parser(
        prog="captioner evaluate",
        description="Score captions: of a checkpoint on a split of its data set, or of a file. "
        "Tables show scores times 100; files hold them as the COCO tool gives them.",
    )
    parser.add_argument("--checkpoint", metavar="P", help="checkpoint to evaluate")
    parser.add_argument(
        "--split", choices=("train", "val", "test"), default="test", help="default: test"
    )
    parser.add_argument("--results", metavar="R.json", help="captions in COCO's result format")
    parser.add_argument("--references", metavar="A.json", help="references in COCO's format")
    add_report_flags(parser)
    add_search_flags(parser)
    for field in fields(DataConfig):
        if field.type in ("str", "str | None", str, str | None) or field.name == "on_problem":
            parser.add_argument(
                f"--data.{field.name}",
                metavar="VALUE",
                help="instead of the checkpoint's setting" if field.name == "root" else None,
            )
    options = parser.parse_args(arguments)
    check_report_flags(options)
    if options.checkpoint is None:
        evaluate_files(options)
        return 0

    from captioner.evaluation_run import caption_split

    predictor = load_predictor(options)
    overrides = {
        field.name: value
        for field in fields(DataConfig)
        if (value := getattr(options, f"data.{field.name}", None)) is not None
    }
    captioned, unreadable = caption_split(
        predictor,
        Path(options.checkpoint),
        replace(predictor.trained.config.data, **overrides),
        options.split,
        options.batch_size,
    )
    report_captioned(captioned, options)
    for path, reason in unreadable:
        print(f"captioner: {path}: {reason}", file=sys.stderr)
    return 1 if unreadable else 0


def caption_command(arguments: list[str]) -> int:
    """`captioner caption`: a caption for each photo."""
    parser = Parser(
        prog="captioner caption",
        description="Write a caption for each photo, in the order given. A photo that cannot be "
        "read gets a record with the reason, and the exit code is 1.",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="photos, folders, globs; - reads a list of paths"
    )
    parser.add_argument("--checkpoint", required=True, metavar="P", help="trained checkpoint")
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    parser.add_argument("--output", metavar="F", help="write there instead of to the terminal")
    add_search_flags(parser)
    parser.add_argument(
        "--n-best", type=positive, default=1, metavar="N", help="captions a photo (jsonl)"
    )
    options = parser.parse_args(arguments)

    from captioner.photo_paths import expand

    predictor = load_predictor(options)
    photos = expand(options.paths, sys.stdin)
    unreadable = count = 0
    with destination(options.output) as file:
        writer = RecordWriter(file, options.format, options.n_best)
        for captioned in predictor.caption(photos, batch_size=options.batch_size):
            writer.write(captioned)
            count += 1
            if captioned.error is not None:
                unreadable += 1
                if options.format == "coco" or options.output:
                    print(f"captioner: {captioned.path}: {captioned.error}", file=sys.stderr)
        writer.finish()
    if count == 0:
        raise CaptionerError("no photo found in what was named")
    if unreadable:
        print(f"captioner: {unreadable} of {count} photos could not be read", file=sys.stderr)
    return 1 if unreadable else 0


def study_command(arguments: list[str]) -> int:
    """`captioner study`: configurations x seeds, one table, one page of plots."""
    parser = Parser(
        prog="captioner study",
        description="Train every configuration of a study file with every seed, score the best "
        "checkpoints, and say which differences are more than noise. What is done is kept: the "
        "same command goes on where a study was killed. Every setting of `captioner train`, "
        "--data.root say, may be given too and goes to all runs.",
    )
    parser.add_argument("--config", required=True, metavar="C", help="study file (YAML)")
    parser.add_argument("--output", metavar="FOLDER", help="the study's folder")
    parser.add_argument(
        "--jobs",
        type=positive,
        metavar="N",
        help="runs at once; default: one for each device, or 1",
    )
    parser.add_argument(
        "--devices", metavar="0,1,…", help="GPUs that the runs are spread over; default: any"
    )
    parser.add_argument(
        "--report", action="store_true", help="redo table and plots from what is there"
    )
    options, rest = parser.parse_known_args(arguments)
    devices = [] if options.devices is None else options.devices.split(",")
    if not all(device.strip() for device in devices):
        raise UsageError(f"--devices: expected names of GPUs as 0,1, not {options.devices!r}")

    from captioner.study.study_file import read_study

    study = read_study(Path(options.config), rest, output=options.output)

    from captioner.study.conduct import conduct, report

    failed = 0
    if not options.report:
        jobs = options.jobs or max(1, len(devices))
        failed = len(conduct(study, jobs=jobs, devices=devices).failed)
    print(report(study))
    if failed:
        print(
            f"captioner: {failed} of {len(study.runs)} runs failed; the table says why",
            file=sys.stderr,
        )
    return 1 if failed else 0


class RecordWriter:
    """Writes captions as text, JSON Lines, CSV or a COCO result file.

    Args:
        file: where to.
        form: one of `FORMATS`.
        n_best: captions a photo; more than one are held by JSON Lines alone.
    """

    def __init__(self, file: IO[str], form: str, n_best: int = 1) -> None:
        import csv

        self.file = file
        self.form = form
        self.n_best = n_best
        self.started = False
        self.csv = csv.writer(file, lineterminator="\n")
        if form == "csv":
            self.csv.writerow(("image", "caption", "error"))

    def write(self, captioned: "Captioned") -> None:
        """Write one record and let it be read at once."""
        path, caption, error = str(captioned.path), captioned.caption, captioned.error
        if self.form == "text":
            self.file.write(f"{path}\t{caption if error is None else f'error: {error}'}\n")
        elif self.form == "csv":
            self.csv.writerow((path, caption or "", error or ""))
        elif self.form == "jsonl":
            self.file.write(self._json(captioned) + "\n")
        elif error is None:  # a COCO result file has no place for errors
            record = {"image_id": image_of_photo(captioned.path), "caption": caption}
            self.file.write(",\n" if self.started else "[\n")
            self.file.write(json.dumps(record, ensure_ascii=False))
            self.started = True
        self.file.flush()

    def finish(self) -> None:
        """Write what closes the file."""
        if self.form == "coco":
            self.file.write("\n]\n" if self.started else "[]\n")

    def _json(self, captioned: "Captioned") -> str:
        record: dict[str, Any] = {"image": str(captioned.path)}
        if captioned.error is not None:
            record["error"] = captioned.error
        else:
            record["caption"] = captioned.caption
            record["log_prob"] = round(captioned.candidates[0].log_prob, 6)
            if self.n_best > 1:
                record["candidates"] = [
                    {
                        "caption": candidate.caption,
                        "log_prob": round(candidate.log_prob, 6),
                        "score": round(candidate.score, 6),
                    }
                    for candidate in captioned.candidates
                ]
        # A file name that is not valid UTF-8 arrives with lone surrogates; escaped, it is JSON.
        try:
            text = json.dumps(record, ensure_ascii=False)
            text.encode()
        except UnicodeEncodeError:
            text = json.dumps(record)
        return text


@contextmanager
def destination(name: str | None) -> Iterator[IO[str]]:
    """Standard output, or a file that appears under its name only when it is whole."""
    if name is None:
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
        yield sys.stdout
        return
    path = Path(name)
    if not path.parent.is_dir():
        raise UsageError(f"--output: no folder {path.parent}")
    draft = path.with_name(path.name + ".part")
    try:
        with draft.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of the search, the batch and the device."""
    parser.add_argument(
        "--beam-size", type=positive, metavar="K", help="hypotheses kept; 1 is greedy search"
    )
    parser.add_argument("--max-length", type=positive, metavar="T", help="words at most")
    parser.add_argument(
        "--length-norm", choices=LENGTH_NORMS, help="what ranks captions of different length"
    )
    parser.add_argument(
        "--batch-size", type=positive, default=32, metavar="N", help="photos at once; default: 32"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")


def load_predictor(options: argparse.Namespace) -> "Predictor":
    """The predictor that flags ask for; what they leave open is as the checkpoint says."""
    from captioner.predictor import Predictor

    predictor = Predictor.load(options.checkpoint, device=options.device)
    predictor.search = chosen_search(predictor.search, options)
    return predictor


def chosen_search(default: "SearchOptions", options: argparse.Namespace) -> "SearchOptions":
    """Search options with those that were given on the command line."""
    given = {
        name: value
        for name in ("beam_size", "max_length", "length_norm", "n_best")
        if (value := getattr(options, name, None)) is not None
    }
    if given.get("n_best", 1) > given.get("beam_size", default.beam_size):
        given.setdefault("beam_size", given["n_best"])
    return replace(default, **given)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are one line with the nearest right flag."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        if message.startswith("unrecognized arguments: "):
            flag = message.removeprefix("unrecognized arguments: ").split()[0].split("=")[0]
            flags = [name for name in self._option_string_actions if name.startswith("--")]
            message = f"unknown flag {flag}; {suggestion(flag, flags)}"
        raise UsageError(f"{self.prog}: {message}")


def failed(message: str, code: int, debug: bool) -> int:
    """Say in one line what went wrong."""
    if debug:
        traceback.print_exc()
    print(f"captioner: error: {' '.join(message.split())}", file=sys.stderr)
    return code

"""The command line: one function a command.

Arguments are parsed before anything heavy is imported, so that `--help` and a mistyped flag
answer at once. Exit codes: 0 all went well; 1 something could not be done (the rest was); 2 the
call itself was wrong; 143 SIGTERM ended `train`, which wrote a checkpoint first.
"""

import os
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from captioner import __version__
from captioner.argument_parser import Parser, positive
from captioner.captioning import caption_command
from captioner.config import DataConfig
from captioner.errors import CaptionerError, UsageError, suggestion
from captioner.predictor_arguments import add_run_arguments, load_predictor
from captioner.reporting import (
    add_report_flags,
    check_report_flags,
    evaluate_files,
    report_captioned,
)
from captioner.search_arguments import add_search_arguments, flag
from captioner.tables import FORMATS as TABLE_FORMATS
from captioner.tables import json_text, render
from captioner.whole_file import check_folder, write_whole

HELP = """\
usage: captioner COMMAND ...

CNN + RNN image captioning: train, search, score, compare.

commands:
  audit     look through a data set for leaks between splits, and for what is broken
  prepare   vocabulary and image features of a data set
  train     train a captioner
  evaluate  score a checkpoint on a split, or a file of captions
  caption   write captions for photos
  study     train a grid of configurations x seeds and compare them
  words     neighbours of a word in a checkpoint's embeddings; export them
  export    a checkpoint as safetensors and JSON

`captioner COMMAND --help` tells the rest.

options:
  -h, --help   show this text
  --version    show the version
  --debug      show a traceback where something goes wrong (before or after the command)

exit codes: 0 all went well; 1 something could not be done; 2 the call was wrong;
143 `train` was asked to end (SIGTERM), and can go on from its checkpoint
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
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        told = str(error) or type(error).__name__
        right = "make --batch-size or --beam-size smaller, in training data.batch_size"
        return failed(f"memory ran out ({told}); {right}", 1, debug)


def run(arguments: list[str]) -> int:
    """Hand over to the command that was named."""
    commands = {
        "audit": audit_command,
        "prepare": prepare_command,
        "train": train_command,
        "evaluate": evaluate_command,
        "caption": caption_command,
        "study": study_command,
        "words": words_command,
        "export": export_command,
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


def audit_command(arguments: list[str]) -> int:
    """`captioner audit`: what is wrong with a data set; exit code 1 if there is a leak."""
    parser = Parser(
        prog="captioner audit",
        description="Look through a data set for photos and captions shared between splits, "
        "held-out words in the vocabulary, and what is missing, empty, doubled or unreadable. "
        "The exit code is 1 if there is a leak.",
        epilog="The data set is named as for `captioner prepare`: --config C, --data.root FOLDER …",
    )
    parser.add_argument("--format", choices=TABLE_FORMATS, default="table", help="default: table")
    parser.add_argument("--output", metavar="F", help="write all that was found as JSON")
    parser.add_argument(
        "--radius",
        type=int,
        default=10,
        metavar="N",
        help="bits of 128 in which photos that look alike may differ; default: 10",
    )
    parser.add_argument(
        "--vocabulary",
        metavar="F",
        help="vocabulary to check; default: vocabulary.txt in the run's folder, if it is there",
    )
    options, settings = parser.parse_known_args(arguments)
    check_folder(options.output, "--output")

    from captioner.config_parser import config_parser, parse_config

    config, _ = parse_config(config_parser("audit", ""), settings)

    from captioner.audit import audit
    from captioner.data.near_duplicates import MAX_RADIUS

    if not 0 <= options.radius <= MAX_RADIUS:
        raise UsageError(f"--radius: {options.radius} is not between 0 and {MAX_RADIUS}")
    vocabulary = Path(options.vocabulary or Path(config.output, "vocabulary.txt"))
    if options.vocabulary is not None and not vocabulary.is_file():
        raise UsageError(f"--vocabulary: no file {vocabulary}")
    found = audit(config.data, vocabulary, radius=options.radius)
    if options.output is not None:
        write_whole(Path(options.output), json_text(found.content()) + "\n")
    print(render(options.format, found.tables(), found.summary(), found.content()))
    return 1 if found.leaks else 0


def prepare_command(arguments: list[str]) -> int:
    """`captioner prepare`: vocabulary and features."""
    from captioner.config_parser import config_parser, parse_config

    parser = config_parser("prepare", "Write the vocabulary and the features of all photos.")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="Read all stored features and tell which are damaged; the next run computes those.",
    )
    parser.add_argument(
        "--share",
        type=str,
        default=None,
        metavar="I/N",
        help="Compute every N-th photo from the I-th on; other processes compute the rest.",
    )
    config, parsed = parse_config(parser, arguments)
    share = None if parsed.share is None else share_of(parsed.share)

    from captioner.preparation import prepare, verify

    if parsed.verify:
        return 0 if verify(config) else 1
    prepare(config, share)
    return 0


def share_of(text: str) -> tuple[int, int]:
    """The two numbers of `--share 2/4`.

    Raises:
        UsageError: it is none.
    """
    numbers = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if numbers is None or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise UsageError(f"--share: expected I/N, as 2/4 for the second of four, not {text!r}")
    return int(numbers[1]), int(numbers[2])


def train_command(arguments: list[str]) -> int:
    """`captioner train`: train, validate, keep the best and the last checkpoint."""
    from captioner.config_parser import config_parser, parse_config

    parser = config_parser("train", "Train a captioner; run `captioner prepare` first.")
    parser.add_argument(
        "--resume",
        type=str,
        default=None,
        metavar="PATH",
        help="Checkpoint to go on from; auto is the last one of the output, if there is one.",
    )
    config, parsed = parse_config(parser, arguments)

    from captioner.training.run_files import to_resume

    resume = to_resume(Path(config.output), parsed.resume)

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
    parser.add_argument(
        "--checkpoint",
        action="append",
        metavar="P",
        help="checkpoint to evaluate; several are an ensemble",
    )
    parser.add_argument(
        "--split", choices=("train", "val", "test"), help="of the data set; default: test"
    )
    parser.add_argument("--results", metavar="R.json", help="captions in COCO's result format")
    parser.add_argument("--references", metavar="A.json", help="references in COCO's format")
    add_report_flags(parser)
    add_run_arguments(parser)
    of_checkpoint = ["split", *add_search_arguments(parser)]
    for field in fields(DataConfig):
        if field.type in (str, str | None) or field.name in ("format", "on_problem"):
            of_checkpoint.append(f"data.{field.name}")
            parser.add_argument(
                f"--data.{field.name}",
                metavar="VALUE",
                help="instead of the checkpoint's setting" if field.name == "root" else None,
            )
    options = parser.parse_args(arguments)
    check_report_flags(options)
    if options.checkpoint is None:
        for name in of_checkpoint:
            # (of a file --n-best says how many captions an image may have)
            if getattr(options, name) is not None and name != "n_best":
                raise UsageError(
                    f"evaluate: {flag(name)} goes with --checkpoint; captions of a file are there "
                    f"already"
                )
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
        replace(predictor.trained.config.data, **overrides),
        options.split or "test",
        options.batch_size,
    )
    report_captioned(captioned, options)
    for path, reason in unreadable:
        print(f"captioner: {path}: {reason}", file=sys.stderr)
    return 1 if unreadable else 0


def study_command(arguments: list[str]) -> int:
    """`captioner study`: configurations x seeds, one table, one page of plots."""
    parser = Parser(
        prog="captioner study",
        description="Train every configuration of a study file with every seed, score the best "
        "checkpoints, and say which differences are more than noise. What is done is kept: the "
        "same command goes on where a study was killed. Ends in table.md, table.csv, table.json, "
        "plots.png and plots.svg in the study's folder. Every setting of `captioner train`, "
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
            f"captioner: {failed} of {len(study.runs)} runs failed; the table says why, and the "
            "log.txt of each says more",
            file=sys.stderr,
        )
    return 1 if failed else 0


def words_command(arguments: list[str]) -> int:
    """`captioner words`: what a checkpoint has learned of words."""
    parser = Parser(
        prog="captioner words",
        description="Show the words whose embeddings are nearest to a word's, or export all.",
    )
    parser.add_argument("--checkpoint", required=True, metavar="P", help="trained checkpoint")
    parser.add_argument(
        "--nearest", action="append", default=[], metavar="WORD", help="may be given several times"
    )
    parser.add_argument(
        "--count", type=positive, default=10, metavar="N", help="neighbours shown; default: 10"
    )
    parser.add_argument(
        "--export", metavar="F", help="write all embeddings as text, in word2vec's format"
    )
    options = parser.parse_args(arguments)
    if not options.nearest and options.export is None:
        raise UsageError("words: give --nearest WORD, --export F, or both")
    check_folder(options.export, "--export")

    from captioner import checkpoint, words

    trained = checkpoint.load(Path(options.checkpoint))
    for word in options.nearest:
        neighbours = words.nearest(trained, word, options.count)
        print(f"{word}: " + ", ".join(f"{near} {cosine:.2f}" for near, cosine in neighbours))
    if options.export is not None:
        words.export(trained, Path(options.export))
    return 0


def export_command(arguments: list[str]) -> int:
    """`captioner export`: a checkpoint as files that hold no pickle."""
    parser = Parser(
        prog="captioner export",
        description="Write a checkpoint as weights.safetensors and captioner.json. The folder is "
        "taken wherever a checkpoint is.",
    )
    parser.add_argument("--checkpoint", required=True, metavar="P", help="trained checkpoint")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="new or empty folder")
    options = parser.parse_args(arguments)

    from captioner import checkpoint

    checkpoint.export(Path(options.checkpoint), Path(options.output))
    return 0


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, of the machine or of the device."""
    # By name: torch is not imported here.
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


def failed(message: str, code: int, debug: bool) -> int:
    """Say in one line what went wrong."""
    if debug:
        traceback.print_exc()
    print(f"captioner: error: {' '.join(message.split())}", file=sys.stderr)
    return code

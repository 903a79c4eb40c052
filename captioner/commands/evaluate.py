"""`captioner evaluate`: score a checkpoint on a split, or a file of captions."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.commands.parser import CHECKPOINT_HELP, Parser
from captioner.commands.predictor_flags import add_run_arguments, load_predictor
from captioner.commands.search_flags import add_search_arguments, flag
from captioner.commands.split_flags import add_split_arguments, chosen_data
from captioner.console import warn
from captioner.errors import UsageError
from captioner.files.atomic import check_folder, write_output
from captioner.tables import FORMATS, json_text, render

if TYPE_CHECKING:
    from captioner.checkpoint.file import Checkpoint
    from captioner.evaluation.comparison import ComparisonReport
    from captioner.evaluation.report import Report, Section, SystemCaptions

TOKENIZERS = ("ptb", "toktok", "tweet", "wordpunct", "cjk")
"""Tokenizers of `captioner.text.word_tokenizers`, which is not imported before parsing."""

MAX_RESAMPLES = 10**6
"""Upper limit; more resamples take hours and do not improve the result."""


def run(arguments: list[str]) -> int:
    """Score a checkpoint on a split, or a file of captions."""
    options = build_parser().parse_args(arguments)
    check_report_flags(options)
    if options.checkpoint is None:
        for name in options.of_checkpoint:
            # For a file, --n-best states how many captions an image may have.
            if getattr(options, name) is not None and name != "n_best":
                raise UsageError(
                    f"evaluate: {flag(name)} needs --checkpoint; a file already holds its captions"
                )
        evaluate_files(options)
        return 0

    from captioner.inference.split import caption_split

    def regions(trained: "Checkpoint") -> str | None:
        return chosen_data(options, trained.config.data).regions

    predictor = load_predictor(options, regions)
    system, unreadable = caption_split(
        predictor,
        chosen_data(options, predictor.trained.config.data),
        options.split or "test",
        options.batch_size,
    )
    report_system(system, options)
    for path, reason in unreadable:
        warn(f"{path}: {reason}")
    return 1 if unreadable else 0


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(
        prog="captioner evaluate",
        description="Score captions of a checkpoint on a split of its data set, or of a file. "
        "Tables show scores times 100; files use the scale of the COCO tool.",
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        metavar="P",
        help=f"{CHECKPOINT_HELP}; repeat it for an ensemble",
    )
    of_split = add_split_arguments(parser)
    parser.add_argument(
        "--results",
        metavar="R",
        help="captions to score: COCO results, JSON Lines, CSV, TSV, or a folder from `caption`",
    )
    parser.add_argument(
        "--references",
        metavar="A",
        help="references: COCO or Karpathy JSON, JSON Lines, Flickr8k.token.txt, CSV or TSV",
    )
    add_report_flags(parser)
    add_run_arguments(parser)
    of_checkpoint = [*of_split, *add_search_arguments(parser)]
    parser.set_defaults(of_checkpoint=of_checkpoint)
    return parser


def add_report_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that select what is reported and where it is written."""
    group = parser.add_argument_group("report")
    group.add_argument(
        "--compare",
        nargs="+",
        metavar="R.json",
        help="result files to compare pairwise; join several runs of one system with commas, and "
        "name systems with NAME=: lstm=A1.json,A2.json gru=B1.json,B2.json",
    )
    group.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help="one or more of BLEU, METEOR, ROUGE-L, CIDEr-D (these four are the default), CIDEr, "
        "SPICE, METEOR-Java; METEOR needs captioner[meteor], SPICE and METEOR-Java also Java",
    )
    group.add_argument("--format", choices=FORMATS, default="table", help="default: table")
    group.add_argument("--output", metavar="F", help="write the whole report to F as JSON")
    group.add_argument("--captions", metavar="F", help="write the captions as COCO results")
    group.add_argument(
        "--per-image", metavar="F.jsonl|F.csv", help="write each image's scores to F"
    )
    group.add_argument(
        "--bleu-smoothing",
        type=int,
        choices=(1, 2, 3, 4),
        metavar="1-4",
        help="smoothing method of Chen & Cherry (nltk) for each image's BLEU in --per-image; the "
        "BLEU of the whole set is never smoothed",
    )
    group.add_argument(
        "--tokenizer",
        choices=TOKENIZERS,
        help="word tokenizer; default: the checkpoint's, or ptb as in the COCO tool",
    )
    group.add_argument(
        "--intervals", action="store_true", help="add 95 %% confidence intervals over images"
    )
    group.add_argument(
        "--resamples",
        type=int,
        default=1000,
        metavar="N",
        help="resamples of intervals and comparisons; default: 1000",
    )
    group.add_argument(
        "--describe",
        action="store_true",
        help="add length, variety, novelty and faults of captions, with --n-best also their spread",
    )
    group.add_argument(
        "--training-captions",
        metavar="A.json",
        help="COCO captions that --describe counts as known; default: those of the checkpoint",
    )
    group.add_argument(
        "--instances",
        metavar="F.json",
        help="COCO instance annotations; adds recall and hallucination of mentioned objects",
    )
    group.add_argument(
        "--subset", action="store_true", help="skip images that have no caption in the files"
    )


def check_report_flags(options: argparse.Namespace) -> None:
    """Refuse, before any work, what could not be done after it.

    Raises:
        UsageError: The message names the flag and the remedy.
    """
    given = {
        "--checkpoint": options.checkpoint is not None,
        "--results": options.results is not None,
        "--compare": options.compare is not None,
    }
    if sum(given.values()) != 1:
        raise UsageError(
            "evaluate: give --checkpoint P, or --results R.json --references A.json, "
            "or --compare R.json R2.json --references A.json"
        )
    [source] = [flag for flag, is_given in given.items() if is_given]
    if source == "--checkpoint" and options.references is not None:
        raise UsageError(
            "evaluate: --references needs --results or --compare; a checkpoint's captions are "
            "scored against its data set (--data.root, --split)"
        )
    if source != "--checkpoint" and options.references is None:
        raise UsageError(f"evaluate: {source} needs --references A.json")
    for option in ("--output", "--captions", "--per-image"):
        name = getattr(options, option[2:].replace("-", "_"))
        check_folder(name, option)
        if name is not None and source == "--compare" and option != "--output":
            raise UsageError(f"{option} describes one system; remove it or --compare")
    if options.metrics is not None:
        from captioner.evaluation.scores import check_metrics

        check_metrics(options.metrics)
    if source == "--compare":
        for flag in ("--describe", "--instances", "--n-best"):
            if getattr(options, flag[2:].replace("-", "_")):
                raise UsageError(f"{flag} describes one system; remove it or --compare")
    if options.training_captions is not None and not options.describe:
        raise UsageError("--training-captions: needs --describe; add --describe")
    for flag in ("--training-captions", "--instances"):
        name = getattr(options, flag[2:].replace("-", "_"))
        if name is not None and not Path(name).is_file():
            raise UsageError(f"{flag}: no such file: {name}")
    if options.bleu_smoothing is not None and options.per_image is None:
        raise UsageError("--bleu-smoothing: smooths only the BLEU of each image; add --per-image F")
    if options.tokenizer is not None and source == "--compare":
        raise UsageError("--tokenizer: needs --results or --checkpoint; remove it")
    if options.resamples < 1:
        raise UsageError(f"--resamples {options.resamples}: must be at least 1")
    if options.resamples > MAX_RESAMPLES:
        raise UsageError(f"--resamples {options.resamples}: must be at most {MAX_RESAMPLES}")
    if options.subset and source == "--checkpoint":
        raise UsageError("--subset: applies to files; a checkpoint captions every image; remove it")


def evaluate_files(options: argparse.Namespace) -> None:
    """Score or compare files of captions, and report the results."""
    references = Path(options.references)
    if options.compare is None:
        from captioner.evaluation.report import read_system

        system = read_system(
            Path(options.results),
            references,
            n_best=options.n_best or 1,
            subset=options.subset,
        )
        report_system(system, options)
        return

    from captioner.evaluation.comparison import compare_systems
    from captioner.evaluation.systems import read_systems

    systems, recipe = read_systems(
        options.compare, references, metrics=options.metrics, subset=options.subset
    )
    report = compare_systems(
        systems,
        resamples=options.resamples,
        seed=options.seed,
        with_intervals=options.intervals,
        recipe=recipe,
    )
    tell(report, options)


def report_system(system: "SystemCaptions", options: argparse.Namespace) -> None:
    """Score captions and report the results."""
    from captioner.evaluation.report import report_on

    files = {
        name: Path(path).name
        for name in ("training_captions", "instances")
        if (path := getattr(options, name)) is not None
    }
    system = replace(
        system,
        recipe={**system.recipe, **files},
        tokenizer=options.tokenizer or system.tokenizer,
    )
    report = report_on(
        system,
        metrics=options.metrics,
        resamples=options.resamples if options.intervals else None,
        seed=options.seed,
        bleu_smoothing=options.bleu_smoothing,
    )
    report = replace(report, sections=tuple(sections(system, options)))
    if options.captions is not None:
        rows = [{"image_id": i, "caption": text} for i, text in system.captions.items()]
        text = json.dumps(rows, ensure_ascii=False, indent=0)
        write_output(options.captions, text + "\n")
    if options.per_image is not None:
        path = Path(options.per_image)
        write_output(path, report.per_image(as_csv=path.suffix == ".csv"))
    tell(report, options)


def sections(system: "SystemCaptions", options: argparse.Namespace) -> Iterator["Section"]:
    """Yield the requested sections of the report besides the scores."""
    from captioner.evaluation.description import description_section, objects_section
    from captioner.evaluation.references import read_references

    if options.describe:
        training, vocabulary = system.training, system.vocabulary
        if options.training_captions is not None:
            groups = read_references(options.training_captions).values()
            training = tuple(caption for group in groups for caption in group)
        yield description_section(system, training=training, vocabulary=vocabulary)
    if options.instances is not None:
        yield objects_section(system, Path(options.instances))


def tell(report: "Report | ComparisonReport", options: argparse.Namespace) -> None:
    """Print a report, and write it as JSON if `--output` is given."""
    content = report.content()
    if options.output is not None:
        write_output(options.output, json_text(content) + "\n")
    print(render(options.format, report.tables(), report.notes(), content))

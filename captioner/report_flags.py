"""What `captioner evaluate` tells and how: its flags, and the writing of what they ask for.

Read before any command is known, so argparse alone is imported here.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.errors import UsageError
from captioner.tables import FORMATS, json_text, render
from captioner.whole_file import check_folder, write_whole

if TYPE_CHECKING:
    from captioner.evaluation.report import CaptionedSet, Report


def add_report_flags(parser: argparse.ArgumentParser) -> None:
    """Flags for what is told and how."""
    group = parser.add_argument_group("what is told, and how")
    group.add_argument("--format", choices=FORMATS, default="table", help="default: table")
    group.add_argument("--output", metavar="F", help="write all of it as JSON")
    group.add_argument("--captions", metavar="F", help="write the captions as COCO results")
    group.add_argument(
        "--per-image", metavar="F.jsonl|F.csv", help="write each image's scores: JSON Lines or CSV"
    )
    group.add_argument(
        "--intervals", action="store_true", help="95 %% confidence intervals, images resampled"
    )
    group.add_argument("--resamples", type=int, default=1000, metavar="N", help="default: 1000")
    group.add_argument("--seed", type=int, default=0, metavar="S", help="of resampling; default: 0")
    group.add_argument(
        "--subset", action="store_true", help="leave out images without a caption in --results"
    )


def check_report_flags(options: argparse.Namespace) -> None:
    """Refuse, before any work, what could not be done after it.

    Raises:
        UsageError: with the flag and what would be right.
    """
    for flag in ("--output", "--captions", "--per-image"):
        check_folder(getattr(options, flag[2:].replace("-", "_")), flag)
    if options.resamples < 1:
        raise UsageError(f"--resamples: {options.resamples} is not a number of at least 1")
    if options.seed < 0:
        raise UsageError(f"--seed: {options.seed} is not a number of at least 0")
    if options.subset and options.checkpoint is not None:
        raise UsageError("--subset belongs to --results; a checkpoint captions every image")


def write_report(report: "Report", captioned: "CaptionedSet", options: argparse.Namespace) -> None:
    """Print what is told, and write the files that were asked for, each whole or not at all."""
    if options.captions is not None:
        write_whole(Path(options.captions), captioned.results())
    if options.per_image is not None:
        path = Path(options.per_image)
        write_whole(path, report.per_image(as_csv=path.suffix == ".csv"))
    content = report.content()
    if options.output is not None:
        write_whole(Path(options.output), json_text(content) + "\n")
    print(render(options.format, report.tables(), report.notes(), content))

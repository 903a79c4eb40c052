"""`captioner report`: a page about the captions of one or more models, opened from disk."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.commands.evaluate import MAX_RESAMPLES, TOKENIZERS
from captioner.commands.parser import CHECKPOINT_HELP, Parser
from captioner.commands.predictor_flags import add_run_arguments, load_predictor
from captioner.commands.search_flags import add_search_arguments, flag
from captioner.commands.split_flags import add_split_arguments, chosen_data
from captioner.console import say, warn
from captioner.errors import UsageError

if TYPE_CHECKING:
    from captioner.checkpoint.file import Checkpoint
    from captioner.config.schema import DataConfig
    from captioner.inference.predictor import Predictor
    from captioner.pages.report_analysis import Material


def run(arguments: list[str]) -> int:
    """Write a report."""
    options = build_parser().parse_args(arguments)
    check_arguments(options)

    from dataclasses import replace

    from captioner.pages.report import write_report
    from captioner.pages.report_sources import with_annotations

    material, unreadable = read_material(options)
    material = with_annotations(
        material,
        instances=None if options.instances is None else Path(options.instances),
        training=None if options.training_captions is None else Path(options.training_captions),
    )
    if options.tokenizer is not None:
        models = [
            replace(one, system=replace(one.system, tokenizer=options.tokenizer))
            for one in material.models
        ]
        material = replace(material, models=tuple(models))
    folder = Path(options.output)
    write_report(
        folder,
        material,
        metrics=options.metrics,
        resamples=options.resamples,
        seed=options.seed,
    )
    say(f"open {folder / 'index.html'} in a browser")
    for path, reason in unreadable:
        warn(f"{path}: {reason}")
    return 1 if unreadable else 0


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(
        prog="captioner report",
        description="Write a folder with a page about the captions of one or more models: scores, "
        "tests, distributions, faults and a gallery. It opens from disk, without a network.",
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        metavar="[NAME=]P",
        help=f"{CHECKPOINT_HELP}, which captions the split; repeat it to compare models",
    )
    of_split = add_split_arguments(parser)
    parser.add_argument(
        "--results",
        action="append",
        metavar="[NAME=]R",
        help="captions: COCO results, JSON Lines (with n-best lists and attention, if "
        "`caption` wrote them), CSV, TSV, or a folder from `caption`; repeat it to compare models",
    )
    parser.add_argument(
        "--references",
        metavar="A",
        help="references of --results: COCO or Karpathy JSON, JSON Lines, Flickr8k.token.txt, CSV "
        "or TSV",
    )
    parser.add_argument("--images", metavar="FOLDER", help="photos of --results, at any depth")
    parser.add_argument(
        "--output", required=True, metavar="FOLDER", help="where to; an older report is replaced"
    )
    group = parser.add_argument_group("report")
    group.add_argument("--title", metavar="TEXT", help="title of the page")
    group.add_argument("--metrics", nargs="+", metavar="NAME", help="as in `captioner evaluate`")
    group.add_argument(
        "--resamples",
        type=int,
        default=1000,
        metavar="N",
        help="resamples of intervals and tests; default: 1000",
    )
    group.add_argument("--instances", metavar="F.json", help="COCO instances: objects to filter by")
    group.add_argument(
        "--training-captions",
        metavar="A.json",
        help="captions that count as copied; default: those of the data set, if it has any",
    )
    group.add_argument("--tokenizer", choices=TOKENIZERS, help="as in `captioner evaluate`")
    group.add_argument(
        "--subset", action="store_true", help="skip images that have no caption in the files"
    )
    add_run_arguments(parser)
    parser.set_defaults(of_checkpoint=[*of_split, *add_search_arguments(parser)])
    return parser


def check_arguments(options: argparse.Namespace) -> None:
    """Refuse, before any work, what could not be done after it.

    Raises:
        UsageError: The message names the flag and the remedy.
    """
    from captioner.pages.report import MOST_MODELS, check_output

    given = options.checkpoint or options.results or []
    if (options.checkpoint is None) == (options.results is None):
        raise UsageError(
            "report: give --checkpoint P, or --results R.json --references A.json "
            "(each may be repeated)"
        )
    if len(given) > MOST_MODELS:
        raise UsageError(f"report: {len(given)} models; at most {MOST_MODELS}")
    if options.results is None:
        for name in ("references", "images", "subset"):
            if getattr(options, name):
                raise UsageError(
                    f"report: {flag(name)} needs --results; a checkpoint's data set has its own"
                )
    else:
        if options.references is None:
            raise UsageError("report: --results needs --references A.json")
        for name in options.of_checkpoint:
            if getattr(options, name) is not None and name != "n_best":
                raise UsageError(
                    f"report: {flag(name)} needs --checkpoint; a file already holds its captions"
                )
    if options.images is not None and not Path(options.images).is_dir():
        raise UsageError(f"--images: no folder {options.images}")
    for name in ("instances", "training_captions"):
        path = getattr(options, name)
        if path is not None and not Path(path).is_file():
            raise UsageError(f"{flag(name)}: no such file: {path}")
    if not 1 <= options.resamples <= MAX_RESAMPLES:
        raise UsageError(f"--resamples {options.resamples}: must be from 1 to {MAX_RESAMPLES}")
    if options.metrics is not None:
        from captioner.evaluation.scores import check_metrics

        check_metrics(options.metrics)
    check_output(Path(options.output))


def read_material(options: argparse.Namespace) -> "tuple[Material, list[tuple[Path, str]]]":
    """Read captions from files, or let checkpoints write them."""
    from captioner.pages.report_sources import from_checkpoints, from_files, named_sources

    if options.results is not None:
        results = named_sources(options.results, "--results")
        material = from_files(
            results,
            Path(options.references),
            title=options.title or " and ".join(name for name, _ in results),
            images=None if options.images is None else Path(options.images),
            n_best=options.n_best,
            subset=options.subset,
        )
        return material, []
    split = options.split or "test"
    checkpoints = named_sources(options.checkpoint, "--checkpoint")
    return from_checkpoints(
        predictors(checkpoints, options),
        split,
        title=options.title or f"{' and '.join(name for name, _ in checkpoints)}: {split}",
        batch_size=options.batch_size,
    )


def predictors(
    checkpoints: list[tuple[str, Path]], options: argparse.Namespace
) -> "Iterator[tuple[str, Predictor, DataConfig]]":
    """Yield each model with its data set; one is in memory at a time."""
    from captioner.pages.report_sources import with_candidates

    def regions(trained: "Checkpoint") -> str | None:
        return chosen_data(options, trained.config.data).regions

    for name, path in checkpoints:
        of_one = argparse.Namespace(**vars(options) | {"checkpoint": [str(path)]})
        predictor = load_predictor(of_one, regions)
        data = chosen_data(options, predictor.trained.config.data)
        several = options.n_best is None
        yield name, with_candidates(predictor, several=several, regions=data.regions), data

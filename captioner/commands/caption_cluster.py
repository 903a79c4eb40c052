"""`captioner caption --engine ray`: its flags, and the call of `captioner.cluster`."""

from argparse import ArgumentParser, Namespace

from captioner.commands.caption_run import (
    SHARD_SIZE,
    ending,
    lists_candidates,
    recipe_of,
)
from captioner.commands.cluster_flags import add_engine_arguments, check_engine
from captioner.commands.predictor_flags import load_predictor
from captioner.console import say
from captioner.errors import UsageError

_ONE_MACHINE = ("sidecar", "gallery", "attention_figures", "devices", "share", "regions")
"""Flags, as names of parsed arguments, that need the photos or the files on this machine."""


def add_cluster_arguments(parser: ArgumentParser) -> None:
    """Add the flags of a cluster."""
    group = parser.add_argument_group(
        "many machines",
        "Caption on a Ray cluster. Photos and --output may then be in object storage "
        "(s3://bucket/photos/, gs://…), and inputs may be Parquet files.",
    )
    add_engine_arguments(group, "--actors", "networks")
    group.add_argument(
        "--column",
        metavar="C",
        help="column of Parquet files with file contents, paths or URIs; default: by its name",
    )
    group.add_argument(
        "--id-column", metavar="C", help="column of ids in Parquet files; default: file#row"
    )


def check_cluster_arguments(options: Namespace) -> None:
    """Refuse flags that contradict one another.

    Raises:
        UsageError: The first contradiction.
    """
    if options.engine != "ray":
        check_engine(options)
        for name in ("column", "id_column"):
            if getattr(options, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')}: requires --engine ray")
        if options.format == "parquet":
            raise UsageError("--format parquet: requires --engine ray")
        return
    if options.workers:
        raise UsageError("--workers: Ray decides how many tasks decode; leave it out")
    if options.format not in (None, "jsonl", "parquet"):
        raise UsageError(
            f"--format {options.format}: --engine ray writes jsonl or parquet; choose one of them"
        )
    if options.output is None:
        raise UsageError(
            "--engine ray: writes a folder; add --output FOLDER/ or s3://bucket/folder/"
        )
    check_engine(options, *_ONE_MACHINE)


def caption_on_ray(options: Namespace) -> int:
    """Caption on a cluster, and return the exit code."""
    from captioner.photos.inputs import check_lists

    check_lists(options.paths, options.list)
    device, options.device = options.device, "cpu"
    predictor = load_predictor(options)
    from captioner.cluster.caption import Task, caption_on_cluster
    from captioner.cluster.photos import Columns, units

    columns = Columns(options.column, options.id_column)
    recipe = recipe_of(options)
    if columns != Columns():
        recipe["columns"] = [columns.photo, columns.id]
    task = Task(
        output=options.output,
        form=options.format,
        size=options.shard_size or SHARD_SIZE,
        recipe=recipe,
        checkpoints=options.checkpoint,
        backward=options.backward,
        candidates=lists_candidates(options),
        batch_size=options.batch_size,
        device=device,
        actors=options.actors,
        address=options.address,
    )
    found = units(
        options.paths,
        lists=options.list,
        images=options.images,
        columns=columns,
        allow_url=options.allow_url,
        note=say,
    )
    output = caption_on_cluster(task, predictor, found)
    return ending(output.count, output.errors)

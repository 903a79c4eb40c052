"""`captioner study`: train a grid of configurations with several seeds, and compare them."""

from captioner.commands.cluster_flags import add_engine_arguments, check_engine
from captioner.commands.parser import Parser, positive
from captioner.console import warn
from captioner.errors import UsageError


def run(arguments: list[str]) -> int:
    """Conduct a study; return 1 if a run failed, otherwise 0."""
    options, rest = build_parser().parse_known_args(arguments)
    devices = [] if options.devices is None else options.devices.split(",")
    if not all(device.strip() for device in devices):
        raise UsageError(f"--devices {options.devices!r}: expected GPU numbers such as 0,1")

    from captioner.config.named import config_path
    from captioner.study.study_file import read_study

    study = read_study(config_path(options.config, studies=True), rest, output=options.output)

    from captioner.study.conduct import conduct, report

    check_engine(options, "devices")
    failed = 0
    if not options.report:
        if options.engine == "ray":
            from captioner.cluster.study import study_cluster

            with study_cluster(options.address, options.jobs, study.split) as cluster:
                done = conduct(study, jobs=cluster.slots, start=cluster.start)
        else:
            done = conduct(study, jobs=options.jobs or max(1, len(devices)), devices=devices)
        failed = len(done.failed)
    print(report(study))
    if failed:
        warn(
            f"{failed} of {len(study.runs)} runs failed; see the table for the reasons and each "
            "run's log.txt for details"
        )
    return 1 if failed else 0


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(
        prog="captioner study",
        description="Train every configuration of a study file with every seed, score the best "
        "checkpoints, and report which differences are significant. Rerun the same command to "
        "resume an interrupted study. Writes table.md, table.csv, table.json, plots.png and "
        "plots.svg to the study's folder. Every setting of `captioner train`, such as --data.root, "
        "may be added and applies to all runs.",
    )
    parser.add_argument("--config", required=True, metavar="C", help="study file (YAML)")
    parser.add_argument("--output", metavar="FOLDER", help="study folder; default: the file's")
    parser.add_argument(
        "--jobs",
        type=positive,
        metavar="N",
        help="simultaneous runs; default: one per device in --devices, or of --engine ray one per "
        "GPU, else CPU; otherwise 1",
    )
    parser.add_argument(
        "--devices", metavar="0,1,…", help="GPUs to distribute the runs over; default: any"
    )
    add_engine_arguments(parser, None)
    parser.add_argument(
        "--report", action="store_true", help="only rewrite table and plots from finished runs"
    )
    return parser

"""`captioner study`: train a grid of configurations x seeds and compare them."""

from captioner.commands.parser import Parser, positive
from captioner.console import warn
from captioner.errors import UsageError


def run(arguments: list[str]) -> int:
    """`captioner study`: configurations x seeds, one table, one page of plots."""
    parser = Parser(
        prog="captioner study",
        description="Train every configuration of a study file with every seed, score the best "
        "checkpoints, and say which differences are more than noise. What is done is kept: the "
        "same command goes on where a study was killed. Ends in table.md, table.csv, table.json, "
        "plots.png and plots.svg in the study's folder. Every setting of `captioner train`, "
        "--data.root say, may be given too and goes to all runs.",
    )
    parser.add_argument(
        "--config",
        required=True,
        metavar="C",
        help="study file (YAML), or the name of one: seeds, …",
    )
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

    from captioner.config.named import config_path
    from captioner.study.study_file import read_study

    study = read_study(config_path(options.config, studies=True), rest, output=options.output)

    from captioner.study.conduct import conduct, report

    failed = 0
    if not options.report:
        jobs = options.jobs or max(1, len(devices))
        failed = len(conduct(study, jobs=jobs, devices=devices).failed)
    print(report(study))
    if failed:
        warn(
            f"{failed} of {len(study.runs)} runs failed; the table says why, and the log.txt of "
            "each says more"
        )
    return 1 if failed else 0

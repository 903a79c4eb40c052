"""`captioner train`: train and validate a captioner, keeping the best and last checkpoint."""

from pathlib import Path


def run(arguments: list[str]) -> int:
    """Train and validate a captioner."""
    from captioner.config.parser import config_parser, parse_config

    parser = config_parser("train", "Train a captioner; run `captioner prepare` first.")
    parser.add_argument(
        "--resume",
        type=str,
        default=None,
        metavar="PATH",
        help="Checkpoint to resume from; auto resumes from the run's last one, if there is one.",
    )
    parser.add_argument(
        "--initial",
        type=str,
        default=None,
        metavar="PATH",
        help="Checkpoint whose weights initialise a new run.",
    )
    config, parsed = parse_config(parser, arguments)

    from captioner.training.run_files import to_resume

    resume = to_resume(Path(config.output), parsed.resume)
    initial = None if parsed.initial is None else Path(parsed.initial)

    from captioner.training.run import train

    best = train(config, resume, initial)
    print(best)
    return 0

"""`captioner audit`: check a data set for leakage between splits, and for damaged data."""

from pathlib import Path

from captioner.commands.parser import Parser
from captioner.errors import UsageError
from captioner.files.atomic import check_folder, write_output
from captioner.tables import FORMATS as TABLE_FORMATS
from captioner.tables import json_text, render


def run(arguments: list[str]) -> int:
    """Audit a data set; return 1 if it leaks between splits, otherwise 0."""
    options, settings = build_parser().parse_known_args(arguments)
    check_folder(options.output, "--output")

    from captioner.config.parser import config_parser, parse_config

    config, _ = parse_config(config_parser("audit", ""), settings)

    from captioner.analysis.audit import audit
    from captioner.photos.near_duplicates import MAX_RADIUS

    if not 0 <= options.radius <= MAX_RADIUS:
        raise UsageError(f"--radius {options.radius}: must be between 0 and {MAX_RADIUS} bits")
    vocabulary = Path(options.vocabulary or Path(config.output, "vocabulary.txt"))
    if options.vocabulary is not None and not vocabulary.is_file():
        raise UsageError(f"--vocabulary: no such file: {vocabulary}")
    found = audit(
        config.data,
        vocabulary,
        radius=options.radius,
        tokenizer=config.vocabulary.tokenizer,
    )
    if options.output is not None:
        write_output(options.output, json_text(found.content()) + "\n")
    print(render(options.format, found.tables(), found.summary(), found.content()))
    return 1 if found.leaks else 0


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(
        prog="captioner audit",
        description="Check a data set for photos and captions shared between splits, for held-out "
        "words in the vocabulary, and for missing, empty, duplicate or unreadable data. The exit "
        "code is 1 if there is leakage between splits.",
        epilog="Select the data set as for `captioner prepare`: --config C, --data.root FOLDER ...",
    )
    parser.add_argument("--format", choices=TABLE_FORMATS, default="table", help="default: table")
    parser.add_argument("--output", metavar="F", help="write all findings to F as JSON")
    parser.add_argument(
        "--radius",
        type=int,
        default=10,
        metavar="N",
        help="photos look alike if their 128-bit hashes differ in at most N bits; default: 10",
    )
    parser.add_argument(
        "--vocabulary",
        metavar="F",
        help="vocabulary to check; default: vocabulary.txt in the run's folder, if it exists",
    )
    return parser

"""`captioner audit`: look through a data set for leaks between splits, and for what is broken."""

from pathlib import Path

from captioner.commands.parser import Parser
from captioner.errors import UsageError
from captioner.files.atomic import check_folder, write_output
from captioner.tables import FORMATS as TABLE_FORMATS
from captioner.tables import json_text, render


def run(arguments: list[str]) -> int:
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

    from captioner.config.parser import config_parser, parse_config

    config, _ = parse_config(config_parser("audit", ""), settings)

    from captioner.analysis.audit import audit
    from captioner.photos.near_duplicates import MAX_RADIUS

    if not 0 <= options.radius <= MAX_RADIUS:
        raise UsageError(f"--radius: {options.radius} is not between 0 and {MAX_RADIUS}")
    vocabulary = Path(options.vocabulary or Path(config.output, "vocabulary.txt"))
    if options.vocabulary is not None and not vocabulary.is_file():
        raise UsageError(f"--vocabulary: no file {vocabulary}")
    found = audit(config.data, vocabulary, radius=options.radius)
    if options.output is not None:
        write_output(options.output, json_text(found.content()) + "\n")
    print(render(options.format, found.tables(), found.summary(), found.content()))
    return 1 if found.leaks else 0

"""`captioner export`: convert a checkpoint to safetensors and JSON."""

from pathlib import Path

from captioner.commands.parser import CHECKPOINT_HELP, Parser


def run(arguments: list[str]) -> int:
    """Export a checkpoint to files without pickle data."""
    options = build_parser().parse_args(arguments)

    from captioner import checkpoint

    checkpoint.export(Path(options.checkpoint), Path(options.output))
    return 0


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(
        prog="captioner export",
        description="Write a checkpoint as weights.safetensors and captioner.json. Every command "
        "accepts the folder as a checkpoint.",
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="P",
        help=CHECKPOINT_HELP,
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help="new or empty folder")
    return parser

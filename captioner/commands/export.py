"""`captioner export`: a checkpoint as safetensors and JSON."""

from pathlib import Path

from captioner.commands.parser import Parser


def run(arguments: list[str]) -> int:
    """`captioner export`: a checkpoint as files that hold no pickle."""
    parser = Parser(
        prog="captioner export",
        description="Write a checkpoint as weights.safetensors and captioner.json. The folder is "
        "taken wherever a checkpoint is.",
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="P",
        help="trained checkpoint or name of a pretrained captioner",
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help="new or empty folder")
    options = parser.parse_args(arguments)

    from captioner import checkpoint

    checkpoint.export(Path(options.checkpoint), Path(options.output))
    return 0

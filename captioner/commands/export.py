"""`captioner export`: convert a checkpoint to safetensors, ONNX or torch.export, and JSON."""

from pathlib import Path

from captioner.commands.parser import CHECKPOINT_HELP, Parser
from captioner.errors import UsageError

FORMATS = ("safetensors", "onnx", "pt2")

QUANTIZATIONS = ("int8",)


def run(arguments: list[str]) -> int:
    """Export a checkpoint to a folder of files."""
    options = build_parser().parse_args(arguments)
    if options.quantize is not None and options.format != "onnx":
        raise UsageError("--quantize: quantises ONNX graphs; add --format onnx")

    from captioner import checkpoint

    path, folder = Path(options.checkpoint), Path(options.output)
    if options.format == "safetensors":
        checkpoint.export(path, folder)
        return 0
    if options.format == "onnx":
        from captioner.checkpoint.onnx import write_onnx

        write_onnx(checkpoint.load(path), folder, options.quantize)
    else:
        from captioner.checkpoint.pt2 import write_pt2

        write_pt2(checkpoint.load(path), folder)
    return 0


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(
        prog="captioner export",
        description="Write a checkpoint to a folder: as weights.safetensors and captioner.json, "
        "which every command accepts as a checkpoint, or as graphs with graphs.json, which run "
        "without this package (docs/deployment.md).",
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="P",
        help=CHECKPOINT_HELP,
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help="new or empty folder")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="safetensors",
        help="safetensors (default); onnx, for `captioner caption --runtime onnx`, onnxruntime and "
        "others; or pt2, for torch.export.load",
    )
    parser.add_argument(
        "--quantize",
        choices=QUANTIZATIONS,
        help="with --format onnx: store the decoder's matrices as 8-bit numbers and multiply "
        "with them",
    )
    return parser

"""The choice of what runs the network for `caption`: torch, or onnxruntime without torch."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from captioner.commands.predictor_flags import chosen_strategy, load_predictor
from captioner.commands.search_flags import flag
from captioner.errors import UsageError

if TYPE_CHECKING:
    from captioner.inference.onnx_runtime import OnnxPredictor
    from captioner.inference.predictor import Predictor

    AnyPredictor: TypeAlias = Predictor | OnnxPredictor

RUNTIMES = ("torch", "onnx")

TORCH_ONLY = ("sample", "groups", "require", "backward", "ensemble", "tf32", "devices", "regions")
"""Flags, as names of parsed arguments, that onnxruntime does not support."""


def add_runtime_argument(parser: ArgumentParser) -> None:
    """Add the flag."""
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default="torch",
        help="torch (default), or onnx for a folder of `captioner export --format onnx`, which "
        "starts faster and needs less memory",
    )


def check_runtime_arguments(options: Namespace) -> None:
    """Refuse flags that the runtime does not support.

    Raises:
        UsageError: The message names the first.
    """
    if options.runtime == "torch":
        return
    for name in TORCH_ONLY:
        if getattr(options, name):
            raise UsageError(
                f"{flag(name)}: not supported with --runtime onnx; use --runtime torch"
            )
    if options.engine == "ray":
        raise UsageError("--engine ray: not supported with --runtime onnx; use --runtime torch")
    if len(options.checkpoint) > 1:
        raise UsageError("--runtime onnx: runs one exported captioner, not an ensemble")
    if options.device not in ("auto", "cpu"):
        raise UsageError(f"--device {options.device}: --runtime onnx runs on the CPU; remove it")


def load_for_runtime(options: Namespace) -> "AnyPredictor":
    """Load the predictor that the flags describe."""
    if options.runtime == "torch":
        return load_predictor(options)

    from captioner.checkpoint.graph_folder import read_graph_folder
    from captioner.inference.onnx_runtime import OnnxPredictor

    folder = read_graph_folder(Path(options.checkpoint[0]))
    return OnnxPredictor(folder, chosen_strategy(options, folder))


def checkpoint_digest(path: Path, runtime: str) -> str:
    """Return a digest of a checkpoint's files, or of those of an exported folder."""
    if runtime == "onnx":
        from captioner.checkpoint.graph_folder import read_graph_folder
        from captioner.files.regular import digest_of

        return digest_of(read_graph_folder(path).files)

    from captioner.checkpoint.file import file_digest

    return file_digest(path)

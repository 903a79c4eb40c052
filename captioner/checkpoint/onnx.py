"""Export a captioner as ONNX graphs, which onnxruntime runs without torch.

`graphs` makes them, `graph_folder` describes them. Each is one file without external data, with the
operators of one stated opset, and passes `onnx.checker`. Needs the extra `captioner[onnx]`.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from captioner.checkpoint.export_folder import check_export_folder, write_folder
from captioner.checkpoint.file import Checkpoint
from captioner.checkpoint.graph_folder import DESCRIPTION, GRAPHS, description_text
from captioner.checkpoint.graphs import Graph, folder_of, graphs
from captioner.checkpoint.onnx_file import check_onnx
from captioner.errors import CaptionerError

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
"""Version of the ONNX operators; onnxruntime reads it since 1.14."""

MAX_BYTES = 2**31 - 2**20
"""Maximum size of a file, which protobuf limits to 2 GiB."""


def write_onnx(trained: Checkpoint, folder: Path, quantize: str | None = None) -> None:
    """Write the graphs and their description.

    Args:
        trained: The captioner.
        folder: A new or empty folder.
        quantize: `int8` stores the decoder's matrices as 8-bit numbers and multiplies with them.

    Raises:
        UsageError: The folder contains other files.
        CaptionerError: A package of the extra is missing, or a graph cannot be exported.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise CaptionerError(
            f"--format onnx: needs the package {error.name}; pip install 'captioner[onnx]'"
        ) from error
    names = tuple(f"{name}.onnx" for name in GRAPHS)
    check_export_folder(folder, (*names, DESCRIPTION))  # before the work
    files: dict[str, str | bytes] = {}
    signatures = {}
    for name, graph in graphs(trained):
        try:
            model = onnx_model(name, graph)
        except CaptionerError as error:
            raise CaptionerError(f"{trained.path}: {error}") from error
        if quantize is not None and name != "encoder":
            model = _quantized(model)
        files[f"{name}.onnx"] = model.SerializeToString(deterministic=True)
        signatures[name] = (graph.inputs, graph.outputs)
    details = {"opset": OPSET, "quantized": quantize}
    files[DESCRIPTION] = description_text(folder_of(trained, folder, "onnx", signatures, details))
    write_folder(folder, files)


def onnx_model(name: str, graph: Graph) -> "ModelProto":
    """Return a graph as a checked ONNX model.

    Raises:
        CaptionerError: It is too large, or uses what ONNX or `onnx_file` does not know.
    """
    import torch

    size = sum(
        tensor.numel() * tensor.element_size() for tensor in graph.program.state_dict.values()
    )
    if size > MAX_BYTES:
        raise CaptionerError(
            f"its {name} has {size / 2**30:.1f} GiB of weights, and an ONNX file "
            "holds at most 2 GiB; use --format pt2"
        )
    try:
        made: Any = torch.onnx.export(
            graph.program,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            verbose=False,
        )
    except Exception as error:  # torch raises many types for what ONNX lacks
        reason = " ".join(str(error).split())[:150]
        raise CaptionerError(f"its {name} cannot be written as ONNX: {reason}") from error
    model: ModelProto = made.model_proto
    _forget_source(model)
    model.producer_name = "captioner"
    model.producer_version = ""
    _check(name, model)
    return model


def _forget_source(model: "ModelProto") -> None:
    """Remove notes of the exporter on the Python source, which hold paths of this machine."""
    del model.metadata_props[:]
    parts = [model.graph, *model.graph.node, *model.graph.input, *model.graph.output]
    for part in [*parts, *model.graph.value_info, *model.graph.initializer]:
        del part.metadata_props[:]
        part.doc_string = ""


def _quantized(model: "ModelProto") -> "ModelProto":
    """Return a model whose matrices are 8-bit numbers, one scale per column.

    Inputs are quantised as they come (dynamic quantisation), so no photos are needed to calibrate.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with TemporaryDirectory() as folder:
        file = Path(folder) / "quantized.onnx"
        quantize_dynamic(model, file, weight_type=QuantType.QInt8, per_channel=True)
        quantized = onnx.load(file)
    _forget_source(quantized)
    _check("graph", quantized)
    return quantized


def _check(name: str, model: "ModelProto") -> None:
    """Check that a model is valid, and that `captioner.checkpoint.onnx_file` accepts it."""
    import onnx

    onnx.checker.check_model(model, full_check=True)
    try:
        check_onnx(model.SerializeToString())
    except ValueError as error:
        raise CaptionerError(f"its {name} cannot be written as ONNX: {error}") from error

"""Check an untrusted ONNX file before onnxruntime reads it, without onnx or torch.

A graph is a program, and onnxruntime runs it as it is. So this module reads the file's protobuf
messages and refuses everything that an export of this package cannot contain: operators outside of
one table, other operator sets, subgraphs (loops and branches), functions, weights outside of the
file, and messages it does not know. `docs/security.md` says what that promises and what not.

Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from captioner.errors import CaptionerError, UsageError, shown
from captioner.files.regular import read_regular

MAX_BYTES = 2**31
"""Size of a file; protobuf allows no more."""

MAX_NODES = 20_000
"""Nodes of a graph; the longest of torchvision's networks has about 3,000."""

MAX_TENSORS = 20_000
"""Weights and constants of a graph."""

OPERATORS = frozenset(
    """
    Add And AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv
    DequantizeLinear Div DynamicQuantizeLinear Equal Erf Expand Flatten Floor Gather GatherElements
    Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity
    LayerNormalization LeakyRelu Less LessOrEqual LogSoftmax MatMul MatMulInteger Max MaxPool Min
    Mish Mod Mul Neg Not Pad Pow QuantizeLinear Range Reciprocal ReduceMax ReduceMean ReduceMin
    ReduceSum Relu Reshape Shape Sigmoid Size Slice Softmax Softplus Split Sqrt Squeeze Sub Tanh
    Transpose Unsqueeze Where
    """.split()  # noqa: SIM905  (one name per line would hide the rest of this file)
)
"""All operators that an exported graph may use: pure functions of tensors."""

ITEM_BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 11: 8}
"""Bytes of a number by the ONNX data types of weights: float32, uint8, int8, int32, int64, bool,
float64."""


@dataclass
class Tally:
    """What has been read of a file.

    Attributes:
        nodes: Nodes.
        tensors: Weights and constants.
        numbers: Numbers in all of them.
    """

    nodes: int = 0
    tensors: int = 0
    numbers: int = 0
    domains: set[str] = field(default_factory=set)


def read_onnx(path: Path) -> bytes:
    """Return the bytes of an ONNX file that passes all checks.

    Raises:
        UsageError: There is no such file.
        CaptionerError: It is damaged, or contains what an export cannot contain.
    """
    try:
        data = read_regular(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; export the captioner again") from error
    except OSError as error:
        raise CaptionerError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        check_onnx(data)
    except ValueError as error:
        raise CaptionerError(f"{path}: refused: {error}") from error
    return data


def check_onnx(data: bytes) -> Tally:
    """Check the bytes of an ONNX file.

    Raises:
        ValueError: The message names the first fault.
    """
    tally = Tally()
    _read(memoryview(data), "model", _MODEL, tally)
    if tally.domains - {"", "ai.onnx"}:
        raise ValueError(f"operators of {shown(min(tally.domains - {'', 'ai.onnx'}))}")
    if tally.nodes == 0:
        raise ValueError("holds no graph")
    return tally


Field = memoryview | int
Reader = Callable[[Field, Tally], None]


def _read(message: memoryview, name: str, readers: Mapping[int, Reader], tally: Tally) -> None:
    """Read the fields of a message; a field without a reader is refused."""
    for number, value in _fields(message):
        reader = readers.get(number)
        if reader is None:
            raise ValueError(f"{name}: field {number} is not part of an export")
        reader(value, tally)


def _fields(message: memoryview) -> Iterator[tuple[int, Field]]:
    """Yield number and value of each field of a protobuf message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            size, at = _varint(message, at)
        if size is None or size > len(message) - at:
            raise ValueError("damaged: a field ends after its message")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("damaged: a number does not end")


def _ignored(value: Field, tally: Tally) -> None:
    """Accept a field that only informs."""


def _message(name: str, readers: Mapping[int, Reader]) -> Reader:
    def read(value: Field, tally: Tally) -> None:
        if isinstance(value, int):
            raise ValueError(f"damaged: a {name} is a number")
        _read(value, name, readers, tally)

    return read


def _text(value: Field) -> str:
    if isinstance(value, int):
        raise ValueError("damaged: a text is a number")
    return bytes(value[:200]).decode(errors="replace")


def _domain(value: Field, tally: Tally) -> None:
    tally.domains.add(_text(value))


def _operator(value: Field, tally: Tally) -> None:
    if _text(value) not in OPERATORS:
        raise ValueError(f"operator {shown(_text(value))}, which no export uses")


def _node(value: Field, tally: Tally) -> None:
    tally.nodes += 1
    if tally.nodes > MAX_NODES:
        raise ValueError(f"more than {MAX_NODES:,} nodes")
    _message("node", _NODE)(value, tally)


def _tensor(value: Field, tally: Tally) -> None:
    """Check a tensor: all of its numbers are in the file."""
    tally.tensors += 1
    if tally.tensors > MAX_TENSORS:
        raise ValueError(f"more than {MAX_TENSORS:,} tensors")
    if isinstance(value, int):
        raise ValueError("damaged: a tensor is a number")
    sizes: list[int] = []
    kind = brought = 0
    for number, part in _fields(value):
        if number == 1:
            sizes += [part] if isinstance(part, int) else _varints(part)
        elif number == 2 and isinstance(part, int):
            kind = part
        elif number in (13, 14):
            if not (number == 14 and part == 0):
                raise ValueError("weights outside of the file")
        elif number in (4, 5, 7, 9, 10) and not isinstance(part, int):
            brought += len(part)
        elif number not in (8, 12, 16):
            raise ValueError(f"tensor: field {number} is not part of an export")
    if kind not in ITEM_BYTES:
        raise ValueError(f"tensor: numbers of type {kind}")
    numbers = prod(sizes)
    tally.numbers += numbers
    # Raw bytes, or one to ten bytes of a varint for each number.
    least = numbers if kind in (2, 3, 6, 7, 9) else numbers * ITEM_BYTES[kind]
    if not least <= brought:
        raise ValueError(f"tensor: {numbers:,} numbers in {brought:,} bytes")


def _varints(packed: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(packed):
        value, at = _varint(packed, at)
        values.append(value)
    return values


# Subgraphs (fields 6 and 11), sparse tensors, types and references to functions are refused.
_ATTRIBUTE: dict[int, Reader] = {
    **dict.fromkeys((1, 2, 3, 4, 7, 8, 9, 13, 20), _ignored),
    5: _tensor,
    10: _tensor,
}
_NODE: dict[int, Reader] = {
    **dict.fromkeys((1, 2, 3, 6, 9), _ignored),
    4: _operator,
    5: _message("attribute", _ATTRIBUTE),
    7: _domain,
}
_GRAPH: dict[int, Reader] = {
    1: _node,
    5: _tensor,
    **dict.fromkeys((2, 10, 11, 12, 13, 16), _ignored),
}
_OPSET: dict[int, Reader] = {1: _domain, 2: _ignored}
_MODEL: dict[int, Reader] = {
    7: _message("graph", _GRAPH),
    8: _message("operator set", _OPSET),
    **dict.fromkeys((1, 2, 3, 4, 5, 6, 14), _ignored),
}

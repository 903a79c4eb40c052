"""A traced network as plain values, and back: so that a checkpoint carries its encoder whole.

A checkpoint that only named its torchvision network would need torchvision to be read, in a version
that still builds the same network, and importing torchvision takes longer than captioning a photo.
A traced network (torch.fx) is a list of steps over a handful of well-known operations; written down
as numbers and names it can be rebuilt with torch alone. Nothing is evaluated and nothing pickled:
every operation is looked up in the tables below, and what is not there is refused.
"""

import keyword
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from captioner.errors import CaptionerError

Description = list[dict[str, Any]]
"""One entry a step: name, kind, target, args, kwargs, and for a layer its type and settings."""

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "mul": operator.mul,
    "getitem": operator.getitem,
    "floordiv": operator.floordiv,
    "cat": torch.cat,
    "flatten": torch.flatten,
    "chunk": torch.chunk,
    "transpose": torch.transpose,
    "permute": torch.permute,
    "sigmoid": torch.sigmoid,
    "relu": F.relu,
    "layer_norm": F.layer_norm,
    "avg_pool2d": F.avg_pool2d,
    "max_pool2d": F.max_pool2d,
    "adaptive_avg_pool2d": F.adaptive_avg_pool2d,
}

METHODS = ("chunk", "size", "view", "reshape", "permute", "contiguous", "flatten", "mean")

LAYERS: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "Conv2d": (
        nn.Conv2d,
        ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"),
    ),
    "BatchNorm2d": (nn.BatchNorm2d, ("num_features", "eps", "momentum")),
    "Linear": (nn.Linear, ("in_features", "out_features")),
    "ReLU": (nn.ReLU, ()),
    "ReLU6": (nn.ReLU6, ()),
    "SiLU": (nn.SiLU, ()),
    "GELU": (nn.GELU, ("approximate",)),
    "Sigmoid": (nn.Sigmoid, ()),
    "Hardswish": (nn.Hardswish, ()),
    "Hardsigmoid": (nn.Hardsigmoid, ()),
    "Identity": (nn.Identity, ()),
    "Dropout": (nn.Dropout, ("p",)),
    "MaxPool2d": (nn.MaxPool2d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
    "AvgPool2d": (nn.AvgPool2d, ("kernel_size", "stride", "padding", "ceil_mode")),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d, ("output_size",)),
}
"""Layers by name, with the settings that rebuild them (and `bias`, where a layer may lack it)."""


MAX_INT = 2**20
"""Sizes and channels in a description."""

MAX_NUMBERS = 2**27
"""Numbers that a step may make of one photo, 2 GiB: a hundred times what networks of 224 make."""

MAX_WINDOW = 64
"""Pixels of windows, strides and borders in a description."""


class NotDescribableError(Exception):
    """The network uses an operation that the tables do not hold."""


def describe(network: fx.GraphModule) -> Description:
    """A traced network without its weights, as plain values.

    Raises:
        NotDescribableError: an operation is not in the tables (vision transformers, mostly).
    """
    names = {function: name for name, function in FUNCTIONS.items()}
    steps: Description = []
    for node in network.graph.nodes:
        step = {
            "name": node.name,
            "kind": node.op,
            "target": str(node.target),
            "args": _plain(node.args),
            "kwargs": {key: _plain(value) for key, value in node.kwargs.items()},
        }
        if node.op == "call_function":
            if node.target not in names:
                raise NotDescribableError(str(node.target))
            step["target"] = names[node.target]
        elif node.op == "call_method" and node.target not in METHODS:
            raise NotDescribableError(str(node.target))
        elif node.op == "call_module":
            step |= _describe_layer(network.get_submodule(node.target))
        elif node.op == "get_attr":
            raise NotDescribableError(node.target)
        steps.append(step)
    return steps


def rebuild(steps: Description) -> fx.GraphModule:
    """The network of a description, its tensors on the meta device.

    Load the weights with `load_state_dict(…, assign=True)`.

    Raises:
        CaptionerError: the description is damaged, or names an operation this version lacks.
    """
    graph = fx.Graph()
    nodes: dict[str, fx.Node] = {}
    layers: dict[str, nn.Module] = {}
    try:
        for step in steps:
            kind, target = step["kind"], step["target"]
            _check_names(step)
            args = _restored(step["args"], nodes)
            kwargs = {key: _restored(value, nodes) for key, value in step["kwargs"].items()}
            if kind == "output":
                graph.output(args[0])
                continue
            if kind == "call_module":
                layers[target] = _build_layer(step)
            elif kind == "call_method" and target not in METHODS:
                raise KeyError(target)
            elif kind not in ("placeholder", "call_method", "call_function"):
                raise KeyError(kind)
            called = FUNCTIONS[target] if kind == "call_function" else target
            nodes[step["name"]] = graph.create_node(kind, called, args, kwargs, step["name"])
        graph.lint()
        return fx.GraphModule(layers, graph)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise CaptionerError(f"the encoder's description cannot be rebuilt: {error!r}") from error


def _check_names(step: Mapping[str, Any]) -> None:
    """Refuse names and numbers that no description of ours holds.

    torch.fx writes a graph as Python source and runs it: names of steps, layers and arguments stand
    in that source as they are given, so a name that is no name would be a program.

    Raises:
        ValueError: the first that is none.
    """
    atoms = str(step["target"]).split(".")
    if step["kind"] == "call_module":
        atoms = [f"_{atom}" for atom in atoms]  # layers are called "0", "1"
    for name in (str(step["name"]), *atoms, *step["kwargs"]):
        if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
            raise ValueError(f"{name[:60]!r} is no name")
        if keyword.iskeyword(name):
            raise ValueError(f"{name!r} is a word of Python's")
    if "layer" in step:
        settings = dict(step["settings"])
        for name in ("kernel_size", "stride", "padding", "dilation", "output_size"):
            _check_numbers(settings.pop(name, None), MAX_WINDOW)
        _check_numbers(list(settings.values()), MAX_INT)
    given = [step["args"], list(step["kwargs"].values())]
    _check_numbers(given, MAX_WINDOW if "pool" in str(step["target"]) else MAX_INT)
    if step["target"] in ("add", "mul") and isinstance(step["args"], dict):
        for value in step["args"].get("tuple", []):
            if isinstance(value, (str, list)) or (isinstance(value, dict) and "node" not in value):
                raise ValueError(f"{step['target']} would repeat or join, not reckon")


def _check_numbers(value: Any, most: int, depth: int = 0) -> None:
    """Refuse whole numbers that would make a picture of gigabytes out of a small one."""
    if depth > 8:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_numbers(item, most, depth + 1)
    elif isinstance(value, int) and abs(value) > most:
        raise ValueError(f"{value} is more than {most}")


def check_forward(network: nn.Module, side: int, channels: int) -> None:
    """See what a network, its weights loaded, makes of one black photo, step by step.

    Not on the meta device, whose convolutions take two seconds to import. A step cannot make much
    more than the one before: its channels are bounded by the weights that the file brought, its
    windows and paddings by `MAX_WINDOW`.

    Args:
        network: as `rebuild` gives it, with weights.
        side: of the photo (1, 3, S, S).
        channels: that must come out, (1, channels, …).

    Raises:
        CaptionerError: it fails, gives something else, or would take more than `MAX_NUMBERS`
            numbers at a step.
    """
    try:
        assert isinstance(network, fx.GraphModule)
        with torch.inference_mode():
            found = _Bounded(network.eval()).run(torch.zeros(1, 3, side, side))
    except Exception as error:  # whatever a step makes of arguments that nobody foresaw
        reason = " ".join(str(error).split())[:150]
        raise CaptionerError(f"the encoder's description is no network: {reason}") from error
    shape = found.shape if isinstance(found, torch.Tensor) else ()
    # Feature maps (1, F, h, w) or tokens (1, 1 + R, F).
    if len(shape) not in (3, 4) or shape[1 if len(shape) == 4 else 2] != channels:
        raise CaptionerError(
            f"the encoder's description is no network with {channels} channels at its end"
        )


class _Bounded(fx.Interpreter):
    """Goes through a graph step by step, up to a step that would take too much."""

    def run_node(self, node: fx.Node) -> Any:
        result = super().run_node(node)
        if isinstance(result, torch.Tensor) and result.numel() > MAX_NUMBERS:
            raise ValueError(f"{node.name} makes {result.numel():,} numbers of a photo")
        return result


def _describe_layer(layer: nn.Module) -> dict[str, Any]:
    kind = type(layer).__name__
    if kind not in LAYERS or type(layer) is not LAYERS[kind][0]:
        raise NotDescribableError(kind)
    settings = {name: _plain(getattr(layer, name)) for name in LAYERS[kind][1]}
    if kind in ("Conv2d", "Linear"):
        settings["bias"] = layer.bias is not None
    return {"layer": kind, "settings": settings}


def _build_layer(step: Mapping[str, Any]) -> nn.Module:
    allowed = (*LAYERS[step["layer"]][1], "bias")
    unknown = [name for name in step["settings"] if name not in allowed]
    if unknown:
        raise KeyError(unknown[0])
    settings = {name: _restored(value, {}) for name, value in step["settings"].items()}
    # Sizes only: the weights are about to be loaded, so random ones would be made for nothing.
    with torch.device("meta"):
        return LAYERS[step["layer"]][0](**settings)


def _plain(value: Any) -> Any:
    """An argument as JSON could hold it; nodes, tuples and slices are marked."""
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, (tuple, torch.Size)):
        return {"tuple": [_plain(item) for item in value]}
    if isinstance(value, slice):
        return {"slice": [_plain(part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise NotDescribableError(repr(value))


def _restored(value: Any, nodes: Mapping[str, fx.Node]) -> Any:
    """Undo `_plain`."""
    if isinstance(value, list):
        return [_restored(item, nodes) for item in value]
    if not isinstance(value, dict):
        return value
    ((mark, content),) = value.items()
    if mark == "node":
        return nodes[content]
    parts = [_restored(item, nodes) for item in content]
    if mark == "slice":
        return slice(*parts)
    if mark == "tuple":
        return tuple(parts)
    raise KeyError(mark)

"""Convert a traced network to plain values and back, so that a checkpoint contains its encoder.

A checkpoint with only the name of its torchvision network would need torchvision, in a version that
still builds the same network. Importing torchvision also takes longer than captioning a photo. A
traced network (torch.fx) is a list of steps over a few well-known operations. Stored as numbers and
names, it can be read with torch alone.

Descriptions may be untrusted. Their names are only used as keys of dictionaries that are filled
while reading (values, layers) and of the closed tables in `captioner.model.network.operations`.
Reading turns names into numbers, and `captioner.model.network.network` executes numbers.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import fx, nn

from captioner.errors import CaptionerError
from captioner.model.network.network import Layer, Network, Program, Step, Value, measure
from captioner.model.network.operations import FUNCTIONS, LAYERS, METHODS, Operation
from captioner.model.network.shapes import MAX_BATCH

Description = list[dict[str, Any]]
"""One entry per step: name, kind, target, args, kwargs, and for a layer its type and settings."""

MAX_VALUES = 100_000
"""Plain values in the arguments and settings; torchvision's longest description has 7,000."""

MAX_DEPTH = 8
"""Nesting depth of lists."""

MAX_NUMBER = 2**31
"""Magnitude of whole numbers; each operation's rule bounds its own arguments."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,100}(\.[A-Za-z0-9_-]{1,100}){0,15}", re.ASCII)
"""The name of a step or argument, or the path of a layer: `features.0`, `block1.block1-0`."""

NO_LAYER = frozenset(dir(nn.Module))
"""Names that no layer may have, because a module has attributes of these names."""


class NotDescribableError(Exception):
    """The network uses an operation that the tables do not contain."""


# Writing


def describe(network: nn.Module) -> Description:
    """Return a traced network, without its weights, as plain values.

    Raises:
        NotDescribableError: An operation is not in the tables, as in most vision transformers.
    """
    if not isinstance(network, fx.GraphModule):
        raise NotDescribableError(type(network).__name__)
    names: dict[Callable[..., Any], str] = {}
    for name, operation in FUNCTIONS.items():
        names |= dict.fromkeys((operation.run, *operation.written), name)
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


def _describe_layer(layer: nn.Module) -> dict[str, Any]:
    name = type(layer).__name__
    kind = LAYERS.get(name)
    if kind is None or type(layer) is not kind.build:
        raise NotDescribableError(name)
    values = vars(layer) | {"bias": getattr(layer, "bias", None) is not None}
    for setting, wanted in kind.only.items():
        if values[setting] != wanted:
            raise NotDescribableError(f"{name} with {setting}={values[setting]!r}")
    settings = {setting: _plain(values[setting]) for setting in kind.settings}
    for setting, usual in kind.others.items():
        if values[setting] != usual:
            settings[setting] = _plain(values[setting])
    return {"layer": name, "settings": settings}


def _plain(value: Any) -> Any:
    """Convert an argument to JSON values; nodes, tuples and slices are marked."""
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, tuple):
        return {"tuple": [_plain(item) for item in value]}
    if isinstance(value, slice):
        return {"slice": [_plain(part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise NotDescribableError(repr(value))


# Reading


def rebuild(steps: Description, *, side: int | None = None, channels: int | None = None) -> Network:
    """Build the network of a description, with its tensors on the meta device.

    Load the weights with `load_state_dict(..., assign=True)`.

    Args:
        steps: The description, which may be any value.
        side: Side S of the photos (1, 3, S, S) in pixels. The network's cost for one photo is
            measured before anything is built. None skips this for trusted descriptions.
        channels: Expected number of output channels.

    Raises:
        CaptionerError: The description is damaged, contains an unknown operation, has another
            output, or exceeds the limits of `captioner.model.network.shapes`.
    """
    try:
        program = _Reader().program(steps)
    except (KeyError, TypeError, ValueError) as error:
        raise CaptionerError(f"the encoder's description cannot be rebuilt: {error}") from error
    at_once = None
    if side is not None:
        try:
            cost = measure(program, side)
        except ValueError as error:
            raise CaptionerError(f"the encoder's description is not a network: {error}") from error
        sizes, at_once = cost.shape.sizes, max(1, MAX_BATCH // cost.numbers)
        # Feature maps (1, F, h, w) or tokens (1, 1 + R, F).
        if len(sizes) not in (2, 3) or sizes[0 if len(sizes) == 3 else 1] != channels:
            raise CaptionerError(
                f"the encoder's description is not a network with {channels} output channels"
            )
    return Network(program, at_once)


class _Reader:
    """Turns a description into a program by numbering its names in dictionaries of its own."""

    def __init__(self) -> None:
        self.left = MAX_VALUES
        self.values: dict[str, Value] = {}
        self.numbers: dict[str, int] = {}
        self.layers: list[Layer] = []

    def program(self, description: object) -> Program:
        if not isinstance(description, list) or len(description) < 2:
            raise ValueError("it must be a list of steps, from the photos to the output")
        first, *steps, last = description
        if self._fields(first, "placeholder") != ((), {}):
            raise ValueError("the first step must not have arguments")
        self.values[_name(first["name"])] = Value(0)
        made = tuple(self._step(step) for step in steps)
        given, named = self._fields(last, "output")
        if len(given) != 1 or type(given[0]) is not Value or named:
            raise ValueError("the output must be a single value")
        return Program(tuple(self.layers), made, given[0].number)

    def _step(self, step: Any) -> Step:
        arguments, keywords = self._fields(step, "call_module", "call_function", "call_method")
        name, target, kind = _name(step["name"]), _name(step["target"]), step["kind"]
        if name in self.values:
            raise ValueError(f"two steps are called {name!r}")
        does: Operation | int
        if kind == "call_module":
            if len(arguments) != 1 or type(arguments[0]) is not Value or keywords:
                raise ValueError(f"the layer of step {name!r} must have one argument")
            does = self._layer(target, step)
        else:
            table = FUNCTIONS if kind == "call_function" else METHODS
            if target not in table:
                raise ValueError(f"step {name!r}: unknown operation {target!r}")
            does = table[target]
        self.values[name] = Value(len(self.values))
        return Step(name, does, arguments, keywords)

    def _fields(self, step: Any, *kinds: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a step, which must be of one of these kinds."""
        if not isinstance(step, dict):
            raise TypeError(f"a step must be an object, not a {type(step).__name__}")
        for field in ("name", "kind", "target", "args", "kwargs"):
            if field not in step:
                raise ValueError(f"a step lacks {field!r}")
        if step["kind"] not in kinds:
            raise ValueError(f"a step of the kind {_shown(step['kind'])}: not {' or '.join(kinds)}")
        _name(step["target"])
        arguments, keywords = self._value(step["args"], 0), step["kwargs"]
        if type(arguments) is not tuple or not isinstance(keywords, dict):
            raise TypeError(f"the arguments of step {_shown(step['name'])} must be a list")
        return arguments, {_name(key): self._value(item, 0) for key, item in keywords.items()}

    def _layer(self, name: str, step: Mapping[str, Any]) -> int:
        """Return the number of a layer; a repeated name must mean the same layer."""
        if not NO_LAYER.isdisjoint(name.split(".")):
            raise ValueError(f"a layer must not be called {name!r}")
        kind, settings = step.get("layer"), step.get("settings")
        if not isinstance(kind, str) or kind not in LAYERS:
            raise ValueError(f"step {step['name']!r}: unknown layer {_shown(kind)}")
        known = LAYERS[kind]
        if not isinstance(settings, dict):
            raise TypeError(f"step {step['name']!r}: its layer has no settings")
        found = {_name(key): self._value(item, 0) for key, item in settings.items()}
        needless = found.keys() - {*known.settings, *known.others}
        lacking = set(known.settings) - found.keys()
        if needless or lacking:
            raise ValueError(f"{kind} does not fit the setting {min(needless or lacking)!r}")
        layer = Layer(name, known, found)
        if name not in self.numbers:
            self.numbers[name] = len(self.layers)
            self.layers.append(layer)
        elif self.layers[self.numbers[name]] != layer:
            raise ValueError(f"two layers are called {name!r}")
        return self.numbers[name]

    def _value(self, value: Any, depth: int) -> Any:
        """Undo `_plain`, with numbers of values in place of their names."""
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"it has more than {MAX_VALUES:,} values")
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if isinstance(value, list):
            return [self._value(item, depth + 1) for item in value]
        if isinstance(value, dict):
            return self._marked(value, depth)
        if type(value) is int and abs(value) > MAX_NUMBER:
            raise ValueError(f"a number of {value.bit_length()} bits")
        if type(value) is str:
            return _name(value)
        if value is None or type(value) in (bool, int, float):
            return value
        raise TypeError(f"a {type(value).__name__} is not a plain value")

    def _marked(self, value: dict[Any, Any], depth: int) -> Any:
        if len(value) != 1:
            raise ValueError("an argument must be a node, a tuple or a slice")
        ((mark, content),) = value.items()
        if mark == "node":
            if not isinstance(content, str) or content not in self.values:
                raise ValueError(f"{_shown(content)} is used before it is computed")
            return self.values[content]
        if mark not in ("tuple", "slice") or not isinstance(content, list):
            raise ValueError("an argument must be a node, a tuple or a slice")
        parts = [self._value(item, depth + 1) for item in content]
        if mark == "tuple":
            return tuple(parts)
        if len(parts) != 3:
            raise ValueError("a slice must have three parts")
        return slice(*parts)


def _name(value: Any) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError(f"{_shown(value)} is not a valid name")
    return value


def _shown(value: Any) -> str:
    """Return a short form of an untrusted value for a message."""
    return repr(value[:60]) if isinstance(value, str) else f"a {type(value).__name__}"

"""Run a network from a file with an interpreter over a closed table of operations.

A `Program` is a list of steps. Value 0 is the photos, and step i computes value i + 1. Layers are
numbered too. Names serve only one purpose: a state_dict stores the weights of layer 3 under a name
such as `features.0.0`. No name is ever looked up in an object or turned into source code, as
`torch.fx` would do.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from captioner.model.network.operations import LayerKind, Operation
from captioner.model.network.shapes import MAX_NUMBERS, MAX_WORK, Shape
from captioner.model.uninitialised import uninitialised


class Value(NamedTuple):
    """In arguments: a reference to the value with that number."""

    number: int


@dataclass(frozen=True)
class Layer:
    """A layer before it is built: the name of its weights, its kind and its settings."""

    name: str
    kind: LayerKind
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        name: Name for messages.
        does: An operation of the tables, or the number of a layer.
        arguments: Plain values, where a `Value` stands for an earlier result.
        keywords: Keyword arguments of the same form.
    """

    name: str
    does: Operation | int
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]


@dataclass(frozen=True)
class Program:
    """Layers, steps, and the number of the output value."""

    layers: tuple[Layer, ...]
    steps: tuple[Step, ...]
    output: int


@dataclass(frozen=True)
class Cost:
    """Cost of a program for one photo.

    Attributes:
        shape: Shape of the output.
        numbers: Maximum of numbers in memory at once.
        work: Multiply-adds.
    """

    shape: Shape
    numbers: int
    work: int


def measure(program: Program, side: int) -> Cost:
    """Measure a program by its shapes, without running it.

    Args:
        program: A program, possibly from an untrusted file.
        side: Side S of the photos (B, 3, S, S) in pixels.

    Raises:
        ValueError: A step is invalid, or the program exceeds the limits.
    """
    values: list[Any] = [Shape((3, side, side))]
    alive = most = _numbers(values[0])
    work = 0
    last = _last_uses(program)
    for i, step in enumerate(program.steps):
        try:
            made = _rule(program, step)(*_filled(step.arguments, values), **_named(step, values))
        except (TypeError, ValueError) as error:
            raise ValueError(f"step {step.name!r} {_reason(error)}") from error
        values.append(made)
        alive += _numbers(made)
        most = max(most, alive)
        work += made.work if isinstance(made, Shape) else 0
        if most > MAX_NUMBERS:
            raise ValueError(f"step {step.name!r} needs {most:,} numbers per photo at once")
        if work > MAX_WORK:
            raise ValueError(f"step {step.name!r} needs {work:,} multiply-adds per photo")
        for number in last[i]:
            alive -= _numbers(values[number])
            values[number] = None
    found = values[program.output]
    if not isinstance(found, Shape):
        raise ValueError("the output is not a tensor")
    return Cost(found, most, work)


class Network(nn.Module):
    """A program with its layers, whose tensors are on the meta device until weights are loaded.

    Load the weights with `load_state_dict(..., assign=True)`. The names in a state_dict are those
    of the traced network, so that both have the same files and fingerprints.

    Args:
        program: A program that `measure` has accepted.
        at_once: Photos of a batch processed together, which bounds the memory for any batch size;
            None processes all.
    """

    def __init__(self, program: Program, at_once: int | None = None) -> None:
        super().__init__()
        self.at_once = at_once
        self.names = [layer.name for layer in program.layers]
        # Allocate nothing, because loading replaces the weights.
        with uninitialised():
            built = [layer.kind.build(**layer.settings) for layer in program.layers]
        self.layers = nn.ModuleList(built)
        self.program = program
        self._last = _last_uses(program)
        self.register_state_dict_post_hook(_by_name)
        self.register_load_state_dict_pre_hook(_by_number)

    def forward(self, photos: Tensor) -> Tensor:
        """Map normalised photos (B, 3, S, S) to maps (B, F, h, w) or tokens (B, 1 + R, F)."""
        # The caller of an exported graph divides its batches.
        at_once = None if torch.compiler.is_exporting() else self.at_once
        if at_once is not None and len(photos) > at_once:
            return torch.cat([self._run(some) for some in photos.split(at_once)])
        return self._run(photos)

    def _run(self, photos: Tensor) -> Tensor:
        layers = list(self.layers)
        values: list[Any] = [photos]
        for step, gone in zip(self.program.steps, self._last, strict=True):
            if isinstance(step.does, int):
                values.append(layers[step.does](values[step.arguments[0].number]))
            else:
                given = _filled(step.arguments, values)
                values.append(step.does.run(*given, **_named(step, values)))
                del given
            for number in gone:
                values[number] = None
        found: Tensor = values[self.program.output]
        return found

    def extra_repr(self) -> str:
        """Return the steps, so that networks with equal text compute the same."""
        return "\n".join(
            f"{i}: {_text(step.does)}{step.arguments}{dict(step.keywords)}"
            for i, step in enumerate(self.program.steps, 1)
        )

    def fold_batch_norm(self) -> None:
        """Merge each batch norm into the convolution before it: same outputs, less work."""
        readers = Counter(n for step in self.program.steps for n in _read(step))
        readers[self.program.output] += 1
        uses = Counter(step.does for step in self.program.steps if isinstance(step.does, int))
        standing = [Value(0)]  # current value, by old value number
        maker: dict[int, int] = {}  # layer that computes a value, by new value number
        steps: list[Step] = []
        for step in self.program.steps:
            source = step.arguments[0].number if isinstance(step.does, int) else -1
            if isinstance(step.does, int):
                norm, conv = step.does, maker.get(standing[source].number, -1)
                if (
                    isinstance(self.layers[norm], nn.BatchNorm2d)
                    and conv >= 0
                    and isinstance(self.layers[conv], nn.Conv2d)
                    and readers[source] == uses[conv] == uses[norm] == 1
                ):
                    self._fuse(conv, norm)
                    standing.append(standing[source])
                    del maker[standing[source].number]
                    continue
            arguments, keywords = _filled(step.arguments, standing), _named(step, standing)
            steps.append(replace(step, arguments=arguments, keywords=keywords))
            standing.append(Value(len(steps)))
            if isinstance(step.does, int):
                maker[len(steps)] = step.does
        self.program = replace(
            self.program, steps=tuple(steps), output=standing[self.program.output].number
        )
        self._last = _last_uses(self.program)

    def _fuse(self, conv: int, norm: int) -> None:
        one, two = self.layers[conv], self.layers[norm]
        assert isinstance(one, nn.Conv2d)
        assert isinstance(two, nn.BatchNorm2d)
        assert two.running_mean is not None
        assert two.running_var is not None
        # Without the copy that `fuse_conv_bn_eval` makes first: it adds to the peak memory.
        one.weight, one.bias = fuse_conv_bn_weights(
            one.weight, one.bias, two.running_mean, two.running_var, two.eps, two.weight, two.bias
        )
        one.requires_grad_(False)
        self.layers[norm] = nn.Identity()


def _by_name(
    network: nn.Module, state: dict[str, Any], prefix: str, metadata: Mapping[str, Any]
) -> None:
    """Rename tensors from `layers.3.weight` to `features.0.0.weight`."""
    assert isinstance(network, Network)
    for i, name in enumerate(network.names):
        for suffix in network.layers[i].state_dict():
            tensor = state.pop(f"{prefix}layers.{i}.{suffix}")
            state[f"{prefix}{name}.{suffix}"] = tensor


def _by_number(
    network: nn.Module,
    state: dict[str, Any],
    prefix: str,
    metadata: Mapping[str, Any],
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """Rename tensors from `features.0.0.weight` to `layers.3.weight`; others are unexpected."""
    assert isinstance(network, Network)
    places = {name: i for i, name in enumerate(network.names)}
    given = {name: state.pop(name) for name in list(state) if name.startswith(prefix)}
    for name, tensor in given.items():
        owner, _, suffix = name.removeprefix(prefix).rpartition(".")
        if owner in places:
            state[f"{prefix}layers.{places[owner]}.{suffix}"] = tensor
        else:
            unexpected.append(name)


def _rule(program: Program, step: Step) -> Callable[..., Any]:
    if not isinstance(step.does, int):
        return step.does.rule
    layer = program.layers[step.does]
    return lambda x: layer.kind.rule(x, **layer.settings)


def _filled(template: Any, values: Sequence[Any]) -> Any:
    """Return arguments with the values that they refer to."""
    kind = type(template)
    if kind is Value:
        return values[template.number]
    if kind is tuple:
        return tuple([_filled(item, values) for item in template])
    if kind is list:
        return [_filled(item, values) for item in template]
    if kind is slice:
        return slice(*[_filled(n, values) for n in (template.start, template.stop, template.step)])
    return template


def _named(step: Step, values: Sequence[Any]) -> dict[str, Any]:
    return {name: _filled(value, values) for name, value in step.keywords.items()}


def _read(step: Step) -> set[int]:
    """Return the numbers of the values that a step refers to."""
    return set(_numbers_in([step.arguments, *step.keywords.values()]))


def _numbers_in(template: Any) -> Iterable[int]:
    if isinstance(template, Value):
        yield template.number
    elif isinstance(template, (tuple, list)):
        for item in template:
            yield from _numbers_in(item)
    elif isinstance(template, slice):
        yield from _numbers_in([template.start, template.stop, template.step])


def _last_uses(program: Program) -> list[list[int]]:
    """Return, for each step, the values that are unused after it and whose memory can be freed."""
    last = {i: i - 1 for i in range(1, len(program.steps) + 1)}  # unless a step refers to them
    last[0] = 0
    for i, step in enumerate(program.steps):
        last.update(dict.fromkeys(_read(step), i))
    gone: list[list[int]] = [[] for _ in program.steps]
    for number, i in last.items():
        if number != program.output and i < len(gone):
            gone[i].append(number)
    return gone


def _numbers(value: Any) -> int:
    if isinstance(value, Shape):
        return value.numbers
    return sum(map(_numbers, value)) if isinstance(value, (tuple, list)) else 0


def _reason(error: Exception) -> str:
    """Return why a step is refused; for a wrong call, Python's message names our rule."""
    text = " ".join(str(error).split())
    return text.partition("() ")[2] or text


def _text(does: Operation | int) -> str:
    if isinstance(does, int):
        return f"layer {does}"
    return f"{does.rule.__name__} {does.run.__name__}"

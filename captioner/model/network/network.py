"""A network that came in a file, run by an interpreter over a closed table of operations.

A `Program` is a list of steps. Value 0 is the photos, step i makes value i + 1; layers have numbers
too. Names are kept for one purpose: the weights of layer 3 stand in a state_dict under a name such
as `features.0.0`. No name is ever looked up in an object, and no source is made of one: `torch.fx`
would do both.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from captioner.model.network.operations import LayerKind, Operation
from captioner.model.network.shapes import MAX_NUMBERS, MAX_WORK, Shape
from captioner.model.uninitialised import uninitialised


class Value(NamedTuple):
    """In arguments: the value of that number."""

    number: int


@dataclass(frozen=True)
class Layer:
    """A layer before it is built: what its weights are called, its kind and its settings."""

    name: str
    kind: LayerKind
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        name: for messages.
        does: an operation of the tables, or the number of a layer.
        arguments: plain values; a `Value` stands for what an earlier step made.
        keywords: likewise.
    """

    name: str
    does: Operation | int
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]


@dataclass(frozen=True)
class Program:
    """Layers, steps, and the number of the value that comes out."""

    layers: tuple[Layer, ...]
    steps: tuple[Step, ...]
    output: int


@dataclass(frozen=True)
class Cost:
    """What a program takes for one photo.

    Attributes:
        shape: of what comes out.
        numbers: the most that are alive at once.
        work: multiply-adds.
    """

    shape: Shape
    numbers: int
    work: int


def measure(program: Program, side: int) -> Cost:
    """Go through a program with shapes alone.

    Args:
        program: as a file describes it.
        side: of the photos (B, 3, S, S).

    Raises:
        ValueError: a step cannot be done, or the program takes more than the bounds allow.
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
            raise ValueError(f"step {step.name!r} makes it {most:,} numbers of a photo at once")
        if work > MAX_WORK:
            raise ValueError(f"step {step.name!r} makes it {work:,} multiply-adds a photo")
        for number in last[i]:
            alive -= _numbers(values[number])
            values[number] = None
    found = values[program.output]
    if not isinstance(found, Shape):
        raise ValueError("gives no tensor")
    return Cost(found, most, work)


class Network(nn.Module):
    """A program with its layers; their tensors are on the meta device until weights are loaded.

    Load the weights with `load_state_dict(…, assign=True)`. The names in a state_dict are those of
    the traced network, so that its files and fingerprints are the same.

    Args:
        program: one that `measure` has gone through.
        at_once: photos of a batch that go through it together, so that memory is bounded whatever
            the batch; None: all.
    """

    def __init__(self, program: Program, at_once: int | None = None) -> None:
        super().__init__()
        self.at_once = at_once
        self.names = [layer.name for layer in program.layers]
        # Sizes only: the weights are about to be loaded, so random ones would be made for nothing.
        with uninitialised():
            built = [layer.kind.build(**layer.settings) for layer in program.layers]
        self.layers = nn.ModuleList(built)
        self.program = program
        self._last = _last_uses(program)
        self.register_state_dict_post_hook(_by_name)
        self.register_load_state_dict_pre_hook(_by_number)

    def forward(self, photos: Tensor) -> Tensor:
        """Normalised photos (B, 3, S, S) to feature maps (B, F, h, w) or tokens (B, 1 + R, F)."""
        if self.at_once is not None and len(photos) > self.at_once:
            return torch.cat([self._run(some) for some in photos.split(self.at_once)])
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
        """The steps, so that two networks whose text is the same do the same."""
        return "\n".join(
            f"{i}: {_text(step.does)}{step.arguments}{dict(step.keywords)}"
            for i, step in enumerate(self.program.steps, 1)
        )

    def fold_batch_norm(self) -> None:
        """Merge each batch norm into the convolution before it: the same outputs, less work."""
        readers = Counter(n for step in self.program.steps for n in _read(step))
        readers[self.program.output] += 1
        uses = Counter(step.does for step in self.program.steps if isinstance(step.does, int))
        standing = [Value(0)]  # by old numbers of values, what they are called now
        maker: dict[int, int] = {}  # new numbers of values to the layers that made them
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
        self.layers[conv] = fuse_conv_bn_eval(one.eval(), two.eval()).requires_grad_(False)
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
    """Arguments with the values that they name."""
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
    """The numbers of the values that a step names."""
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
    """For each step, the values that nothing names after it: their memory is given back."""
    last = {i: i - 1 for i in range(1, len(program.steps) + 1)}  # unless anything names them
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
    """Why a step is refused; where it was called wrongly, Python's words name our rule."""
    text = " ".join(str(error).split())
    return text.partition("() ")[2] or text


def _text(does: Operation | int) -> str:
    if isinstance(does, int):
        return f"layer {does}"
    return f"{does.rule.__name__} {does.run.__name__}"

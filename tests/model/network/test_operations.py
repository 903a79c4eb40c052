"""The rules of shapes against torch: what a rule allows runs, and gives the shape it said."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.model.network.network import Layer, Network, Program, Step, Value, measure
from captioner.model.network.operations import FUNCTIONS, LAYERS, METHODS, Operation
from captioner.model.network.shapes import BATCH, MAX_NUMBERS, MAX_WORK, Shape

SMALL = st.integers(-2, 5)
FEW = st.one_of(SMALL, st.lists(SMALL, max_size=4), st.lists(SMALL, max_size=4).map(tuple))
ANY = st.one_of(FEW, st.none(), st.booleans(), st.sampled_from(["same", "tanh", "constant", 0.5]))
SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
INDEX = st.one_of(
    SMALL,
    st.none(),
    st.builds(slice, *[st.one_of(st.none(), SMALL)] * 2, st.sampled_from([None, 1, 2])),
)
OPERATIONS = [*FUNCTIONS.items(), *METHODS.items()]
KEYWORDS = st.sampled_from(
    [
        *("dim", "keepdim", "start_dim", "end_dim", "inplace", "p", "training", "eps", "stride"),
        *("padding", "ceil_mode", "count_include_pad", "chunks", "approximate", "input", "x"),
        *("out", "mode", "value", "negative_slope", "output_size", "kernel_size", "dim0", "dim1"),
    ]
)


def agree(operation: Operation, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    """Whether the rule allows a call; if so torch must do what it says."""
    try:
        said = operation.rule(*arguments, **keywords)
    except (TypeError, ValueError):
        return False

    def real(value: Any) -> Any:
        if isinstance(value, Shape):
            return torch.randn(2, *value.sizes)
        if value is BATCH:
            return 2
        return type(value)(map(real, value)) if isinstance(value, (tuple, list)) else value

    found = operation.run(*map(real, arguments), **keywords)

    def same(said: Any, found: Any) -> bool:
        if isinstance(said, Shape):
            return (2, *said.sizes) == tuple(found.shape)
        if isinstance(said, tuple):
            return len(said) == len(found) and all(map(same, said, found))
        return bool(found == (2 if said is BATCH else said))

    assert same(said, found), (operation, arguments, keywords, said)
    return True


@settings(deadline=None, max_examples=400)
@given(
    chosen=st.sampled_from(OPERATIONS),
    sizes=SIZES,
    rest=st.lists(ANY, max_size=3),
    named=st.dictionaries(KEYWORDS, ANY, max_size=2),
)
def test_what_a_rule_allows_torch_does(
    chosen: tuple[str, Operation], sizes: tuple[int, ...], rest: list[Any], named: dict[str, Any]
) -> None:
    agree(chosen[1], (Shape(sizes), *rest), named)


@settings(deadline=None, max_examples=200)
@given(sizes=SIZES, index=st.one_of(INDEX, st.lists(INDEX, max_size=5).map(tuple)))
def test_parts_of_a_tensor(sizes: tuple[int, ...], index: Any) -> None:
    agree(FUNCTIONS["getitem"], (Shape(sizes), index), {})
    if isinstance(index, tuple):
        agree(FUNCTIONS["getitem"], (Shape(sizes), (slice(None), *index)), {})


@settings(deadline=None, max_examples=100)
@given(
    name=st.sampled_from(["add", "sub", "mul", "cat"]),
    one=SIZES,
    two=SIZES,
    dim=SMALL,
)
def test_two_tensors(name: str, one: tuple[int, ...], two: tuple[int, ...], dim: int) -> None:
    pair = (Shape(one), Shape(two))
    agree(FUNCTIONS[name], (list(pair), dim) if name == "cat" else pair, {})


@settings(deadline=None, max_examples=150)
@given(sizes=SIZES, shape=st.lists(st.one_of(st.just(BATCH), st.integers(-1, 12)), max_size=4))
def test_other_dimensions(sizes: tuple[int, ...], shape: list[Any]) -> None:
    agree(METHODS["view"], (Shape(sizes), *shape), {})
    agree(METHODS["view"], (Shape(sizes), BATCH, *shape), {})


WINDOWS = st.one_of(st.integers(0, 4), st.tuples(st.integers(0, 4), st.integers(0, 4)))


@settings(deadline=None, max_examples=300)
@given(
    kind=st.sampled_from(["Conv2d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "ZeroPad2d"]),
    sizes=st.tuples(st.just(3), st.integers(1, 9), st.integers(1, 9)),
    data=st.data(),
)
def test_windows(kind: str, sizes: tuple[int, ...], data: st.DataObject) -> None:
    layer = LAYERS[kind]
    drawn: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 6,
        "groups": data.draw(st.sampled_from([1, 3])),
        "ceil_mode": data.draw(st.booleans()),
        "bias": data.draw(st.booleans()),
        "output_size": data.draw(st.one_of(st.none(), WINDOWS)),
    }
    settings = {
        name: drawn[name] if name in drawn else data.draw(WINDOWS) for name in layer.settings
    }
    try:
        said = layer.rule(Shape(sizes), **settings)
    except (TypeError, ValueError):
        return
    found = layer.build(**settings).eval()(torch.randn(2, *sizes))
    assert tuple(found.shape) == (2, *said.sizes)


def test_every_operation_is_allowed_something() -> None:
    """A rule that refuses everything would pass the tests above."""
    x, flat = Shape((4, 8, 8)), Shape((4,))
    calls: dict[str, tuple[Any, ...]] = {
        "add": (x, x), "sub": (x, 1), "mul": (x, Shape((4, 1, 1))), "floordiv": (8, 2),
        "getitem": (x, (slice(None), 0)), "cat": ([x, x], 1), "flatten": (x, 1),
        "chunk": (x, 2, 1), "transpose": (x, 1, 2), "unsqueeze": (x, 1), "mean": (x, (2, 3)),
        "pad": (x, (1, 2, 0, 1)), "dropout": (x, 0.5, False), "layer_norm": (x, (8, 8)),
        "avg_pool2d": (x, 2), "max_pool2d": (x, 3, 2, 1), "adaptive_avg_pool2d": (x, 1),
        "adaptive_max_pool2d": (x, (2, None)), "view": (x, BATCH, -1), "reshape": (x, -1, 256),
        "leaky_relu": (x, 0.1), "size": (x,),
    }  # fmt: skip
    for name, operation in OPERATIONS:
        orders = [(x, (0, 2, 3, 1)), (x, 0, 2, 3, 1)] if name == "permute" else []
        tried = orders or [calls.get(name, (x,))]
        assert any(agree(operation, arguments, {}) for arguments in tried), name
    assert agree(FUNCTIONS["gelu"], (flat,), {"approximate": "tanh"})


def program(
    *steps: tuple[Operation | int, tuple[Any, ...]], layers: tuple[Layer, ...] = ()
) -> Program:
    made = tuple(Step(f"s{i}", does, given, {}) for i, (does, given) in enumerate(steps))
    return Program(layers, made, len(steps))


X = Value(0)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("flatten", (X,)),
        ("flatten", (X, 0, 1)),
        ("transpose", (X, 0, 1)),
        ("transpose", (X, 1, -4)),
        ("permute", (X, (1, 0, 2, 3))),
        ("chunk", (X, 2)),
        ("cat", ([X, X], 0)),
        ("mean", (X, 0)),
        ("unsqueeze", (X, 0)),
        ("getitem", (X, 0)),
        ("getitem", (X, (None, slice(None)))),
        ("pad", (X, [0] * 8)),
    ],
)
def test_photos_of_a_batch_are_never_mixed(name: str, arguments: tuple[Any, ...]) -> None:
    """Otherwise memory could grow with the square of the batch."""
    with pytest.raises(ValueError, match="across the photos"):
        measure(program((FUNCTIONS[name], arguments)), 8)


def test_the_size_of_the_batch_is_no_number() -> None:
    size, part, times = METHODS["size"], FUNCTIONS["getitem"], FUNCTIONS["mul"]
    with pytest.raises(ValueError, match="a whole number"):
        measure(program((size, (X,)), (part, (Value(1), 0)), (times, (Value(2), Value(2)))), 8)


def test_bounds_of_numbers_and_of_work() -> None:
    double = FUNCTIONS["cat"]
    growing = program(*[(double, ([Value(i), Value(i)], 1)) for i in range(40)])
    with pytest.raises(ValueError, match="numbers per photo"):
        measure(growing, 64)
    # Each small, and all alive to the end.
    relu = FUNCTIONS["relu"]
    kept = program(*[(relu, (X,))] * 900, (double, ([Value(i) for i in range(901)], 1)))
    with pytest.raises(ValueError, match="numbers per photo at once"):
        measure(kept, 256)
    pool = FUNCTIONS["avg_pool2d"]
    slow = program(*[(pool, (Value(i), 64, 1, 32)) for i in range(500)])
    with pytest.raises(ValueError, match="multiply-adds per photo"):
        measure(slow, 1024)
    assert MAX_WORK > 4e11  # regnet_y_128gf at 384
    assert MAX_NUMBERS < 2**28


def test_values_are_given_back_after_their_last_use() -> None:
    relu = FUNCTIONS["relu"]
    chain = program(*[(relu, (Value(i),)) for i in range(1000)])
    cost = measure(chain, 64)
    assert cost.numbers == 2 * 3 * 64 * 64
    assert cost.shape.sizes == (3, 64, 64)


def test_a_layer_used_twice_keeps_its_batch_norms() -> None:
    conv = Layer(
        "conv",
        LAYERS["Conv2d"],
        dict(zip(LAYERS["Conv2d"].settings, (3, 3, 1, 1, 0, 1, 1, True), strict=True)),
    )
    norms = [
        Layer(f"norm{i}", LAYERS["BatchNorm2d"], {"num_features": 3, "eps": 1e-5, "momentum": 0.1})
        for i in (1, 2)
    ]
    given = program(
        (0, (X,)), (1, (Value(1),)), (0, (Value(2),)), (2, (Value(3),)), layers=(conv, *norms)
    )
    network = Network(given).to_empty(device="cpu").eval()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    x = torch.rand(2, 3, 4, 4)
    before = network(x)
    network.fold_batch_norm()
    torch.testing.assert_close(network(x), before)
    assert sorted(network.state_dict())[:2] == ["conv.bias", "conv.weight"]

"""Untrusted ONNX files: what an export cannot contain is refused before onnxruntime reads it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.checkpoint.onnx_file import MAX_NODES, OPERATORS, check_onnx, read_onnx
from captioner.errors import CaptionerError

onnx = pytest.importorskip("onnx")
helper, types = onnx.helper, onnx.TensorProto


def model(nodes=None, weights=(), domains=("",), **more):
    x, y = (helper.make_tensor_value_info(name, types.FLOAT, ["n"]) for name in "xy")
    nodes = [helper.make_node("Relu", ["x"], ["y"])] if nodes is None else nodes
    graph = helper.make_graph(nodes, "g", [x], [y], list(weights))
    opsets = [helper.make_opsetid(domain, 18) for domain in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **more)


def weight(**changes):
    made = helper.make_tensor("w", types.FLOAT, [2], [1.0, 2.0])
    for name, value in changes.items():
        if name == "dims":
            made.dims[:] = value
        elif name == "external":
            made.data_location = types.EXTERNAL
            made.external_data.add(key="location", value=value)
        else:
            setattr(made, name, value)
    return made


def branch():
    inside = model().graph
    return helper.make_node("If", ["x"], ["y"], then_branch=inside, else_branch=inside)


HOSTILE = {
    "an operator outside of the table": (model([helper.make_node("Loop", ["x"], ["y"])]), "Loop"),
    "an operator of another domain": (
        model([helper.make_node("Relu", ["x"], ["y"], domain="com.microsoft")]),
        "com.microsoft",
    ),
    "another operator set": (model(domains=("", "own.ops")), "own.ops"),
    "branches": (model([branch()]), "If"),
    "a subgraph in an operator of the table": (
        model([helper.make_node("Relu", ["x"], ["y"], body=model().graph)]),
        "attribute: field 6",
    ),
    "weights in another file": (
        model(weights=[weight(external="../../etc/passwd")]),
        "weights outside of the file",
    ),
    "more numbers than bytes": (model(weights=[weight(dims=[2**40])]), "numbers in 8 bytes"),
    "negative sizes": (model(weights=[weight(dims=[-1])]), "numbers in 8 bytes"),
    "numbers of a strange type": (model(weights=[weight(data_type=types.STRING)]), "type 8"),
    "a function": (
        model(
            functions=[
                helper.make_function("own", "f", ["x"], ["y"], [], [helper.make_opsetid("", 18)])
            ]
        ),
        "model: field 25",
    ),
    "too many nodes": (
        model([helper.make_node("Relu", ["x"], ["y"])] * (MAX_NODES + 1)),
        "more than 20,000 nodes",
    ),
    "no graph": (model([]), "holds no graph"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_export_contains_is_refused(name, tmp_path):
    hostile, message = HOSTILE[name]
    file = tmp_path / "step.onnx"
    file.write_bytes(hostile.SerializeToString())
    with pytest.raises(CaptionerError, match="refused") as error:
        read_onnx(file)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_in_every_form_are_read():
    raw = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight()), "raw")
    whole = helper.make_tensor("i", types.INT64, [3], [1, -1, 2**40])
    small = helper.make_tensor("s", types.INT8, [2], [-1, 1])
    tally = check_onnx(model(weights=[weight(), raw, whole, small]).SerializeToString())
    assert (tally.nodes, tally.tensors, tally.numbers) == (1, 4, 9)


def test_no_operator_of_the_table_runs_a_graph_or_reads_a_file():
    assert not OPERATORS & {"If", "Loop", "Scan", "SequenceMap", "ImageDecoder", "Optional"}
    for name in OPERATORS:
        kinds = onnx.defs.get_schema(name, 18).attributes if name != "Gelu" else {}
        assert not any("GRAPH" in str(one.type) for one in kinds.values()), name


def refusal(data):
    """Why bytes are refused; empty if they are not. Anything but ValueError is a failure."""
    try:
        check_onnx(data)
    except ValueError as error:
        return str(error)
    return ""


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_accepted_or_refused_in_one_line(data):
    assert "\n" not in refusal(data)


@given(at=st.integers(0, 10**4), value=st.integers(0, 255), end=st.integers(0, 10**4))
@settings(deadline=None)
def test_a_damaged_model_is_accepted_or_refused(at, value, end):
    good = model(weights=[weight()]).SerializeToString()
    damaged = bytearray(good)
    damaged[at % len(good)] = value
    assert "\n" not in refusal(bytes(damaged))
    assert "\n" not in refusal(good[: end % len(good)])

"""A small captioner as ONNX graphs written by hand, so that tests need no export by torch.

Its features are the mean colour of a photo; the state is a mix of them and of the words so far.
"""

import json

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from captioner.checkpoint.graph_folder import FORMAT_VERSION

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "red", "dog", "cat", "runs", "sleeps", "on"]
SIDE, STATE, REGIONS = 8, 6, 4


def folder_of_graphs(folder, *, attention="none", seed=0, **changes):
    """Write the folder; `changes` replace values of its description."""
    folder.mkdir(parents=True, exist_ok=True)
    attends = attention != "none"
    rng = np.random.default_rng(seed)
    columns = REGIONS + (attention == "adaptive")
    weights = {
        "to_state": rng.standard_normal((3, STATE)),
        "embedding": rng.standard_normal((len(WORDS), STATE)),
        "recurrent": rng.standard_normal((STATE, STATE)),
        "projection": 2 * rng.standard_normal((STATE, len(WORDS))),
        "to_weights": rng.standard_normal((STATE, columns)),
        "scale": np.array(255.0),
        "none": np.zeros((1, 1)),
    }
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    sizes = {"axes": [2, 3], "state_shape": [0, 1, -1]}
    weights |= {name: np.array(value, dtype=np.int64) for name, value in sizes.items()}
    shared = {"keys": ["images", REGIONS, 2], "values": ["images", REGIONS, 2]} if attends else {}
    state = {"state_0": ["images", STATE]}
    both = {"state_0": ["images", "beams", STATE]}
    graphs = {
        "encoder": (
            [
                ("Cast", ["photos"], "floats", {"to": TensorProto.FLOAT}),
                ("Div", ["floats", "scale"], "scaled", {}),
                ("ReduceMean", ["scaled", "axes"], "features", {"keepdims": 0}),
            ],
            {"photos": ["images", 3, SIDE, SIDE]},
            {"features": ["images", 3]},
        ),
        "begin": (
            [("MatMul", ["features", "to_state"], "state_0", {})],
            {"features": ["images", 3]},
            state,
        ),
        "step": (
            [
                ("Gather", ["embedding", "words"], "embedded", {}),
                ("MatMul", ["state_0", "recurrent"], "turned", {}),
                ("Add", ["embedded", "turned"], "sums", {}),
                ("Tanh", ["sums"], "next_0", {}),
                ("MatMul", ["next_0", "projection"], "logits", {}),
                ("LogSoftmax", ["logits"], "log_probs", {"axis": -1}),
            ],
            {"words": ["images", "beams"], **both},
            {"log_probs": ["images", "beams", len(WORDS)], "next_0": both["state_0"]},
        ),
    }
    if attends:
        nodes, inputs, outputs = graphs["begin"]
        for name in shared:
            nodes.append(("Expand", ["none", "region_shape"], name, {}))
            outputs[name] = shared[name]
        nodes[1:1] = [
            ("Shape", ["features"], "all", {}),
            ("Slice", ["all", "zero", "one"], "images", {}),
            ("Concat", ["images", "rest"], "region_shape", {"axis": 0}),
        ]
        for name, value in {"zero": [0], "one": [1], "rest": [REGIONS, 2]}.items():
            weights[name] = np.array(value, dtype=np.int64)
        weights["none"] = np.zeros((1, 1, 1), dtype=np.float32)
        nodes, inputs, outputs = graphs["step"]
        nodes += [
            ("MatMul", ["next_0", "to_weights"], "scores", {}),
            ("Softmax", ["scores"], "attention", {"axis": -1}),
        ]
        inputs |= shared
        outputs["attention"] = ["images", "beams", columns]
    description = {
        "format_version": FORMAT_VERSION,
        "program_version": "0.2.0",
        "format": "onnx",
        "opset": 18,
        "quantized": None,
        "vocabulary": WORDS,
        "tokenizer": "ptb",
        "transform": {"size": SIDE, "resize": SIDE, "fit": "squash"},
        "search": {"beam_size": 3, "max_length": 6},
        "direction": "forward",
        "attention": attention,
        "encoder_batch": None,
        "graphs": {},
    }
    for name, (nodes, inputs, outputs) in graphs.items():
        (folder / f"{name}.onnx").write_bytes(model_bytes(nodes, inputs, outputs, weights))
        description["graphs"][name] = {
            "file": f"{name}.onnx",
            "inputs": {key: [dtype_of(key), shape] for key, shape in inputs.items()},
            "outputs": {key: [dtype_of(key), shape] for key, shape in outputs.items()},
        }
    (folder / "graphs.json").write_text(json.dumps(description | changes))
    return folder


def dtype_of(name):
    return {"photos": "uint8", "words": "int64"}.get(name, "float32")


def model_bytes(nodes, inputs, outputs, weights, opset=18):
    """A model of nodes (operator, inputs, output, attributes), as bytes."""
    types = {"uint8": TensorProto.UINT8, "int64": TensorProto.INT64, "float32": TensorProto.FLOAT}

    def infos(shapes):
        return [
            helper.make_tensor_value_info(key, types[dtype_of(key)], shape)
            for key, shape in shapes.items()
        ]

    used = {one for _, given, _, _ in nodes for one in given}
    graph = helper.make_graph(
        [helper.make_node(kind, given, [made], **more) for kind, given, made, more in nodes],
        "graph",
        infos(inputs),
        infos(outputs),
        [numpy_helper.from_array(weights[name], name) for name in weights if name in used],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()

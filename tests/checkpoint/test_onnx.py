"""Exported graphs compute what the networks compute, and hold nothing that an export may not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import save_checkpoint, tiny_config

from captioner import checkpoint
from captioner.build import build_decoder
from captioner.checkpoint.graph_folder import GRAPHS, read_graph_folder
from captioner.checkpoint.graphs import decoder_graphs
from captioner.checkpoint.onnx import OPSET, onnx_model
from captioner.checkpoint.onnx_file import check_onnx
from captioner.cli import main
from captioner.config.schema import DecoderConfig, EncoderConfig
from captioner.decoding.pytree import leaves
from captioner.model.decoder import select_rows

onnxruntime = pytest.importorskip("onnxruntime")

GRID = EncoderConfig(name="squeezenet1_1", weights="none", size=48, fit="squash", features="grid")

DECODERS = {
    "lstm": {"cell": "lstm"},
    "jordan, two layers": {"cell": "jordan", "layers": 2},
    "adaptive": {"cell": "gru", "attention": "adaptive"},
}

MORE_DECODERS = {
    **{
        f"{cell} {place}": {"cell": cell, "place": place}
        for cell in ("elman", "jordan", "lstm", "gru")
        for place in ("init", "pre", "par", "merge")
    },
    "logistic": {"cell": "elman", "activation": "logistic"},
    "relu": {"cell": "jordan", "activation": "relu"},
    "peepholes": {"cell": "lstm", "peepholes": True},
    "reset before": {"cell": "gru", "reset_after": False},
    "deep": {"cell": "lstm", "transition_depth": 3, "output_depth": 2, "layers": 3},
    "residual": {"cell": "gru", "layers": 3, "residual": True, "embedding_size": 12},
    "tied": {"cell": "lstm", "embedding_size": 12, "tie_embeddings": True},
    "soft": {"cell": "lstm", "attention": "soft"},
    "soft with a gate": {"cell": "gru", "attention": "soft", "attention_gate": True},
    "soft, pre": {"cell": "gru", "attention": "soft", "place": "pre"},
    "spatial": {"cell": "elman", "attention": "spatial", "attention_score": "scaled"},
    "additive": {"cell": "lstm", "attention": "adaptive", "attention_score": "additive"},
    "adaptive, par": {"cell": "lstm", "attention": "adaptive", "place": "par", "layers": 2},
    "top down": {"cell": "lstm", "attention": "top_down", "layers": 2},
    "top down, merge": {"cell": "gru", "attention": "top_down", "layers": 2, "place": "merge"},
    "jordan that attends": {"cell": "jordan", "attention": "soft", "attention_score": "additive"},
}


def tiny_decoder(**settings):
    values = {"embedding_size": 8, "hidden_size": 12, "attention_size": 6, **settings}
    torch.manual_seed(0)
    return build_decoder(DecoderConfig(**values), vocab_size=11, feature_size=10).eval()


def check_decoder(decoder, run):
    """Compare two steps of a decoder with those of its graphs, for several sizes.

    `run(name, tensors)` returns the outputs of a graph.
    """
    attends = decoder.kind != "none"
    for images, beams in ((1, 1), (3, 2), (2, 5)):
        features = torch.randn(images, 4, 10) if attends else torch.randn(images, 10)
        with torch.no_grad():
            state, regions = decoder.begin(features)
        begun = run("begin", [features])
        shared = begun[-2:] if attends else []
        assert len(begun) - len(shared) == len(leaves(state))
        rows = torch.arange(images).repeat_interleave(beams)
        state = select_rows(state, rows)
        own = [np.repeat(one[:, None], beams, 1) for one in begun[: len(begun) - len(shared)]]
        for _ in range(2):
            words = torch.randint(0, 11, (images, beams))
            with torch.no_grad():
                logits, state = decoder.step(words.flatten(), state, regions)
            log_probs, *own = run("step", [words, *map(torch.from_numpy, [*own, *shared])])
            expected = logits.log_softmax(1).view(images, beams, -1)
            np.testing.assert_allclose(log_probs, expected, atol=1e-5)
            if attends:
                expected = decoder.weights(state).view(images, beams, -1)
                np.testing.assert_allclose(own.pop(), expected, atol=1e-5)


def check_onnx_graphs(decoder):
    attends = decoder.kind != "none"
    features = torch.randn(2, 4, 10) if attends else torch.randn(2, 10)
    sessions = {}
    for name, graph in decoder_graphs(decoder, features):
        model = onnx_model(name, graph)
        assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]
        data = model.SerializeToString()
        assert check_onnx(data).nodes == len(model.graph.node)
        sessions[name] = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(name, tensors):
        inputs = [one.name for one in sessions[name].get_inputs()]
        given = dict(zip(inputs, (one.numpy() for one in tensors), strict=True))
        return sessions[name].run(None, given)

    check_decoder(decoder, run)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DECODERS, *MORE_DECODERS])
def test_a_decoder_as_onnx_computes_the_same(name):
    check_onnx_graphs(tiny_decoder(**(DECODERS | MORE_DECODERS)[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_as_pt2_computes_the_same(name, tmp_path):
    decoder = tiny_decoder(**DECODERS[name])
    features = torch.randn(2, 4, 10) if decoder.kind != "none" else torch.randn(2, 10)
    programs = {}
    for graph_name, graph in decoder_graphs(decoder, features):
        torch.export.save(graph.program, tmp_path / f"{graph_name}.pt2")
        programs[graph_name] = torch.export.load(tmp_path / f"{graph_name}.pt2").module()

    def run(which, tensors):
        states = [tensors[0]]
        if which == "step":
            count = len(tensors) - 1 - (2 if decoder.kind != "none" else 0)
            states = [tensors[0], list(tensors[1 : 1 + count]), list(tensors[1 + count :])]
        return [one.numpy() for one in programs[which](*states)]

    with torch.no_grad():
        check_decoder(decoder, run)


@pytest.fixture(scope="module")
def attending(tmp_path_factory):
    decoder = DecoderConfig(
        cell="lstm", embedding_size=8, hidden_size=12, attention="adaptive", attention_size=6
    )
    path = tmp_path_factory.mktemp("attending") / "p.ckpt"
    return save_checkpoint(path, tiny_config(encoder=GRID, decoder=decoder))


@pytest.fixture(scope="module")
def exported(attending, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    arguments = ["--checkpoint", str(attending), "--output", str(folder)]
    assert main(["export", "--format", "onnx", *arguments]) == 0
    return folder


@pytest.mark.slow
def test_the_encoder_as_onnx_computes_the_same(attending, exported):
    trained = checkpoint.load(attending)
    session = onnxruntime.InferenceSession(
        exported / "encoder.onnx", providers=["CPUExecutionProvider"]
    )
    for count in (1, 3):
        photos = torch.randint(0, 256, (count, 3, 48, 48), dtype=torch.uint8)
        (features,) = session.run(None, {"photos": photos.numpy()})
        with torch.no_grad():
            expected = trained.captioner.encode(photos)
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_folder_describes_itself(attending, exported):
    trained = checkpoint.load(attending)
    assert sorted(path.name for path in exported.iterdir()) == sorted(
        ["graphs.json", *(f"{name}.onnx" for name in GRAPHS)]
    )
    written = json.loads((exported / "graphs.json").read_text())
    assert (written["opset"], written["quantized"]) == (OPSET, None)
    assert written["special_words"] == {"pad": 0, "start": 1, "end": 2, "unknown": 3}
    assert written["graphs"]["encoder"]["inputs"] == {"photos": ["uint8", ["images", 3, 48, 48]]}
    folder = read_graph_folder(exported)
    assert folder.vocabulary.words == trained.vocabulary.words
    assert folder.transform == trained.transform
    assert folder.search() == trained.search()
    assert (folder.attention, folder.backward) == ("adaptive", False)
    for name in GRAPHS:
        content = folder.graph(name).read_bytes()
        check_onnx(content)
        assert str(Path(__file__).parents[2]).encode() not in content  # no path of this machine
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        inputs, outputs = folder.signatures[name]
        for found, described in ((session.get_inputs(), inputs), (session.get_outputs(), outputs)):
            assert [one.name for one in found] == list(described)
            for one in found:
                assert len(one.shape) == len(described[one.name][1])


@pytest.mark.slow
def test_eight_bits_are_a_third_of_the_decoder(attending, exported, tmp_path):
    folder = tmp_path / "int8"
    arguments = ["--checkpoint", str(attending), "--output", str(folder), "--quantize", "int8"]
    assert main(["export", "--format", "onnx", *arguments]) == 0
    assert read_graph_folder(folder).details["quantized"] == "int8"
    for name in GRAPHS:
        check_onnx((folder / f"{name}.onnx").read_bytes())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:No complete tensor found")  # torch.export.load
def test_an_export_as_pt2_reloads(attending, tmp_path):
    folder = tmp_path / "pt2"
    arguments = ["--checkpoint", str(attending), "--output", str(folder)]
    assert main(["export", "--format", "pt2", *arguments]) == 0
    assert read_graph_folder(folder).kind == "pt2"
    # Without its guards: one of them asks for two photos, which the graph does not need.
    encoder = torch.export.load(folder / "encoder.pt2").module(check_guards=False)
    photos = torch.randint(0, 256, (1, 3, 48, 48), dtype=torch.uint8)
    with torch.no_grad():
        expected = checkpoint.load(attending).captioner.encode(photos)
        torch.testing.assert_close(encoder(photos), expected)


@pytest.mark.slow
def test_a_folder_of_graphs_is_no_checkpoint(exported, tmp_path, capsys):
    (tmp_path / "captions.txt").write_text("a dog\n")
    captions = ["--captions", str(tmp_path / "captions.txt")]
    assert main(["score", "--checkpoint", str(exported), "p.jpg", *captions]) == 2
    assert "holds exported graphs; caption with `captioner caption --runtime onnx`" in (
        capsys.readouterr().err
    )


def test_only_an_empty_folder_is_written_to(attending, tmp_path, capsys):
    (tmp_path / "own.txt").write_text("mine")
    arguments = ["--checkpoint", str(attending), "--output", str(tmp_path)]
    assert main(["export", "--format", "onnx", *arguments]) == 2
    assert "holds own.txt; name an empty folder" in capsys.readouterr().err
    assert main(["export", "--quantize", "int8", *arguments]) == 2
    assert "--quantize: quantises ONNX graphs; add --format onnx" in capsys.readouterr().err

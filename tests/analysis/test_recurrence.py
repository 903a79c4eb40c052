"""Inside the recurrence: numbers against a recomputation step by step, pages for every network."""

import json
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import save_checkpoint, tiny_config
from torch import Tensor, nn

from captioner.analysis.recurrence import RIVALS, WordStep, as_plain, inspect_words
from captioner.analysis.recurrence_figure import recurrence_figure
from captioner.build import build_decoder
from captioner.cli import main
from captioner.config.schema import DecoderConfig, EncoderConfig
from captioner.model.captioner import Captioner
from captioner.text.vocabulary import END, SPECIAL_WORDS, START, Vocabulary

WORDS = (*SPECIAL_WORDS, "a", "dog", "runs", "on", "grass", "red")
CAPTION = [4, 5, 6, 7, 8, END]

NETWORKS: dict[str, dict[str, Any]] = {
    "elman": {"cell": "elman"},
    "elman, merge": {"cell": "elman", "place": "merge"},
    "jordan": {"cell": "jordan"},
    "lstm": {"cell": "lstm", "layers": 2},
    "lstm, pre": {"cell": "lstm", "place": "pre"},
    "peepholes": {"cell": "lstm", "peepholes": True},
    "gru": {"cell": "gru"},
    "gru, par": {"cell": "gru", "place": "par"},
    "reset before": {"cell": "gru", "reset_after": False},
    "deep transition": {"cell": "lstm", "transition_depth": 2},
    "soft": {"cell": "gru", "attention": "soft", "attention_gate": True},
    "spatial": {"cell": "lstm", "attention": "spatial"},
    "adaptive": {"cell": "gru", "attention": "adaptive"},
    "adaptive lstm": {"cell": "lstm", "attention": "adaptive"},
    "top-down": {"cell": "lstm", "attention": "top_down", "layers": 2},
    "jordan, spatial": {"cell": "jordan", "attention": "spatial"},
}
GATES = {"lstm": {"input", "forget", "output"}, "gru": {"reset", "update"}}


def network(settings: dict[str, Any]) -> Captioner:
    torch.manual_seed(1)
    config = DecoderConfig(embedding_size=6, hidden_size=7, attention_size=4, **settings)
    decoder = build_decoder(config, vocab_size=len(WORDS), feature_size=5)
    with torch.no_grad():
        decoder.embedding.weight.mul_(8)
        decoder.projection.weight.mul_(4)
    return Captioner(nn.Identity(), decoder).eval()  # type: ignore[arg-type]


def features_for(model: Captioner) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    size = (5,) if model.decoder.kind == "none" else (9, 5)
    return torch.randn(size, generator=generator)


def inspected(name: str) -> tuple[Captioner, Tensor, list[WordStep]]:
    model = network(NETWORKS[name])
    features = features_for(model)
    return model, features, inspect_words(model, Vocabulary(WORDS), features, CAPTION)


def log_prob(model: Captioner, features: Tensor, words: list[int]) -> Tensor:
    """Log-probability of the last word, all steps taken anew."""
    state, regions = model.decoder.begin(features[None])
    logits = torch.empty(0)
    for fed in [START, *words[:-1]]:
        logits, state = model.decoder.step(torch.tensor([fed]), state, regions)
    return logits[0].log_softmax(0)[words[-1]]


@pytest.mark.parametrize("name", NETWORKS)
def test_probabilities_and_reach_are_those_of_each_prefix(name: str) -> None:
    model, features, steps = inspected(name)
    assert [step.word for step in steps] == [WORDS[i] for i in CAPTION]
    for count, step in enumerate(steps, 1):
        wanted = features.clone().requires_grad_()
        value = log_prob(model, wanted, CAPTION[:count])
        (gradient,) = torch.autograd.grad(value, wanted)
        assert step.probability == pytest.approx(float(value.detach().exp()), rel=1e-4)
        assert step.reach == pytest.approx(float(gradient.norm()), rel=1e-3, abs=1e-7)
        if features.dim() == 2:
            assert step.reach_by_region == pytest.approx(
                gradient.norm(dim=1).tolist(), rel=1e-3, abs=1e-7
            )
        else:
            assert step.reach_by_region is None
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["elman", "lstm", "gru", "spatial"])
def test_reach_is_how_much_a_small_change_of_the_image_matters(name: str) -> None:
    """A finite difference along the gradient changes the log-probability by the reach."""
    model, features, steps = inspected(name)
    model.double()
    features = features.double()
    wanted = features.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(log_prob(model, wanted, CAPTION[:3]), wanted)
    direction = gradient / gradient.norm()
    with torch.no_grad():
        up, down = (log_prob(model, features + h * direction, CAPTION[:3]) for h in (1e-5, -1e-5))
    assert steps[2].reach == pytest.approx(float(up - down) / 2e-5, rel=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_distributions_are_distributions(name: str) -> None:
    model, _, steps = inspected(name)
    for step in steps:
        assert 0 <= step.probability <= 1
        assert 0 <= step.entropy <= math.log(len(WORDS)) + 1e-6
        assert len(step.rivals) == RIVALS
        listed = [probability for _, probability in step.rivals]
        assert listed == sorted(listed, reverse=True)
        assert step.word not in dict(step.rivals)
        assert step.probability + sum(listed) <= 1 + 1e-5
        assert step.entropy >= -step.probability * math.log(step.probability) - 1e-5
        if model.decoder.kind == "none":
            assert step.attention is None
        else:
            assert step.attention is not None
            assert len(step.attention) == 9
            total = sum(step.attention) + (step.sentinel or 0.0)
            assert total == pytest.approx(1, abs=1e-5)
        assert (step.sentinel is None) == (model.decoder.kind != "adaptive")


@pytest.mark.parametrize("name", NETWORKS)
def test_gates_and_states(name: str) -> None:
    settings = NETWORKS[name]
    _, _, steps = inspected(name)
    for step in steps:
        assert len(step.layers) == settings.get("layers", 1)
        for layer in step.layers:
            assert set(layer.gates) == GATES.get(settings["cell"], set())
            assert layer.hidden > 0
            assert (layer.cell is not None) == (settings["cell"] == "lstm")
            assert (layer.feedback is not None) == (settings["cell"] == "jordan")
            for gate in layer.gates.values():
                assert 0 < gate.mean < 1
                assert sum(gate.histogram) == pytest.approx(1)
                assert list(gate.quantiles) == sorted(gate.quantiles)
                assert 0 <= gate.quantiles[0] <= gate.quantiles[-1] <= 1
                assert 0 <= gate.closed + gate.open <= 1


def test_gates_of_an_lstm_by_its_equations() -> None:
    model, features, steps = inspected("lstm, pre")
    cell = model.decoder.cells[0]
    w, u, b, d = cell.recurrence.all_weights[0]  # type: ignore[union-attr, index]
    state, _ = model.decoder.begin(features[None])
    (h, c), fed = state[0], START
    with torch.no_grad():
        for word, step in zip(CAPTION, steps, strict=True):
            x = model.decoder.embedding(torch.tensor([fed]))
            i, f, g, o = (x @ w.T + h @ u.T + b + d).chunk(4, 1)  # type: ignore[union-attr]
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            (layer,) = step.layers
            for name, sums in (("input", i), ("forget", f), ("output", o)):
                values = sums.sigmoid()
                assert layer.gates[name].mean == pytest.approx(float(values.mean()), rel=1e-4)
                middle = float(values.quantile(0.5))
                assert layer.gates[name].quantiles[2] == pytest.approx(middle, rel=1e-4)
            assert layer.hidden == pytest.approx(float(h.norm()), rel=1e-4)
            assert layer.cell == pytest.approx(float(c.norm()), rel=1e-4)
            fed = word


def test_a_page_of_words_of_any_kind() -> None:
    _, _, steps = inspected("adaptive")
    odd = ["$x^2$", "<script>", "كلب", "🐕", "two\nlines", "w" * 600]
    steps = [replace(step, word=word) for step, word in zip(steps, odd, strict=True)]
    photo = np.full((31, 47, 3), 90, np.uint8)
    page = recurrence_figure(steps, photo, " ".join(odd), grid=(3, 3), box=(0, 0, 47, 31))
    assert page["png"].startswith(b"\x89PNG")
    root = ElementTree.fromstring(page["svg"].decode())
    assert root.tag.endswith("svg")
    assert not root.findall(".//{http://www.w3.org/2000/svg}script")
    again = recurrence_figure(steps, photo, " ".join(odd), grid=(3, 3), box=(0, 0, 47, 31))
    assert again == page
    json.dumps(as_plain(steps), allow_nan=False)


@pytest.mark.parametrize("cell", ["elman", "jordan", "lstm", "gru"])
def test_the_command_writes_a_page_its_svg_and_its_numbers(
    cell: str, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = cell == "gru"
    encoder = EncoderConfig(
        name="squeezenet1_1",
        weights="none",
        size=48,
        fit="squash",
        features="grid" if grid else "pooled",
    )
    decoder = DecoderConfig(
        cell=cell,  # type: ignore[arg-type]
        embedding_size=8,
        hidden_size=12,
        attention="adaptive" if grid else "none",
        attention_size=6,
    )
    file = save_checkpoint(tmp_path / "c.ckpt", tiny_config(encoder=encoder, decoder=decoder))
    common = ["--checkpoint", str(file), "--device", "cpu"]
    assert main(["caption", *common, "--n-best", "1", "--format", "jsonl", str(photos[0])]) == 0
    record = json.loads(capsys.readouterr().out)
    out = tmp_path / "out"
    assert main(["inspect", str(photos[0]), *common, "--output", str(out)]) == 0
    names = [f"0.png.inspect.{ending}" for ending in ("json", "png", "svg")]
    assert sorted(one.name for one in out.iterdir()) == names
    content = json.loads((out / names[0]).read_text())
    assert content["caption"] == record["caption"]
    total = sum(math.log(word["probability"]) for word in content["words"])
    assert total == pytest.approx(record["log_prob"], abs=1e-3)
    assert ("grid" in content) == grid


def test_the_command_with_a_caption_of_ones_own(
    tiny_checkpoint: Path, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--checkpoint", str(tiny_checkpoint), "--device", "cpu", "--output"]
    arguments = ["inspect", str(photos[1]), *common, str(tmp_path / "o")]
    assert main([*arguments, "--caption", "A red cat sleeps"]) == 0
    content = json.loads((tmp_path / "o" / "1.png.inspect.json").read_text())
    assert [word["word"] for word in content["words"]] == ["a", "red", "cat", "sleeps", "<end>"]
    assert main([*arguments, "--caption", " . "]) == 2
    assert "no word in it" in capsys.readouterr().err
    bad = tmp_path / "bad.jpg"
    bad.write_text("x")
    assert main(["inspect", str(bad), str(photos[2]), *common, str(tmp_path / "p")]) == 1
    assert "bad.jpg" in capsys.readouterr().err
    assert len(list((tmp_path / "p").iterdir())) == 3
    assert main(["inspect", str(photos[2]), *common, str(bad)]) == 2
    assert "is a file; name a folder" in capsys.readouterr().err

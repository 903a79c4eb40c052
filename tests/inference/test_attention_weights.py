"""Attention through the search: the weights of each word follow their caption."""

import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_photo, save_checkpoint, tiny_config
from torch import Tensor, nn

import captioner.decoding.running_search as running
from captioner import checkpoint
from captioner.build import build_decoder
from captioner.cli import main
from captioner.config.schema import Config, DecoderConfig
from captioner.decoding.hypotheses import Hypotheses
from captioner.decoding.options import SampleOptions, SearchOptions
from captioner.errors import UsageError
from captioner.inference.backward_rerank import log_probs
from captioner.inference.generator import CaptionGenerator
from captioner.inference.predictor import Predictor
from captioner.model.captioner import Captioner
from captioner.text.vocabulary import END, SPECIAL_WORDS, START

KINDS: dict[str, dict[str, Any]] = {
    "soft": {"attention": "soft", "attention_gate": True},
    "spatial": {"attention": "spatial"},
    "adaptive": {"attention": "adaptive"},
    "top-down": {"attention": "top_down", "layers": 2},
    "jordan": {"attention": "spatial", "cell": "jordan"},
}


def captioner(seed: int = 0, **settings: Any) -> Captioner:
    """A network with sharp opinions, for features of regions (B, R, 6)."""
    torch.manual_seed(seed)
    config = DecoderConfig(
        embedding_size=5, hidden_size=7, attention_size=3, dropout=0.0, **settings
    )
    decoder = build_decoder(config, vocab_size=len(SPECIAL_WORDS) + 3, feature_size=6)
    with torch.no_grad():
        decoder.projection.weight.mul_(6)
        decoder.embedding.weight.mul_(10)
    model = Captioner(nn.Identity(), decoder, backward=config.direction == "backward")  # type: ignore[arg-type]
    return model.eval()


def grids(n: int = 5) -> Tensor:
    """Features of images with different numbers of regions."""
    features = torch.randn(n, 4, 6, generator=torch.Generator().manual_seed(3))
    features[1, 3:] = math.nan
    return features


def by_steps(model: Captioner, image: Tensor, words: list[int]) -> tuple[float, Tensor]:
    """Log-probability and attention weights (T, R) of words that are fed one by one."""
    state, regions = model.decoder.begin(image[None])
    total, fed, seen = 0.0, START, []
    with torch.inference_mode():
        for word in words:
            logits, state = model.decoder.step(torch.tensor([fed]), state, regions)
            total += float(logits.log_softmax(1)[0, word])
            seen.append(model.decoder.weights(state)[0])
            fed = word
    return total, torch.stack(seen)


def check_weights(model: Captioner, features: Tensor, found: Hypotheses) -> None:
    """Every caption carries the weights that its own words would have had."""
    assert found.attention is not None
    most = found.words.shape[2]
    for i, captions in enumerate(found.captions()):
        for k, words in enumerate(captions):
            written = [*words, END] if len(words) < most else words
            order = written
            if model.backward:
                order = [*reversed(words), END] if len(words) < most else written[::-1]
            total, weights = by_steps(model, features[i], order)
            if model.backward:
                weights = torch.cat((weights[: len(words)].flip(0), weights[len(words) :]))
            assert float(found.log_probs[i, k]) == pytest.approx(total, abs=1e-4)
            own = found.attention[i, k]
            torch.testing.assert_close(own[: len(written)], weights, atol=1e-5, rtol=1e-4)
            assert not own[len(written) :].any()


SEARCHES = [
    SearchOptions(beam_size=1, max_length=6),
    SearchOptions(beam_size=4, n_best=4, max_length=6),
    SearchOptions(beam_size=4, n_best=2, max_length=3, length_norm="average"),
    SearchOptions(beam_size=4, n_best=4, groups=2, diversity=0.5, max_length=5),
    SampleOptions(samples=3, max_length=6),
]


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("options", SEARCHES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_weights_follow_their_caption(
    kind: dict[str, Any],
    options: SearchOptions | SampleOptions,
    asks: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "answers_at_once", lambda device: asks)
    model, features = captioner(**kind), grids()
    generate = CaptionGenerator([model], options, attention=True)
    check_weights(model, features, generate([features], torch.arange(len(features))))


def test_weights_follow_words_that_were_found_from_the_last_to_the_first() -> None:
    model, features = captioner(attention="spatial", direction="backward"), grids()
    options = SearchOptions(beam_size=3, n_best=3, max_length=5)
    check_weights(model, features, CaptionGenerator([model], options, attention=True)([features]))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_the_widest_beam_finds_what_enumeration_finds(kind: dict[str, Any]) -> None:
    model, features, longest = captioner(**kind), grids(2), 3
    writable = range(len(SPECIAL_WORDS), len(SPECIAL_WORDS) + 3)
    options = SearchOptions(beam_size=27, n_best=5, max_length=longest)
    found = CaptionGenerator([model], options)([features])
    for i in range(2):
        every = []
        for n in range(longest + 1):
            for words in product(writable, repeat=n):
                ended = [*words, END] if n < longest else list(words)
                every.append((by_steps(model, features[i], ended)[0], list(words)))
        every.sort(reverse=True)
        assert found.captions()[i] == [words for _, words in every[:5]]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_keys_are_projected_once_an_image_and_beams_add_no_copies(kind: dict[str, Any]) -> None:
    model, features = captioner(**kind), grids()
    projected: list[int] = []
    attention = model.decoder.attention
    attention.key.register_forward_hook(lambda _, given, __: projected.append(len(given[0])))
    looked_at: set[int] = set()
    attention.register_forward_hook(lambda _, given, __: looked_at.add(len(given[1].keys)))
    CaptionGenerator([model], SearchOptions(beam_size=4, max_length=6))([features])
    assert projected == [5 * 4]
    assert max(looked_at) == 5


def test_members_with_and_without_attention_write_together() -> None:
    models = [
        captioner(0, attention="adaptive"),
        captioner(1),
        captioner(2, attention="soft", cell="gru"),
    ]
    features = grids()
    options = SearchOptions(beam_size=3, n_best=3, max_length=4)
    found = CaptionGenerator(models, options, attention=True)([features] * 3)
    assert found.attention is not None
    assert found.attention.shape == (5, 3, 5, 4)
    words = found.captions()[0][0]
    written = [*words, END] if len(words) < 4 else words
    _, adaptive = by_steps(models[0], features[0], written)
    _, soft = by_steps(models[2], features[0], written)
    expected = (adaptive[:, :4] + soft) / 2
    torch.testing.assert_close(found.attention[0, 0, : len(written)], expected)


def test_weights_of_different_grids_have_no_mean() -> None:
    models = [captioner(attention="spatial"), captioner(attention="soft")]
    generate = CaptionGenerator(models, SearchOptions(max_length=3), attention=True)
    with pytest.raises(UsageError, match="different numbers of regions"):
        generate([torch.randn(2, 4, 6), torch.randn(2, 9, 6)])


def test_a_network_without_attention_has_no_weights() -> None:
    with pytest.raises(UsageError, match="has none"):
        CaptionGenerator([captioner()], SearchOptions(), attention=True)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_the_other_direction_ranks_with_attention(kind: dict[str, Any]) -> None:
    model, other = captioner(), captioner(1, direction="backward", **kind)
    features = grids()
    found = CaptionGenerator([model], SearchOptions(beam_size=3, n_best=3, max_length=5))(
        [features]
    )
    scores = log_probs(other, features, found)
    for i, captions in enumerate(found.captions()):
        for k, words in enumerate(captions):
            total, _ = by_steps(other, features[i], [*reversed(words), END])
            assert float(scores[i, k]) == pytest.approx(total, rel=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_a_recorded_search_finds_the_same(kind: dict[str, Any]) -> None:
    model = captioner(**kind).to("cuda")
    options = SearchOptions(beam_size=4, n_best=2, max_length=9)
    plain = CaptionGenerator([model], options, attention=True)
    recorded = CaptionGenerator([model], options, attention=True)
    assert plain._search is not None
    assert recorded._search is not None
    plain._search.record_after, recorded._search.record_after = 99, 0
    for seed in range(3):
        features = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(seed)).cuda()
        features[0, 2:] = math.nan
        found, wanted = recorded([features]), plain([features])
        assert found.captions() == wanted.captions()
        assert torch.equal(found.log_probs, wanted.log_probs)
        assert found.attention is not None
        assert wanted.attention is not None
        assert torch.equal(found.attention, wanted.attention)
    assert any(recording is not None for recording in recorded._search.recordings.values())


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_a_gpu_trains_as_a_cpu_does(kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model, features = captioner(**kind), grids(3)
    words, targets = torch.tensor([1, 1, 1, 4, 5, 6]), torch.tensor([4, 5, 6, 4, 5, 6])
    rows, sizes = torch.tensor([2, 0, 2]), torch.tensor([3, 3])
    losses, gradients = [], []
    for device in ("cpu", "cuda"):
        model = model.to(device).train()
        given = [tensor.to(device) for tensor in (features, words, targets)]
        loss = model.loss(*given, sizes, rows.to(device), attention_penalty=0.3)
        model.zero_grad()
        loss.backward()
        losses.append(loss.item())
        gradients.append([w.grad.clone().cpu() for w in model.parameters() if w.grad is not None])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


def attending(**settings: Any) -> Config:
    config = tiny_config()
    encoder = replace(config.encoder, features="grid")
    return replace(config, encoder=encoder, decoder=replace(config.decoder, **settings))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_checkpoint_export_and_predictor(kind: dict[str, Any], tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "a.ckpt", attending(**kind))
    photos = [make_photo(tmp_path / f"{i}.png", i) for i in range(3)]
    search = SearchOptions(beam_size=3, n_best=2, max_length=5)
    found = list(Predictor.load(path, search=search, attention=True).caption(photos))
    checkpoint.export(path, tmp_path / "exported")
    again = list(
        Predictor.load(tmp_path / "exported", search=search, attention=True).caption(photos)
    )
    for one, other in zip(found, again, strict=True):
        assert one.candidates == other.candidates
        assert one.attention is not None
        assert other.attention is not None
        np.testing.assert_array_equal(one.attention.weights, other.attention.weights)
        k, t, r = one.attention.weights.shape
        assert (k, t) == (2, max(len(candidate.words) for candidate in one.candidates))
        assert one.attention.grid[0] * one.attention.grid[1] == r
        sums = one.attention.weights.sum(2)
        if kind["attention"] == "adaptive":
            assert one.attention.sentinel is not None
            sums = sums + one.attention.sentinel
        for place, candidate in enumerate(one.candidates):
            np.testing.assert_allclose(sums[place, : len(candidate.words)], 1, rtol=1e-5)


def test_json_lines_hold_the_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_checkpoint(tmp_path / "a.ckpt", attending(attention="adaptive"))
    photo = make_photo(tmp_path / "photo.png", 0)
    call = ["caption", str(photo), "--checkpoint", str(path), "--attention"]
    assert main([*call, "--format", "jsonl", "--n-best", "2"]) == 0
    record = json.loads(capsys.readouterr().out)
    attention = record["attention"]
    assert sorted(attention) == ["grid", "sentinel", "weights", "words"]
    assert len(attention["words"]) == len(attention["weights"]) == len(attention["sentinel"])
    assert attention["words"] == record["candidates"][0]["words"]
    assert record["candidates"][1]["attention"]["words"] == record["candidates"][1]["words"]
    assert main(call) == 2
    assert "use --format jsonl" in capsys.readouterr().err


def test_attention_is_refused_where_there_is_none(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = make_photo(tmp_path / "photo.png", 0)
    call = ["caption", str(photo), "--checkpoint", str(tiny_checkpoint), "--attention"]
    assert main([*call, "--format", "jsonl"]) == 2
    assert "train one with decoder.attention" in capsys.readouterr().err

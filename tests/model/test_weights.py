"""Weights as people keep them: whatever the key and the prefix, the same tensors."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision import models

from captioner.errors import CaptionerError, UsageError
from captioner.model.backbones.weights import (
    load_weights,
    read_state_dict,
    tensors_of,
    without_prefix,
)
from captioner.model.encoder import torchvision_encoder


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Sequential(nn.Linear(2, 2)))


def prefixed(prefix: str, seed: int = 1) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in network(seed).state_dict().items()}


segments = st.sampled_from(["module", "model", "backbone", "encoder", "net", "0", "trunk"])


@given(st.lists(segments, max_size=4), st.sampled_from([None, "state_dict", "model", "model_ema"]))
def test_any_prefix_under_any_key(parts: list[str], key: str | None) -> None:
    state = prefixed("".join(part + "." for part in parts))
    found = tensors_of({"epoch": 3, key: state} if key else state)
    assert found is not None
    wanted = network(1).state_dict()
    bare = without_prefix(found, list(wanted))
    assert {name: bare[name] for name in wanted}.keys() == wanted.keys()
    assert all(torch.equal(bare[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize(
    "contents",
    [
        prefixed("_orig_mod."),
        prefixed("module._orig_mod."),
        {"model_state_dict": prefixed("model._orig_mod.")},
        {"model": {"state_dict": prefixed("encoder.")}},
        {"state_dict": prefixed("net."), "optimizer": {"state": {}}},
        {"model": prefixed(""), "model_ema": prefixed("module.", seed=2), "epoch": 1},
        {"model_ema": {**prefixed("module."), "n_averaged": torch.tensor(3)}},
        {**prefixed("backbone."), "head.weight": torch.zeros(2)},
        {n.replace("2.", "2._orig_mod."): t for n, t in prefixed("").items()},
        {"state_dict": {**prefixed(""), "step": 5}},
        {n: t for n, t in prefixed("module.").items() if "num_batches" not in n},
    ],
)
def test_files_of_training_programs(tmp_path: Path, contents: object) -> None:
    torch.save(contents, tmp_path / "w.pth")
    filled = network(0)
    load_weights(filled, read_state_dict(tmp_path / "w.pth", []), "w.pth")
    for name, weight in network(1).named_parameters():
        assert torch.equal(filled.get_parameter(name), weight), name


def test_two_networks_in_one_file() -> None:
    state = prefixed("student.") | prefixed("teacher.", seed=2)
    with pytest.raises(UsageError, match=r"several such networks, under student\., teacher\."):
        without_prefix(state, list(network(0).state_dict()))


def test_names_that_fit_nothing_stay() -> None:
    state = {"model.conv.weight": torch.zeros(1)}
    assert without_prefix(state, list(network(0).state_dict())) == state


@pytest.mark.parametrize("contents", [{}, [1], {"model": []}, {"model": {"epoch": 1}}, None, 3])
def test_no_tensors(contents: object) -> None:
    assert tensors_of(contents) is None


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "an empty file"),
        (b"\n<!DOCTYPE html><html>quota exceeded</html>", "a web page"),
        (None, "damaged or incomplete"),
        (b"version https://git-lfs.github.com/spec/v1", "damaged or incomplete"),
    ],
)
def test_a_damaged_file_in_the_cache_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, fault: str
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = models.SqueezeNet1_1_Weights.DEFAULT.url.rpartition("/")[2]
    file = tmp_path / "hub" / "checkpoints" / name
    file.parent.mkdir(parents=True)
    if content is None:
        torch.save(models.squeezenet1_1().state_dict(), file)
        content = file.read_bytes()[:100_000]
    file.write_bytes(content)
    with pytest.raises(CaptionerError) as caught:
        torchvision_encoder("squeezenet1_1", "DEFAULT", grid=False)
    assert f"{file}: {fault}" in str(caught.value)
    assert "delete the file to download it again" in str(caught.value)
    with pytest.raises(UsageError, match=f"that torch.save wrote: {fault}"):
        torchvision_encoder("squeezenet1_1", str(file), grid=False)


def test_a_download_is_announced_on_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(CaptionerError, match="could not be downloaded"):
        torchvision_encoder("squeezenet1_1", "DEFAULT", grid=False)
    said = capsys.readouterr()
    assert said.out == ""
    assert "squeezenet1_1" in said.err

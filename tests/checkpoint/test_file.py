"""Checkpoints: whole in one file, read in a fresh process, refused when they are something else."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_photo, save_checkpoint, tiny_config

from captioner import checkpoint
from captioner.config.schema import EncoderConfig
from captioner.errors import CaptionerError, UsageError
from captioner.inference.predictor import Predictor


def test_round_trip(tiny_checkpoint: Path) -> None:
    loaded = checkpoint.load(tiny_checkpoint)
    raw = torch.load(tiny_checkpoint, weights_only=True)
    assert loaded.config == tiny_config()
    assert loaded.vocabulary.words[4:6] == ("a", "red")
    assert (loaded.transform.size, loaded.transform.fit) == (48, "squash")
    assert not loaded.captioner.training
    weights = loaded.captioner.state_dict()
    assert len(weights) == len(raw["state_dict"])
    for name, tensor in weights.items():
        assert torch.equal(tensor, raw["state_dict"][f"captioner.{name}"])


def test_fine_tuned_encoder_keeps_its_batch_norm_until_it_is_loaded(tmp_path: Path) -> None:
    encoder = EncoderConfig(
        name="mobilenet_v3_small", weights="none", size=32, train_from="features.11"
    )
    path = save_checkpoint(tmp_path / "tuned.ckpt", tiny_config(encoder=encoder))
    loaded = checkpoint.load(path)
    modules = loaded.captioner.encoder.trunk.modules()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in modules)


def test_network_without_description_is_built_by_name(tmp_path: Path) -> None:
    encoder = EncoderConfig(name="swin_t", weights="none", size=64)
    path = save_checkpoint(tmp_path / "swin.ckpt", tiny_config(encoder=encoder))
    photo = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        assert checkpoint.load(path).captioner.encode(photo).shape == (1, 768)


@pytest.mark.slow
def test_fresh_process_in_another_folder_gives_the_same_captions(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    photos = [make_photo(tmp_path / f"{i}.png", i) for i in range(3)]
    here = [found.caption for found in Predictor.load(tiny_checkpoint).caption(photos)]
    code = (
        "import sys\n"
        "from captioner.inference.predictor import Predictor\n"
        "predictor = Predictor.load(sys.argv[1])\n"
        "for found in predictor.caption(sys.argv[2:]): print(found.caption)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tiny_checkpoint), *map(str, photos)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert result.stdout.splitlines() == here
    assert len(set(here)) > 1


def changed(path: Path, to: Path, change: Any) -> Path:
    raw = torch.load(path, weights_only=True)
    change(raw)
    torch.save(raw, to)
    return to


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("captioner"), "a checkpoint of another program"),
        (lambda raw: raw["captioner"].update(format_version=99), "is newer than this version"),
        (lambda raw: raw["captioner"]["vocabulary"].pop(), "damaged checkpoint: .*size mismatch"),
        (lambda raw: raw["captioner"].pop("transform"), "damaged checkpoint: 'transform'"),
        (lambda raw: raw["captioner"]["vocabulary"].reverse(), "vocabulary: must begin with <pad>"),
        (lambda raw: raw["state_dict"].popitem(), "damaged checkpoint: .*Missing key"),
        (lambda raw: raw["captioner"]["encoder"].update(network=3), "damaged|cannot be rebuilt"),
    ],
)
def test_checkpoints_of_another_kind(
    tiny_checkpoint: Path, tmp_path: Path, change: Any, message: str
) -> None:
    path = changed(tiny_checkpoint, tmp_path / "changed.ckpt", change)
    with pytest.raises(CaptionerError, match=message) as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_checkpoints(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "none.ckpt")
    text = tmp_path / "text.ckpt"
    text.write_text("hello")
    with pytest.raises(UsageError, match="not a checkpoint, or damaged"):
        checkpoint.load(text)
    text.write_bytes(tiny_checkpoint.read_bytes()[:5000])
    with pytest.raises(UsageError, match="not a checkpoint, or damaged"):
        checkpoint.load(text)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"state_dict": {}, "captioner": Trap()}, tmp_path / "trap.ckpt")
    with pytest.raises(UsageError, match="not a checkpoint, or damaged"):
        checkpoint.load(tmp_path / "trap.ckpt")
    assert not (tmp_path / "sprung").exists()

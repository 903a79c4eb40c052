"""Encoders of EfficientNet-Lite and timm: equal to timm's own networks, and storable."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from captioner.checkpoint.encoder_description import describe
from captioner.errors import CaptionerError, UsageError
from captioner.model.backbones import efficientnet_lite as lite
from captioner.model.backbones.weights import read_state_dict
from captioner.model.encoder import pretrained_encoder

NAMES = sorted(lite.LITE_NETWORKS)


def photos(size: int, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


@given(st.integers(1, 600), st.sampled_from([1, 3, 5, 7]), st.sampled_from([1, 2]))
def test_padding_lets_a_convolution_give_the_pixels_divided_by_the_stride(
    pixels: int, kernel: int, stride: int
) -> None:
    side = lite.Side(pixels)
    padding = side.padding(kernel, stride)
    assert isinstance(padding, nn.ZeroPad2d)
    left, right, top, bottom = padding.padding
    assert (left, right) == (top, bottom)
    assert 0 <= right - left <= 1  # the odd pixel is at the right and the bottom
    if pixels + left + right >= kernel:
        assert (pixels + left + right - kernel) // stride + 1 == -(-pixels // stride)
    assert side.pixels == -(-pixels // stride)


@pytest.mark.parametrize("size", [161, 224, 260])
@pytest.mark.parametrize("name", NAMES)
def test_lite_equals_timm(name: str, size: int, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model(f"tf_{name}").eval()
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):  # statistics as of a network that has seen photos
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    encoder, preprocessing = pretrained_encoder(
        name, str(tmp_path / "weights.pth"), grid=True, size=size
    )
    pixels = photos(size)
    with torch.inference_mode():
        maps = theirs.forward_features((pixels - 127.0) / 128)
        expected = maps.flatten(2).transpose(1, 2)  # (B, R, F)
        torch.testing.assert_close(encoder(pixels), expected, rtol=1e-4, atol=1e-4)
        encoder.fold_batch_norm()
        torch.testing.assert_close(encoder(pixels), expected, rtol=1e-3, atol=1e-3)
    assert preprocessing.interpolation == "bicubic"


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2"])
def test_weights_of_the_packages(name: str) -> None:
    network = lite.LITE_NETWORKS[name]
    try:
        path = lite.packaged_weights(name)
    except CaptionerError:
        pytest.skip(f"{network.package} is not installed")
    encoder, preprocessing = pretrained_encoder(name, "DEFAULT", grid=False)
    assert (preprocessing.size, preprocessing.resize) == (network.size, network.size + 32)
    assert encoder.feature_size == 1280
    renamed = lite.with_our_names(read_state_dict(path, []), network)
    whole = lite.build_network(network, network.size)
    whole.load_state_dict(renamed)  # every tensor has its place, the classifier's too


def test_a_missing_or_changed_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    known = lite.LITE_NETWORKS["efficientnet_lite0"]
    monkeypatch.setitem(
        lite.LITE_NETWORKS, "efficientnet_lite0", replace(known, package="no-such-package")
    )
    with pytest.raises(CaptionerError, match=r"are in the package no-such-package; install it"):
        pretrained_encoder("efficientnet_lite0", "DEFAULT", grid=False)
    monkeypatch.setitem(lite.LITE_NETWORKS, "efficientnet_lite0", replace(known, package="pytest"))
    with pytest.raises(CaptionerError, match=r"pytest has no weights file with the digest"):
        pretrained_encoder("efficientnet_lite0", "DEFAULT", grid=False)


DESCRIBED = {
    "resnet18": True,
    "tf_efficientnet_lite0": True,
    "tf_mobilenetv3_small_100": True,
    "densenet121": True,  # BatchNormAct2d
    "convnext_atto": False,
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_timm_networks_equal_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    size = 96
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=0).eval()
    torch.manual_seed(0)
    encoder, preprocessing = pretrained_encoder(f"timm:{name}", "none", grid=True, size=size)
    pixels = photos(size)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    with torch.inference_mode():
        maps = theirs.forward_features((pixels / 255 - mean) / std)
        expected = maps.flatten(2).transpose(1, 2)
        torch.testing.assert_close(encoder(pixels), expected, rtol=1e-3, atol=1e-4)
        encoder.fold_batch_norm()
        torch.testing.assert_close(encoder(pixels), expected, rtol=1e-2, atol=1e-3)
    if DESCRIBED[name]:
        assert describe(encoder.trunk)


def test_unknown_timm_network_names_the_nearest() -> None:
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match=r"timm has no network 'resnet81'; did you mean resnet"):
        pretrained_encoder("timm:resnet81", "none", grid=False)


def test_timm_is_imported_only_for_its_networks() -> None:
    code = (
        "import sys; from captioner.model.encoder import pretrained_encoder; "
        "pretrained_encoder('efficientnet_lite0', 'none', grid=False); "
        "assert 'timm' not in sys.modules and 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_timm_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        UsageError, match=r"needs timm; install it: pip install 'captioner\[timm\]'"
    ):
        pretrained_encoder("timm:resnet18", "none", grid=False)

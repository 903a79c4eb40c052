"""Encoders: the cut, features, normalisation, fine-tuning, folding, and what users do wrong."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torchvision import models

from captioner.checkpoint.encoder_description import NotDescribableError, describe, rebuild
from captioner.errors import CaptionerError, UsageError
from captioner.model.backbones.cut import cut
from captioner.model.encoder import Encoder, torchvision_encoder

SHARED_WEIGHTS = (
    Path(__file__).resolve().parents[2].parent
    / "shared/data/weights/mobilenet_v2_imagenet1k_v1.pth"
)


def photos(n: int = 2, side: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, side, side), generator=generator, dtype=torch.uint8)


def settled(network: nn.Module) -> nn.Module:
    """A random network whose batch norms have statistics of their own."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.eval()


def test_pooled_features_are_those_of_the_network() -> None:
    """Against torchvision's own forward pass with the classifier taken out."""
    network = settled(models.mobilenet_v2())
    trunk, size = cut(network, 224)
    encoder = Encoder(trunk, size, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), grid=False)
    normalise = models.MobileNet_V2_Weights.DEFAULT.transforms(crop_size=64, resize_size=64)
    network.classifier = nn.Identity()
    with torch.inference_mode():
        expected = network(normalise(photos()))
        features = encoder(photos())
    assert features.shape == (2, 1280)
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


def test_grid_averages_to_pooled() -> None:
    pooled, _ = torchvision_encoder("resnet18", "none", grid=False)
    grid = Encoder(pooled.trunk, 512, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), grid=True)
    with torch.inference_mode():
        features = grid(photos(side=96))
        assert features.shape == (2, 9, 512)
        torch.testing.assert_close(features.mean(1), pooled(photos(side=96)))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mobilenet_v3_small", 576),
        ("squeezenet1_1", 512),
        ("shufflenet_v2_x0_5", 1024),
        ("densenet121", 1024),
        ("regnet_y_400mf", 440),
        ("efficientnet_b0", 1280),
        ("mnasnet0_5", 1280),
        ("alexnet", 256),
    ],
)
def test_the_cut_finds_the_last_feature_map(name: str, size: int) -> None:
    trunk, feature_size = cut(models.get_model(name).eval(), 224)
    assert feature_size == size
    assert not any(n.split(".")[0] in ("classifier", "fc") for n, _ in trunk.named_modules() if n)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "regions"),
    [
        ("resnet50", 2048, 49),
        ("vgg11", 512, 49),
        ("googlenet", 1024, 49),
        ("inception_v3", 2048, 64),
        ("convnext_tiny", 768, 49),
        ("swin_t", 768, 49),
        ("vit_b_32", 768, 49),
        ("maxvit_t", 512, 49),
    ],
)
def test_any_network_gives_pooled_and_grid(name: str, size: int, regions: int) -> None:
    encoder, preprocessing = torchvision_encoder(name, "none", grid=True)
    with torch.inference_mode():
        grid = encoder(photos(1, preprocessing.size))
        encoder.grid = False
        pooled = encoder(photos(1, preprocessing.size))
    assert encoder.feature_size == size
    assert grid.shape == (1, regions, size)
    assert pooled.shape == (1, size)


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "mobilenet_v3_small", "densenet121", "mnasnet0_5"),
        *("shufflenet_v2_x0_5", "regnet_y_400mf"),  # sizes as values; names with hyphens
    ],
)
def test_folding_batch_norm_and_rebuilding_change_nothing(name: str) -> None:
    trunk, size = cut(settled(models.get_model(name)), 224)
    encoder = Encoder(trunk, size, (0.5,) * 3, (0.2,) * 3, grid=False)
    with torch.inference_mode():
        before = encoder(photos())
    encoder.fold_batch_norm()
    with torch.inference_mode():
        folded = encoder(photos())
    again = rebuild(describe(encoder.trunk), side=64, channels=size)
    again.load_state_dict(encoder.trunk.state_dict(), assign=True)
    copy = Encoder(again, size, (0.5,) * 3, (0.2,) * 3, grid=False)
    with torch.inference_mode():
        rebuilt = copy(photos())
    assert before.abs().max() > 0
    torch.testing.assert_close(folded, before, atol=1e-4, rtol=1e-3)
    assert torch.equal(rebuilt, folded)
    if name == "resnet18":
        assert not any(isinstance(m, nn.BatchNorm2d) for m in encoder.trunk.modules())


def test_what_cannot_be_described_says_so() -> None:
    encoder, _ = torchvision_encoder("swin_t", "none", grid=False)
    with pytest.raises(NotDescribableError):
        describe(encoder.trunk)


@pytest.mark.parametrize(
    "damage",
    [
        lambda steps: steps[1].update(layer="Exec"),
        lambda steps: steps[1].update(kind="get_attr"),
        lambda steps: steps[1].update(args={"tuple": [{"node": "nobody"}]}),
        lambda steps: steps[1].pop("settings"),
        lambda steps: steps[1].update(kind="call_method", target="__reduce__"),
        lambda steps: steps[1].update(kind="call_function", target="system"),
    ],
)
def test_a_damaged_description_is_refused(damage: object) -> None:
    trunk, _ = cut(models.squeezenet1_1().eval(), 224)
    steps = describe(trunk)
    damage(steps)  # type: ignore[operator]
    with pytest.raises(CaptionerError, match="encoder's description"):
        rebuild(steps)


def test_frozen_by_default_and_in_evaluation_mode_while_training() -> None:
    encoder, _ = torchvision_encoder("resnet18", "none", grid=False)
    encoder.train()
    assert not any(weight.requires_grad for weight in encoder.parameters())
    assert not any(m.training for m in encoder.modules() if isinstance(m, nn.BatchNorm2d))


def test_fine_tuning_from_a_block_on() -> None:
    encoder, _ = torchvision_encoder("resnet18", "none", grid=False)
    tuned = encoder.train_from("layer4")
    encoder.train()
    trainable = {name for name, weight in encoder.named_parameters() if weight.requires_grad}
    assert trainable == {n for n, _ in encoder.named_parameters() if n.startswith("trunk.layer4")}
    assert len(tuned) == len(trainable)
    norms = {
        name: module.training
        for name, module in encoder.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    assert all(training == ("layer4" in name) for name, training in norms.items())
    assert len(encoder.train_from("all")) == len(list(encoder.parameters()))


def test_fine_tuning_moves_the_weights() -> None:
    encoder, _ = torchvision_encoder("mobilenet_v3_small", "none", grid=False)
    weights = encoder.train_from("features.11")
    before = [w.detach().clone() for w in weights]
    encoder.train()
    encoder(photos()).square().mean().backward()
    with torch.no_grad():
        for weight in weights:
            assert weight.grad is not None
            weight -= 0.1 * weight.grad
    assert any(not torch.equal(a, b) for a, b in zip(before, weights, strict=True))


def test_fingerprint_knows_the_weights() -> None:
    torch.manual_seed(0)
    one, _ = torchvision_encoder("squeezenet1_1", "none", grid=False)
    same = one.fingerprint()
    assert one.fingerprint() == same
    with torch.no_grad():
        next(iter(one.trunk.parameters()))[0, 0, 0, 0] += 1e-3
    assert one.fingerprint() != same


def test_weights_of_a_path_whatever_their_classifier(tmp_path: Path) -> None:
    network = settled(models.resnet18(num_classes=7))
    path = tmp_path / "mine.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, path)
    encoder, _ = torchvision_encoder("resnet18", str(path), grid=False)
    for name, tensor in encoder.trunk.state_dict().items():
        torch.testing.assert_close(tensor, network.state_dict()[name])


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet5", "none", "torchvision has no classification network 'resnet5'; did you mean"),
        ("resnet18", "IMAGENET1K_V9", "neither a file nor a weight name .* IMAGENET1K_V1, none"),
    ],
)
def test_unknown_names(name: str, weights: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        torchvision_encoder(name, weights, grid=False)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"not weights")
    with pytest.raises(UsageError, match=r"weights\.pth is not a file of tensors"):
        torchvision_encoder("resnet18", str(path), grid=False)
    torch.save([1, 2], path)
    with pytest.raises(UsageError, match="has no state_dict"):
        torchvision_encoder("resnet18", str(path), grid=False)
    torch.save(models.squeezenet1_1().state_dict(), path)
    with pytest.raises(UsageError, match=r"do not fit: \d+ of \d+ tensors are missing, the first"):
        torchvision_encoder("resnet18", str(path), grid=False)
    state = models.resnet18().state_dict()
    state["conv1.weight"] = torch.zeros(3, 3, 3, 3)
    torch.save(state, path)
    with pytest.raises(UsageError, match=r"conv1.weight is \(3, 3, 3, 3\), the network has \(64"):
        torchvision_encoder("resnet18", str(path), grid=False)


def test_a_failed_download_names_the_path_option(monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.error import URLError

    def offline(*args: object, **kwargs: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(CaptionerError, match=r"DEFAULT of resnet18 could not be downloaded.*PATH"):
        torchvision_encoder("resnet18", "DEFAULT", grid=False)


def test_no_such_block() -> None:
    encoder, _ = torchvision_encoder("resnet18", "none", grid=False)
    with pytest.raises(UsageError, match=r"no block 'layer5' .* did you mean layer4"):
        encoder.train_from("layer5")


@pytest.mark.skipif(not SHARED_WEIGHTS.exists(), reason="needs the shared pretrained weights")
def test_real_weights_load_and_have_features() -> None:
    encoder, preprocessing = torchvision_encoder("mobilenet_v2", str(SHARED_WEIGHTS), grid=False)
    assert (preprocessing.size, preprocessing.resize) == (224, 256)
    with torch.inference_mode():
        features = encoder(photos(side=224))
    assert features.min() >= 0
    assert features.max() <= 6  # averages of ReLU6
    assert features.std() > 0.1


def test_a_gpu_does_not_round_outside_of_training() -> None:
    """What cuDNN is told while the network runs, which a machine without it knows as well."""
    cudnn: Any = torch.backends.cudnn
    told = []

    class Trunk(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            told.append((cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision))
            return x

    before = (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision)
    trunk = fx.symbolic_trace(nn.Identity())
    encoder = Encoder(trunk, 3, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), grid=False)
    encoder.trunk = Trunk()  # type: ignore[assignment]
    photos = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    encoder.eval()(photos)
    encoder.tf32 = True
    encoder(photos)
    encoder.tf32 = False
    encoder.train()(photos)
    assert told == [("ieee", "ieee"), before, before]
    assert (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision) == before


@pytest.mark.parametrize(("side", "most"), [(64, 32), (256, 2), (400, 1)])
def test_a_cpu_encodes_a_few_photos_at_a_time(side: int, most: int) -> None:
    encoder, _ = torchvision_encoder("squeezenet1_1", "none", grid=True)
    seen = []
    encoder.trunk.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    photos = torch.randint(256, (35 if side == 64 else 3, 3, side, side), dtype=torch.uint8)
    with torch.inference_mode():
        features = encoder.encode(photos)
        assert max(seen) == most
        torch.testing.assert_close(features, encoder(photos), rtol=1e-4, atol=1e-4)

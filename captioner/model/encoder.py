"""The encoder: photos to features, by a network without its classifier.

Letters: B images, S pixels of a photo's side, F feature size, R grid regions.

The networks come from `captioner.model.backbones`: each is traced once into a graph (torch.fx) and
cut after its last feature map.
"""

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from captioner.errors import UsageError, suggestion
from captioner.model.backbones.cut import Preprocessing
from captioner.model.backbones.efficientnet_lite import LITE_NETWORKS, efficientnet_lite
from captioner.model.backbones.timm import timm_backbone, timm_parameters
from captioner.model.backbones.torchvision import torchvision_backbone, torchvision_parameters
from captioner.model.kernels.full_precision import whole_float32
from captioner.model.network.network import Network

PIXELS_AT_ONCE = 2**17
"""Pixels that a CPU encodes at once: 2 photos of 224 x 224. Their feature maps then stay below the
32 MiB up to which glibc's allocator keeps memory for the next one."""


class Encoder(nn.Module):
    """A CNN without its classifier; normalises photos itself.

    Args:
        trunk: normalised photos (B, 3, S, S) to feature maps (B, F, h, w) or tokens (B, 1 + R, F).
        feature_size: numbers in a feature vector, F.
        mean: mean of each colour channel that the weights expect, on the scale 0 to 1.
        std: standard deviation of each channel, likewise.
        grid: whether the features are a grid (B, R, F) rather than pooled (B, F).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: fx.GraphModule | Network,
        feature_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        grid: bool,
    ) -> None:
        super().__init__()
        self.trunk = trunk.to(memory_format=torch.channels_last)
        self.feature_size = feature_size
        self.grid = grid
        self.tf32 = False
        """Whether a GPU may round to TF32 outside of training too, which is faster; results then
        depend on the batch."""
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)
        self._frozen: list[nn.Module] = []
        self.freeze()

    def forward(self, photos: Tensor) -> Tensor:
        """Encode photos (B, 3, S, S), uint8 from 0 to 255, to features (B, F) or (B, R, F)."""
        x = (photos.to(self.mean.dtype) - self.mean) / self.std
        with nullcontext() if self.training or self.tf32 else whole_float32():
            maps: Tensor = self.trunk(x.contiguous(memory_format=torch.channels_last))
        if maps.dim() == 3:  # tokens: the class token stands first
            return maps[:, 1:] if self.grid else maps[:, 0]
        return maps.flatten(2).transpose(1, 2) if self.grid else maps.mean((2, 3))

    def encode(self, photos: Tensor) -> Tensor:
        """Encode photos as `forward` does, on a CPU a few at a time.

        The feature maps of many photos are larger than what the memory allocator keeps, so the
        system clears fresh pages for each of them: 32 photos of 352 pixels at once took 2.6 times
        as long on one core, and 2.2 times on two. Last digits may differ from those of `forward`.
        """
        if photos.device.type != "cpu":
            return self(photos)
        at_once = max(1, PIXELS_AT_ONCE // photos.shape[-1] ** 2)
        return torch.cat([self(part) for part in photos.split(at_once)])

    def freeze(self) -> None:
        """Freeze all weights; batch norm uses its stored statistics."""
        self.requires_grad_(False)
        self._frozen = list(self.trunk.modules())
        self.eval()

    def train_from(self, block: str) -> list[nn.Parameter]:
        """Make the weights from `block` (layer4, features.14, …, or `all`) to the end trainable.

        Returns:
            The weights that will change.

        Raises:
            UsageError: no block of that name.
        """
        self.freeze()
        layers = self._layers()
        names = [name for name, _ in layers]
        first = 0
        if block != "all":
            inside = [i for i, n in enumerate(names) if n == block or n.startswith(block + ".")]
            if not inside:
                blocks = sorted({p for n in names for p in prefixes(n)})
                raise UsageError(
                    f"encoder.train_from: no block {block!r} in this network; "
                    f"{suggestion(block, blocks)}"
                )
            first = inside[0]
        trained = [layer for _, layer in layers[first:]]
        self._frozen = [layer for _, layer in layers[:first]]
        weights = [weight for module in trained for weight in module.parameters()]
        for weight in weights:
            weight.requires_grad_(True)
        return weights

    def _layers(self) -> list[tuple[str, nn.Module]]:
        """Return the layers of the trunk by name, in the order of their use."""
        trunk = self.trunk
        if isinstance(trunk, Network):
            return list(zip(trunk.names, trunk.layers, strict=True))
        used = [str(node.target) for node in trunk.graph.nodes if node.op == "call_module"]
        return [(name, trunk.get_submodule(name)) for name in used]

    def train(self, mode: bool = True) -> "Encoder":
        """Set the mode like `nn.Module.train`, but keep frozen layers in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.train(False)
        return self

    def fold_batch_norm(self) -> None:
        """Merge each batch norm into the convolution before it: the same outputs, less work.

        Only for a frozen encoder: the statistics become constants. Measured on two CPU cores it is
        worth 15 % on ResNet-50 and 50 % on MobileNet.
        """
        if isinstance(self.trunk, Network):
            self.trunk.fold_batch_norm()
        else:
            fold_batch_norm(self.trunk)

    def fingerprint(self) -> str:
        """Return a digest of weights and normalisation; call it before batch norm is folded."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.grid, self.mean.tolist(), self.std.tolist())).encode())
        for name, tensor in sorted(self.trunk.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def fold_batch_norm(trunk: fx.GraphModule) -> None:
    """Merge, in place, each batch norm of a traced network into the convolution before it."""
    modules = dict(trunk.named_modules())
    for node in list(trunk.graph.nodes):
        norm = modules.get(str(node.target))
        if node.op != "call_module" or not isinstance(norm, nn.BatchNorm2d):
            continue
        source = node.args[0]
        conv = modules.get(str(source.target)) if source.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d) or len(source.users) > 1:
            continue
        parent, _, name = str(source.target).rpartition(".")
        fused = fuse_conv_bn_eval(conv.eval(), norm.eval()).requires_grad_(False)
        setattr(trunk.get_submodule(parent), name, fused)
        node.replace_all_uses_with(source)
        trunk.graph.erase_node(node)
    trunk.delete_all_unused_submodules()
    trunk.recompile()


def pretrained_encoder(
    name: str, weights: str, *, grid: bool, size: int | None = None
) -> tuple[Encoder, Preprocessing]:
    """Build the network `name` with `weights`, cut after its last feature map.

    Args:
        name: A classification network of torchvision (resnet50, mobilenet_v2, …), one of timm
            (timm:resnet18), or efficientnet_lite0, 1 or 2.
        weights: `none` for random weights, the path of a state_dict, `DEFAULT` for what belongs to
            the network, or one of torchvision's names (IMAGENET1K_V1, …).
        grid: Features as a grid (B, R, F) instead of pooled (B, F).
        size: Pixels of a side of the photos it will see; those that the weights were made for if
            None. TensorFlow's padding depends on it.

    Returns:
        The frozen encoder, batch norm not folded, and the preprocessing that belongs to it.

    Raises:
        UsageError: Unknown network or weight name, or a file that does not fit the network.
        CaptionerError: The weights are not available.
    """
    if name in LITE_NETWORKS:
        backbone = efficientnet_lite(name, weights, size=size)
    elif name.startswith("timm:"):
        backbone = timm_backbone(name.removeprefix("timm:"), weights, size=size)
    else:
        backbone = torchvision_backbone(name, weights)
    preset = backbone.preprocessing
    encoder = Encoder(backbone.trunk, backbone.feature_size, preset.mean, preset.std, grid=grid)
    return encoder, preset


def parameters_of(name: str) -> int:
    """Estimate the weights of a network before it is built; 0 if unknown or negligible."""
    if name in LITE_NETWORKS:
        return 0
    if name.startswith("timm:"):
        return timm_parameters(name.removeprefix("timm:"))
    return torchvision_parameters(name)


def torchvision_encoder(name: str, weights: str, *, grid: bool) -> tuple[Encoder, Preprocessing]:
    """Build a torchvision encoder at its own photo size; see `pretrained_encoder`."""
    return pretrained_encoder(name, weights, grid=grid)


def prefixes(name: str) -> list[str]:
    """Split `a.b.c` into `a`, `a.b`, `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]

"""The encoder: photos to features, by any torchvision classification network.

Letters: B images, S pixels of a photo's side, F feature size, R grid regions.

The network is traced once into a graph (torch.fx) and cut after its last feature map, which is the
last tensor outside the classifier that still has places in it: (B, F, h, w), or the tokens
(B, 1 + R, F) of a vision transformer. That rule, unlike a table of layer names, holds for every
classification network of torchvision.
"""

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from captioner.errors import UsageError, suggestion
from captioner.files.tensors import read_tensors
from captioner.model.kernels.full_precision import whole_float32
from captioner.model.network.network import Network
from captioner.model.state_dict import downloaded, fault_of, tensors_of, without_prefix

HEADS = ("classifier", "fc", "head", "heads", "aux", "aux1", "aux2", "AuxLogits")
"""What torchvision calls the part of a network that turns features into classes."""


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
        """Whether a GPU may round to TF32 outside of training too: faster, and by the batch."""
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255, persistent=False)
        self._frozen: list[nn.Module] = []
        self.freeze()

    def forward(self, photos: Tensor) -> Tensor:
        """Photos (B, 3, S, S), uint8 from 0 to 255, to features (B, F) or (B, R, F)."""
        x = (photos.to(self.mean.dtype) - self.mean) / self.std
        with nullcontext() if self.training or self.tf32 else whole_float32():
            maps: Tensor = self.trunk(x.contiguous(memory_format=torch.channels_last))
        if maps.dim() == 3:  # tokens: the class token stands first
            return maps[:, 1:] if self.grid else maps[:, 0]
        return maps.flatten(2).transpose(1, 2) if self.grid else maps.mean((2, 3))

    def freeze(self) -> None:
        """Keep all weights as they are; batch norm uses its stored statistics."""
        self.requires_grad_(False)
        self._frozen = list(self.trunk.modules())
        self.eval()

    def train_from(self, block: str) -> list[nn.Parameter]:
        """Let the weights from `block` (layer4, features.14, …, or `all`) to the end be trained.

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
        """The layers of the trunk by name, in the order in which they are used."""
        trunk = self.trunk
        if isinstance(trunk, Network):
            return list(zip(trunk.names, trunk.layers, strict=True))
        used = [str(node.target) for node in trunk.graph.nodes if node.op == "call_module"]
        return [(name, trunk.get_submodule(name)) for name in used]

    def train(self, mode: bool = True) -> "Encoder":
        """As `nn.Module.train`, but what is frozen stays in evaluation mode."""
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
        """Digest of the weights and the normalisation; taken before batch norm is folded."""
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


@dataclass(frozen=True)
class Preprocessing:
    """What a set of weights expects of a photo.

    Attributes:
        size: pixels of the square's side.
        resize: pixels of the short side before the centre is cropped.
        interpolation: "bilinear" or "bicubic".
        mean: mean of each colour channel, on the scale 0 to 1.
        std: standard deviation of each channel.
    """

    size: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def torchvision_encoder(name: str, weights: str, *, grid: bool) -> tuple[Encoder, Preprocessing]:
    """The torchvision network `name` with `weights`, cut after its last feature map.

    Args:
        name: a classification network: resnet50, mobilenet_v2, …
        weights: one of torchvision's weight names for it (DEFAULT, IMAGENET1K_V1, …), the path of
            a state_dict, or `none` for random weights.
        grid: features as a grid (B, R, F) instead of pooled (B, F).

    Returns:
        The frozen encoder, batch norm not folded, and the preprocessing that belongs to it.

    Raises:
        UsageError: unknown network or weight name, or a file that does not fit the network.
        CaptionerError: the weights could not be downloaded.
    """
    from torchvision import models  # late: it is the slowest import of all

    names = models.list_models(module=models)
    if name not in names:
        raise UsageError(
            f"encoder.name: torchvision has no classification network {name!r}; "
            f"{suggestion(name, names)}"
        )
    available = models.get_model_weights(name)
    # Weights from elsewhere were most likely trained with the classic preprocessing, which is that
    # of torchvision's first set of weights.
    first = "IMAGENET1K_V1"
    chosen = available[first if first in available.__members__ else "DEFAULT"]
    state: dict[str, Tensor] | None = None
    if weights in available.__members__:
        chosen = available[weights]
        state = downloaded(chosen, f"{weights} of {name}")
    elif weights != "none":
        state = read_state_dict(Path(weights), sorted(available.__members__))
    # Two old networks warn unless told that random weights are wanted.
    random = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    network = models.get_model(name, weights=None, **random).eval()
    if weights == "none":
        initialise_convolutions(network)
    preset = chosen.transforms()
    trunk, feature_size = cut(network, size=preset.crop_size[0])
    if state is not None:
        load_weights(trunk, state, f"{name} and {weights}")
    preprocessing = Preprocessing(
        size=preset.crop_size[0],
        resize=preset.resize_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
    return Encoder(trunk, feature_size, preset.mean, preset.std, grid=grid), preprocessing


def initialise_convolutions(network: nn.Module) -> None:
    """Random weights that keep the size of activations through ReLUs (He et al. 2015).

    Some old networks (AlexNet) leave torch's default, under which activations shrink by half at
    every layer and training from scratch does not start.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def cut(network: nn.Module, size: int) -> tuple[fx.GraphModule, int]:
    """A classification network traced and cut after its last feature map.

    Args:
        network: the network in evaluation mode.
        size: pixels of a side of the photos it was made for; places are counted at that size.

    Returns:
        The trunk, and the numbers in its feature vectors, F.
    """
    from torchvision.ops import stochastic_depth

    traced = fx.symbolic_trace(network)
    recorder = ShapeRecorder(traced)
    with torch.inference_mode():
        recorder.run(torch.zeros(1, 3, size, size))
    last = [
        node
        for node in traced.graph.nodes
        if node.op not in ("placeholder", "output")
        and str(node.target).split(".")[0] not in HEADS
        and has_places(recorder.shapes.get(node.name, ()))
    ][-1]
    graph = traced.graph
    for node in list(graph.nodes):
        if node.op == "output":
            node.args = (last,)
        elif node.op == "call_function" and node.target is stochastic_depth:
            node.replace_all_uses_with(node.args[0])  # traced in evaluation mode: the identity
    graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    shape = recorder.shapes[last.name]
    return traced, shape[1] if len(shape) == 4 else shape[2]


class ShapeRecorder(fx.Interpreter):
    """Runs a graph once and keeps the shape of every tensor in it."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> object:
        """Run one node and note the shape of what it gives."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n.name] = tuple(result.shape)
        return result


def has_places(shape: tuple[int, ...]) -> bool:
    """Whether a shape is of a feature map (B, F, h, w) or of tokens (B, R, F)."""
    if len(shape) == 4:
        return min(shape[2:]) > 1
    return len(shape) == 3 and shape[1] > 1


def read_state_dict(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """Tensors by name from a file that `torch.save` wrote.

    Raises:
        UsageError: no such file, or no state_dict in it; the message lists `names`, the weight
            names that would have been understood.
    """
    if not path.is_file():
        raise UsageError(
            f"encoder.weights: {path} is neither a file nor a weight name of this network; "
            f"choose one of {', '.join(names)}, none, or the path of a state_dict"
        )
    try:
        state = read_tensors(path)
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise UsageError(
            f"encoder.weights: {path} is not a file of tensors that torch.save wrote: "
            f"{fault_of(path)} ({type(error).__name__})"
        ) from error
    tensors = tensors_of(state)
    if tensors is None:
        raise UsageError(f"encoder.weights: {path} holds no state_dict (names and tensors)")
    return tensors


def load_weights(trunk: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Load the trunk's part of a whole network's state_dict.

    Raises:
        UsageError: a tensor is missing or of another shape.
    """
    wanted = trunk.state_dict()
    state = without_prefix(state, list(wanted))
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    if missing:
        raise UsageError(
            f"encoder.weights: {what} do not fit: {len(missing)} of {len(wanted)} tensors are "
            f"missing, the first {missing[0]}"
        )
    for key, tensor in wanted.items():
        if key in state and state[key].shape != tensor.shape:
            raise UsageError(
                f"encoder.weights: {what} do not fit: {key} is {tuple(state[key].shape)}, "
                f"the network has {tuple(tensor.shape)}"
            )
    trunk.load_state_dict({k: v for k, v in state.items() if k in wanted}, strict=False)


def prefixes(name: str) -> list[str]:
    """`a.b.c` to `a`, `a.b`, `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]

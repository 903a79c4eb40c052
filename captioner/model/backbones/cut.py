"""Trace a classification network and cut it after its last feature map.

Letters: B images, F feature size, R grid regions.

The last feature map is the last tensor outside the classifier that has spatial positions:
(B, F, h, w), or the tokens (B, 1 + R, F) of a vision transformer. Unlike a table of layer names,
this rule holds for every classification network of torchvision and timm that can be traced.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

HEADS = ("classifier", "fc", "head", "heads", "aux", "aux1", "aux2", "AuxLogits", "global_pool")
"""Names in torchvision and timm of the part of a network that turns features into classes."""


@dataclass(frozen=True)
class Preprocessing:
    """The photo preprocessing that a set of weights expects.

    Attributes:
        size: Side of the square in pixels.
        resize: Length in pixels of the short side before the centre is cropped.
        interpolation: "bilinear" or "bicubic".
        mean: Mean of each colour channel, on the scale 0 to 1.
        std: Standard deviation of each channel, on the same scale.
    """

    size: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Backbone:
    """A pretrained network without its classifier.

    Attributes:
        trunk: Maps normalised photos (B, 3, S, S) to feature maps (B, F, h, w) or tokens
            (B, 1 + R, F).
        feature_size: Size F of a feature vector.
        preprocessing: The preprocessing that the weights expect.
    """

    trunk: fx.GraphModule
    feature_size: int
    preprocessing: Preprocessing


def cut(
    network: nn.Module, size: int, tracer: fx.Tracer | None = None
) -> tuple[fx.GraphModule, int]:
    """Trace a classification network and cut it after its last feature map.

    Args:
        network: The network in evaluation mode.
        size: Photo side in pixels that the network was made for; positions are counted at it.
        tracer: Decides which layers are leaves of the graph; None keeps those of torch.nn.

    Returns:
        The trunk, and the size F of its feature vectors.
    """
    traced = fx.GraphModule(network, (tracer or fx.Tracer()).trace(network))
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
        elif (
            node.op == "call_function"
            and getattr(node.target, "__name__", "") == "stochastic_depth"
        ):
            node.replace_all_uses_with(node.args[0])  # the identity in evaluation mode
    graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    shape = recorder.shapes[last.name]
    return traced, shape[1] if len(shape) == 4 else shape[2]


class ShapeRecorder(fx.Interpreter):
    """Runs a graph once and records the shape of every tensor."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> object:
        """Run one node and record the shape of its output."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n.name] = tuple(result.shape)
        return result


def has_places(shape: tuple[int, ...]) -> bool:
    """Return whether a shape is a feature map (B, F, h, w) or tokens (B, R, F)."""
    if len(shape) == 4:
        return min(shape[2:]) > 1
    return len(shape) == 3 and shape[1] > 1


def initialise_convolutions(network: nn.Module) -> None:
    """Draw random weights that preserve the scale of activations through ReLUs (He et al. 2015).

    Some old networks (AlexNet) keep torch's default. Activations then halve at every layer, and
    training from scratch does not start.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

"""Encoders from timm (the extra `captioner[timm]`): any of its networks that torch.fx can trace.

Some of timm's own layers combine several torch layers. They are split before the network is traced,
so that a checkpoint can store the network as plain steps and be read without timm:

- `BatchNormAct2d` is a batch norm with an activation. As a subclass of batch norm it could be
  folded into a convolution, which would lose the activation.
- `Conv2dSame`, in the `tf_*` networks, pads by the size of its input, as TensorFlow does. The
  padding is fixed for the size that the encoder is built for.

A network with further layers of its own (most vision transformers) is stored by name. Reading such
a checkpoint needs timm, in a version that still builds the same network.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from captioner.errors import CaptionerError, UsageError, suggestion
from captioner.model.backbones.cut import Backbone, Preprocessing, cut
from captioner.model.backbones.weights import load_weights, read_state_dict


def timm_backbone(name: str, weights: str, size: int | None = None) -> Backbone:
    """Build the timm network `name` without its classifier.

    Args:
        name: timm's name, such as resnet18 or tf_efficientnet_lite0.in1k.
        weights: `DEFAULT` for those of timm's hub, the path of a state_dict, or `none`.
        size: Photo side in pixels; None uses the size of the weights.

    Raises:
        UsageError: timm is not installed or has no such network, the file does not fit, or the
            network cannot be traced.
        CaptionerError: The weights could not be downloaded.
    """
    try:
        import timm  # imported here, because it imports torchvision
    except ImportError as error:
        raise UsageError(
            f"encoder.name: timm:{name} needs timm; install it: pip install 'captioner[timm]'"
        ) from error
    if not timm.is_model(name):
        raise UsageError(
            f"encoder.name: timm has no network {name!r}; {suggestion(name, timm.list_models())}"
        )
    try:
        network: Any = timm.create_model(
            name, pretrained=weights == "DEFAULT", num_classes=0
        ).eval()
    except Exception as error:  # the hub's client raises many types for a failed download
        if weights != "DEFAULT":
            raise
        reason = " ".join(str(error).split())[:200]
        raise CaptionerError(
            f"encoder.weights: the weights of timm:{name} could not be downloaded ({reason}); "
            f"give the path of its state_dict instead: --encoder.weights PATH"
        ) from error
    if weights not in ("DEFAULT", "none"):
        state = read_state_dict(Path(weights), ["DEFAULT"])
        load_weights(network, state, f"timm:{name} and {weights}")
    preprocessing = _preprocessing(network.pretrained_cfg)
    side = size or preprocessing.size
    try:
        network = plain_layers(network.eval(), side)
        trunk, feature_size = cut(network, side, _Tracer())
    except Exception as error:  # data-dependent control flow, unsuitable sizes: many types
        reason = " ".join(str(error).split())[:150]
        raise UsageError(
            f"encoder.name: timm:{name} cannot be used at {side} pixels ({reason}); "
            f"choose a convolutional network, or another encoder.size"
        ) from error
    return Backbone(trunk, feature_size, preprocessing)


def timm_parameters(name: str) -> int:
    """Count the weights of a timm network without its classifier; return 0 if unknown.

    No memory is allocated for them.
    """
    try:
        import timm
    except ImportError:
        return 0
    if not timm.is_model(name):
        return 0
    with torch.device("meta"):
        network: Any = timm.create_model(name, pretrained=False, num_classes=0)
    return sum(weight.numel() for weight in network.parameters())


def plain_layers(network: nn.Module, side: int) -> nn.Module:
    """Replace timm's compound layers by sequences of torch layers, for one photo size.

    Args:
        network: Network in evaluation mode; it is modified.
        side: Photo side in pixels.
    """
    sizes = _sizes_at_convolutions(network, side)
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            if type(layer).__name__ in ("BatchNormAct2d", "BatchNormAct2dSame"):
                setattr(parent, name, _norm_and_activation(layer))
            elif type(layer).__name__ == "Conv2dSame":
                setattr(parent, name, _padded_convolution(layer, sizes[layer]))
    return network


class _Tracer(fx.Tracer):
    """Traces layers that timm marks as untraceable as single nodes."""

    def __init__(self) -> None:
        from timm.models import _features_fx

        functions = tuple(_features_fx.get_notrace_functions())
        super().__init__(autowrap_functions=functions)
        self._whole = tuple(_features_fx.get_notrace_modules())

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self._whole) or super().is_leaf_module(m, module_qualified_name)


def _sizes_at_convolutions(network: nn.Module, side: int) -> dict[nn.Module, tuple[int, int]]:
    """Return the input height and width of each convolution."""
    sizes: dict[nn.Module, tuple[int, int]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        height, width = inputs[0].shape[2:]
        sizes[layer] = (height, width)

    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_pre_hook(note) for layer in convolutions]
    with torch.inference_mode():
        network(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    return sizes


def _norm_and_activation(layer: Any) -> nn.Module:
    norm = nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum)
    norm.load_state_dict(
        {k: v for k, v in layer.state_dict().items() if k in norm.state_dict()}, strict=True
    )
    parts = nn.Sequential(norm.eval())
    if not isinstance(layer.act, nn.Identity):
        parts.append(layer.act)
    return parts


def _padded_convolution(layer: Any, size: tuple[int, int]) -> nn.Module:
    plain = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        0,
        layer.dilation,
        layer.groups,
        layer.bias is not None,
    )
    plain.load_state_dict(layer.state_dict())
    before_after: list[int] = []
    for axis in (1, 0):  # nn.ZeroPad2d: left, right, top, bottom
        pixels, stride = size[axis], layer.stride[axis]
        reach = (layer.kernel_size[axis] - 1) * layer.dilation[axis] + 1
        total = max(0, (math.ceil(pixels / stride) - 1) * stride + reach - pixels)
        before_after += [total // 2, total - total // 2]
    return nn.Sequential(nn.ZeroPad2d(tuple(before_after)), plain)  # type: ignore[arg-type]


def _preprocessing(config: dict[str, Any]) -> Preprocessing:
    size = int(config["input_size"][-1])
    interpolation = config.get("interpolation") or "bicubic"
    return Preprocessing(
        size=size,
        resize=math.floor(size / float(config.get("crop_pct") or 0.875)),
        interpolation=interpolation if interpolation in ("bilinear", "bicubic") else "bicubic",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )

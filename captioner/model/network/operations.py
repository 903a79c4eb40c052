"""The closed tables of all operations and layer kinds that a description may name.

To add one, list the Python callable and its shape rule. Text from a file is only used as a key of
these tables.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.network import elementwise, places, windows


@dataclass(frozen=True)
class Operation:
    """A function of tensors.

    Attributes:
        run: The function.
        rule: Its shape rule, which takes the same arguments.
        written: Other functions of a traced network that this one stands for.
    """

    run: Callable[..., Any]
    rule: Callable[..., Any]
    written: tuple[Callable[..., Any], ...] = ()


@dataclass(frozen=True)
class LayerKind:
    """A kind of layer, which may have weights.

    Attributes:
        build: Its class.
        rule: Its shape rule, which takes the settings as keywords.
        settings: Settings that rebuild it; always stored.
        others: Settings that are stored only if they differ from these values.
        only: Settings that are never stored, with their required values.
    """

    build: type[nn.Module]
    rule: Callable[..., Any]
    settings: tuple[str, ...] = ()
    others: Mapping[str, Any] = field(default_factory=dict)
    only: Mapping[str, Any] = field(default_factory=dict)


FUNCTIONS: dict[str, Operation] = {
    "add": Operation(operator.add, elementwise.arithmetic(operator.add), (torch.add,)),
    "sub": Operation(operator.sub, elementwise.arithmetic(operator.sub), (torch.sub,)),
    "mul": Operation(operator.mul, elementwise.arithmetic(operator.mul), (torch.mul,)),
    "floordiv": Operation(operator.floordiv, elementwise.floor_divide),
    "getitem": Operation(operator.getitem, places.get_item),
    "cat": Operation(torch.cat, places.concatenate, (torch.concat,)),
    "flatten": Operation(torch.flatten, places.flatten),
    "chunk": Operation(torch.chunk, places.chunk),
    "transpose": Operation(torch.transpose, places.transpose),
    "permute": Operation(torch.permute, places.permute),
    "unsqueeze": Operation(torch.unsqueeze, places.unsqueeze),
    "mean": Operation(torch.mean, places.mean),
    "pad": Operation(F.pad, places.pad),
    "sigmoid": Operation(torch.sigmoid, elementwise.elementwise, (F.sigmoid,)),
    "tanh": Operation(torch.tanh, elementwise.elementwise, (F.tanh,)),
    "relu": Operation(F.relu, elementwise.activation, (torch.relu,)),
    "relu6": Operation(F.relu6, elementwise.activation),
    "silu": Operation(F.silu, elementwise.activation),
    "mish": Operation(F.mish, elementwise.activation),
    "gelu": Operation(F.gelu, elementwise.gelu),
    "hardswish": Operation(F.hardswish, elementwise.activation),
    "hardsigmoid": Operation(F.hardsigmoid, elementwise.activation),
    "leaky_relu": Operation(F.leaky_relu, elementwise.slope),
    "dropout": Operation(F.dropout, elementwise.dropout),
    "layer_norm": Operation(F.layer_norm, elementwise.layer_norm),
    "avg_pool2d": Operation(F.avg_pool2d, windows.pool),
    "max_pool2d": Operation(F.max_pool2d, windows.max_pool),
    "adaptive_avg_pool2d": Operation(F.adaptive_avg_pool2d, windows.adaptive_pool),
    "adaptive_max_pool2d": Operation(F.adaptive_max_pool2d, windows.adaptive_pool),
}

METHODS: dict[str, Operation] = {
    "chunk": Operation(Tensor.chunk, places.chunk),
    "size": Operation(Tensor.size, places.size),
    # Equal values, even where a view is impossible.
    "view": Operation(Tensor.reshape, places.reshape),
    "reshape": Operation(Tensor.reshape, places.reshape),
    "permute": Operation(Tensor.permute, places.permute_method),
    "transpose": Operation(Tensor.transpose, places.transpose),
    "unsqueeze": Operation(Tensor.unsqueeze, places.unsqueeze),
    "contiguous": Operation(Tensor.contiguous, places.copied),
    "flatten": Operation(Tensor.flatten, places.flatten),
    "mean": Operation(Tensor.mean, places.mean),
    "sigmoid": Operation(Tensor.sigmoid, elementwise.elementwise),
    "relu": Operation(Tensor.relu, elementwise.elementwise),
}

_CONVOLUTION = (
    *("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"),
    "bias",
)
_MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_POOL = ("kernel_size", "stride", "padding", "ceil_mode")

LAYERS: dict[str, LayerKind] = {
    "Conv2d": LayerKind(
        nn.Conv2d, windows.convolution, _CONVOLUTION, only={"padding_mode": "zeros"}
    ),
    "BatchNorm2d": LayerKind(
        nn.BatchNorm2d,
        elementwise.batch_norm,
        ("num_features", "eps", "momentum"),
        only={"affine": True, "track_running_stats": True},
    ),
    "Linear": LayerKind(nn.Linear, elementwise.linear, ("in_features", "out_features", "bias")),
    "ReLU": LayerKind(nn.ReLU, elementwise.elementwise),
    "ReLU6": LayerKind(nn.ReLU6, elementwise.elementwise),
    "SiLU": LayerKind(nn.SiLU, elementwise.elementwise),
    "Mish": LayerKind(nn.Mish, elementwise.elementwise),
    "GELU": LayerKind(nn.GELU, elementwise.gelu, ("approximate",)),
    "LeakyReLU": LayerKind(nn.LeakyReLU, elementwise.slope, ("negative_slope",)),
    "Tanh": LayerKind(nn.Tanh, elementwise.elementwise),
    "Sigmoid": LayerKind(nn.Sigmoid, elementwise.elementwise),
    "Hardswish": LayerKind(nn.Hardswish, elementwise.elementwise),
    "Hardsigmoid": LayerKind(nn.Hardsigmoid, elementwise.elementwise),
    "Identity": LayerKind(nn.Identity, elementwise.same),
    "Dropout": LayerKind(nn.Dropout, elementwise.dropout_layer, ("p",)),
    "ZeroPad2d": LayerKind(nn.ZeroPad2d, places.zero_pad, ("padding",)),
    "MaxPool2d": LayerKind(
        nn.MaxPool2d, windows.max_pool, _MAX_POOL, only={"return_indices": False}
    ),
    "AvgPool2d": LayerKind(
        nn.AvgPool2d,
        windows.pool,
        _POOL,
        {"count_include_pad": True, "divisor_override": None},
    ),
    "AdaptiveAvgPool2d": LayerKind(nn.AdaptiveAvgPool2d, windows.adaptive_pool, ("output_size",)),
    "AdaptiveMaxPool2d": LayerKind(
        nn.AdaptiveMaxPool2d,
        windows.adaptive_pool,
        ("output_size",),
        only={"return_indices": False},
    ),
}

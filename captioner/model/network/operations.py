"""The closed tables: every operation and every kind of layer that a description may name.

To add one, write down the Python callable and its rule of shapes. A text of a file is a key of
these tables and nothing else.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.model.network import rules


@dataclass(frozen=True)
class Operation:
    """A function of tensors.

    Attributes:
        run: the function.
        rule: what it makes of shapes; takes the same arguments.
        written: other functions that a traced network may name for it.
    """

    run: Callable[..., Any]
    rule: Callable[..., Any]
    written: tuple[Callable[..., Any], ...] = ()


@dataclass(frozen=True)
class LayerKind:
    """A kind of layer, which may bring weights.

    Attributes:
        build: its class.
        rule: what it makes of a shape; takes the settings as keywords.
        settings: what rebuilds it; always written down.
        others: settings that are written down where they differ from these values.
        only: settings that no description holds, and the values that they must have.
    """

    build: type[nn.Module]
    rule: Callable[..., Any]
    settings: tuple[str, ...] = ()
    others: Mapping[str, Any] = field(default_factory=dict)
    only: Mapping[str, Any] = field(default_factory=dict)


FUNCTIONS: dict[str, Operation] = {
    "add": Operation(operator.add, rules.arithmetic(operator.add), (torch.add,)),
    "sub": Operation(operator.sub, rules.arithmetic(operator.sub), (torch.sub,)),
    "mul": Operation(operator.mul, rules.arithmetic(operator.mul), (torch.mul,)),
    "floordiv": Operation(operator.floordiv, rules.floor_divide),
    "getitem": Operation(operator.getitem, rules.get_item),
    "cat": Operation(torch.cat, rules.concatenate, (torch.concat,)),
    "flatten": Operation(torch.flatten, rules.flatten),
    "chunk": Operation(torch.chunk, rules.chunk),
    "transpose": Operation(torch.transpose, rules.transpose),
    "permute": Operation(torch.permute, rules.permute),
    "unsqueeze": Operation(torch.unsqueeze, rules.unsqueeze),
    "mean": Operation(torch.mean, rules.mean),
    "pad": Operation(F.pad, rules.pad),
    "sigmoid": Operation(torch.sigmoid, rules.elementwise, (F.sigmoid,)),
    "tanh": Operation(torch.tanh, rules.elementwise, (F.tanh,)),
    "relu": Operation(F.relu, rules.activation, (torch.relu,)),
    "relu6": Operation(F.relu6, rules.activation),
    "silu": Operation(F.silu, rules.activation),
    "mish": Operation(F.mish, rules.activation),
    "gelu": Operation(F.gelu, rules.gelu),
    "hardswish": Operation(F.hardswish, rules.activation),
    "hardsigmoid": Operation(F.hardsigmoid, rules.activation),
    "leaky_relu": Operation(F.leaky_relu, rules.slope),
    "dropout": Operation(F.dropout, rules.dropout),
    "layer_norm": Operation(F.layer_norm, rules.layer_norm),
    "avg_pool2d": Operation(F.avg_pool2d, rules.pool),
    "max_pool2d": Operation(F.max_pool2d, rules.max_pool),
    "adaptive_avg_pool2d": Operation(F.adaptive_avg_pool2d, rules.adaptive_pool),
    "adaptive_max_pool2d": Operation(F.adaptive_max_pool2d, rules.adaptive_pool),
}

METHODS: dict[str, Operation] = {
    "chunk": Operation(Tensor.chunk, rules.chunk),
    "size": Operation(Tensor.size, rules.size),
    # The same numbers, also where a view cannot be had.
    "view": Operation(Tensor.reshape, rules.reshape),
    "reshape": Operation(Tensor.reshape, rules.reshape),
    "permute": Operation(Tensor.permute, rules.permute_method),
    "transpose": Operation(Tensor.transpose, rules.transpose),
    "unsqueeze": Operation(Tensor.unsqueeze, rules.unsqueeze),
    "contiguous": Operation(Tensor.contiguous, rules.copied),
    "flatten": Operation(Tensor.flatten, rules.flatten),
    "mean": Operation(Tensor.mean, rules.mean),
    "sigmoid": Operation(Tensor.sigmoid, rules.elementwise),
    "relu": Operation(Tensor.relu, rules.elementwise),
}

_CONVOLUTION = (
    *("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"),
    "bias",
)
_MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_POOL = ("kernel_size", "stride", "padding", "ceil_mode")

LAYERS: dict[str, LayerKind] = {
    "Conv2d": LayerKind(nn.Conv2d, rules.convolution, _CONVOLUTION, only={"padding_mode": "zeros"}),
    "BatchNorm2d": LayerKind(
        nn.BatchNorm2d,
        rules.batch_norm,
        ("num_features", "eps", "momentum"),
        only={"affine": True, "track_running_stats": True},
    ),
    "Linear": LayerKind(nn.Linear, rules.linear, ("in_features", "out_features", "bias")),
    "ReLU": LayerKind(nn.ReLU, rules.elementwise),
    "ReLU6": LayerKind(nn.ReLU6, rules.elementwise),
    "SiLU": LayerKind(nn.SiLU, rules.elementwise),
    "Mish": LayerKind(nn.Mish, rules.elementwise),
    "GELU": LayerKind(nn.GELU, rules.gelu, ("approximate",)),
    "LeakyReLU": LayerKind(nn.LeakyReLU, rules.slope, ("negative_slope",)),
    "Tanh": LayerKind(nn.Tanh, rules.elementwise),
    "Sigmoid": LayerKind(nn.Sigmoid, rules.elementwise),
    "Hardswish": LayerKind(nn.Hardswish, rules.elementwise),
    "Hardsigmoid": LayerKind(nn.Hardsigmoid, rules.elementwise),
    "Identity": LayerKind(nn.Identity, rules.same),
    "Dropout": LayerKind(nn.Dropout, rules.dropout_layer, ("p",)),
    "ZeroPad2d": LayerKind(nn.ZeroPad2d, rules.zero_pad, ("padding",)),
    "MaxPool2d": LayerKind(nn.MaxPool2d, rules.max_pool, _MAX_POOL, only={"return_indices": False}),
    "AvgPool2d": LayerKind(
        nn.AvgPool2d,
        rules.pool,
        _POOL,
        {"count_include_pad": True, "divisor_override": None},
    ),
    "AdaptiveAvgPool2d": LayerKind(nn.AdaptiveAvgPool2d, rules.adaptive_pool, ("output_size",)),
    "AdaptiveMaxPool2d": LayerKind(
        nn.AdaptiveMaxPool2d,
        rules.adaptive_pool,
        ("output_size",),
        only={"return_indices": False},
    ),
}

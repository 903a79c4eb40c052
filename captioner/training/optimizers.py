"""Optimisers and learning-rate schedules."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from lightning.pytorch.utilities.types import LRSchedulerConfigType
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR, LinearLR, ReduceLROnPlateau

Weights = Iterable[nn.Parameter] | Sequence[dict[str, Any]]


def build_optimizer(
    name: str,
    weights: Weights,
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    fused: bool = True,
) -> Optimizer:
    """Build an optimiser over weights or groups of weights.

    Args:
        name: "rmsprop" (Tieleman & Hinton 2012, the source text's choice), "adam" (Kingma & Ba
            2015), "adamw" (Loshchilov & Hutter 2019) or "sgd".
        weights: Weights or groups of weights to train.
        learning_rate: Learning rate of groups that do not set their own.
        weight_decay: Weight decay per step.
        momentum: Momentum of rmsprop and sgd.
        fused: Update all weights in one kernel where torch supports it; 1.16 times the training
            throughput on CPU. Not supported with 16-bit loss scaling.

    Raises:
        ValueError: The name is unknown.
    """
    common: dict[str, Any] = {"lr": learning_rate, "weight_decay": weight_decay}
    match name:
        case "rmsprop":
            return RMSprop(weights, **common, momentum=momentum)
        case "adam":
            return Adam(weights, **common, fused=fused)
        case "adamw":
            return AdamW(weights, **common, fused=fused)
        case "sgd":
            return SGD(weights, **common, momentum=momentum, fused=fused)
    raise ValueError(f"optimiser {name!r}: not one of rmsprop, adam, adamw, sgd")


def build_schedules(
    name: str,
    optimizer: Optimizer,
    *,
    steps: int,
    warmup_steps: int,
    monitor: str,
    higher_is_better: bool,
    plateau_factor: float,
    plateau_patience: int,
    validate_every: int = 1,
) -> list[LRSchedulerConfigType]:
    """Build the learning-rate schedule in Lightning's form.

    Args:
        name: "constant", "cosine" (Loshchilov & Hutter 2017, one period) or "plateau".
        optimizer: Optimiser whose learning rate is scheduled.
        steps: Optimiser steps of the whole run.
        warmup_steps: Steps of linear warm-up.
        monitor: Validation score in which a plateau is detected.
        higher_is_better: Whether a higher score is better.
        plateau_factor: Factor for the learning rate on a plateau.
        plateau_patience: Validations without a better score before the rate is reduced.
        validate_every: Epochs between two validations.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if name != "cosine":
            return 1.0
        progress = (step - warmup_steps) / max(1, steps - warmup_steps)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))

    if name != "plateau":
        return [LRSchedulerConfigType(scheduler=LambdaLR(optimizer, factor), interval="step")]
    plateau = LRSchedulerConfigType(
        scheduler=ReduceLROnPlateau(
            optimizer,
            mode="max" if higher_is_better else "min",
            factor=plateau_factor,
            patience=plateau_patience,
        ),
        interval="epoch",
        frequency=validate_every,
        monitor=monitor,
    )
    if warmup_steps == 0:
        return [plateau]
    # LinearLR multiplies the current rate, so that it does not undo the plateau schedule.
    rise = LinearLR(optimizer, start_factor=1 / warmup_steps, total_iters=warmup_steps)
    return [LRSchedulerConfigType(scheduler=rise, interval="step"), plateau]

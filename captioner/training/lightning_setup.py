"""What a run asks of Lightning: silence, its own checkpoint files, no requeueing."""

import logging
import warnings
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only

from captioner.training.checkpoints import DurableCheckpointIO

HINTS = (
    ".*does not have many workers.*",
    ".*smaller than the logging interval.*",
    ".*exists and is not empty.*",
    ".*Checkpoint directory.*",
    ".*in eval mode at the start of training.*",  # the frozen encoder
    ".*isinstance.treespec, LeafSpec.*",
    ".*your dataloader is not resumable.*",  # its batches are
    ".*You have overridden `on_before_batch_transfer`.*",
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # the numbers are joined already
    ".*provided in this Trainer run: .*",  # callbacks of checkpoints of older versions
)
"""Warnings of Lightning that do not apply: the settings they speak of were chosen."""


def is_rank_zero() -> bool:
    """Whether this is the first, or the only, process of the run."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def quiet_lightning() -> None:
    """Silence hints that do not apply, and choose the precision of products on GPUs."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in HINTS:
        warnings.filterwarnings("ignore", message)
    torch.set_float32_matmul_precision("high")


def plugins() -> list[Any]:
    """How checkpoints reach the disk; under SLURM, `scripts/train_slurm.sh` queues the job again.

    Lightning would save in the middle of a step, under a name of its own.
    """
    slurm = [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
    return [DurableCheckpointIO(), *slurm]

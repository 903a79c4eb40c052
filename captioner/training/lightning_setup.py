"""Configure Lightning: no irrelevant warnings, our checkpoint files, no SLURM requeueing."""

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
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # the values are already reduced
    ".*provided in this Trainer run: .*",  # callbacks in checkpoints of older versions
)
"""Lightning warnings about settings that are chosen on purpose."""


def is_rank_zero() -> bool:
    """Return whether this is the first or the only process of the run."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def quiet_lightning() -> None:
    """Silence irrelevant warnings, and set the precision of matrix products on GPUs."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in HINTS:
        warnings.filterwarnings("ignore", message)
    torch.set_float32_matmul_precision("high")


def plugins() -> list[Any]:
    """Return the checkpoint plugin and, under SLURM, an environment that does not requeue jobs.

    Lightning's requeueing saves in the middle of a step, under its own file name.
    `scripts/train_slurm.sh` requeues the job instead.
    """
    slurm = [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
    return [DurableCheckpointIO(), *slurm]

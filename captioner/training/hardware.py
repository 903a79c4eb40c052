"""Check that this machine has the devices that a run requests, before any work is done."""

import os
import warnings
from dataclasses import asdict

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from captioner.config.hardware import check_names
from captioner.config.schema import TrainerConfig
from captioner.errors import UsageError

PROCESSES_A_CORE = 4
"""Maximum training processes per CPU core; on a CPU, each device is a process."""


def check_hardware(trainer: TrainerConfig) -> None:
    """Refuse devices that are not available, and settings that do not fit them.

    Raises:
        UsageError: The message names the setting and the available devices.
    """
    check_names(trainer)
    there = available_devices()
    wanted = {"gpu": "cuda"}.get(trainer.accelerator, trainer.accelerator)
    if trainer.accelerator == "gpu" and "cuda" not in there and "mps" in there:
        wanted = "mps"  # Lightning accepts either as a GPU
    shown = ", ".join(f"{kind} ({number})" for kind, number in there.items())
    if wanted not in (*there, "auto"):
        raise UsageError(
            f"trainer.accelerator: {trainer.accelerator} is not available here; available "
            f"devices: {shown}"
        )
    if wanted == "auto":
        wanted = next(kind for kind in ("tpu", "cuda", "mps", "cpu") if kind in there)
    number = there[wanted] * (PROCESSES_A_CORE if wanted == "cpu" else 1)
    if isinstance(trainer.devices, int) and trainer.devices > number:
        kind = f"processes on {there[wanted]} CPU cores" if wanted == "cpu" else f"{wanted} devices"
        raise UsageError(f"trainer.devices: {trainer.devices}; at most {number} {kind} here")
    flags = ("accelerator", "devices", "num_nodes", "strategy", "precision")
    values = asdict(trainer)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            L.Trainer(
                **{flag: values[flag] for flag in flags}, logger=False, enable_checkpointing=False
            )
    except (MisconfigurationException, ValueError, RuntimeError, ImportError) as error:
        given = ", ".join(f"{flag} {values[flag]}" for flag in flags)
        reason = " ".join(str(error).split())[:300]
        raise UsageError(f"trainer: {given} cannot be combined here: {reason}") from error


def available_devices() -> dict[str, int]:
    """Return the number of devices of each available kind; for `cpu`, the number of cores."""
    from lightning.pytorch.accelerators import XLAAccelerator

    found = {"cpu": os.cpu_count() or 1}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.device_count()
    if torch.backends.mps.is_available():
        found["mps"] = 1
    if XLAAccelerator.is_available():
        found["tpu"] = XLAAccelerator.auto_device_count()
    return found

"""The choice of the device on which the network runs."""

import torch

from captioner.errors import UsageError, suggestion

DEVICES = ("auto", "cpu", "gpu", "cuda", "mps")


def choose_device(name: str) -> torch.device:
    """Return a device by the name of a Lightning accelerator; `auto` prefers a GPU.

    Raises:
        UsageError: The name is unknown, or the device is not available.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    kind = name.split(":")[0]
    kind = "cuda" if kind == "gpu" else kind
    if kind not in available:
        raise UsageError(f"no device {name!r}; {suggestion(name, DEVICES)}")
    if not available[kind]:
        there = ", ".join(kind for kind, here in available.items() if here)
        raise UsageError(f"device {name!r} is not available here; available devices: {there}")
    return torch.device(name.replace("gpu", "cuda"))

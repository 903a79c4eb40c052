"""Where the network runs."""

import torch

from captioner.errors import UsageError, suggestion

DEVICES = ("auto", "cpu", "gpu", "cuda", "mps")


def choose_device(name: str) -> torch.device:
    """The device of a name as Lightning's accelerators are called; `auto` takes what is there.

    Raises:
        UsageError: An unknown name, or a device that this machine lacks.
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
        raise UsageError(f"device {name!r} is not to be had on this machine, which has {there}")
    return torch.device(name.replace("gpu", "cuda"))

"""Save and restore the states of all random generators as plain values for a checkpoint."""

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist


def random_states() -> dict[str, Any]:
    """Return this process's states of the Python, NumPy, torch and CUDA generators."""
    numbers = np.random.get_state()
    assert isinstance(numbers, tuple)
    name, keys, *rest = numbers
    return {
        "python": random.getstate(),
        "numpy": (str(name), [int(key) for key in keys], *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore(states: dict[str, Any]) -> None:
    """Restore the states that `random_states` returned."""
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    name, words, *rest = states["numpy"]
    np.random.set_state((name, np.array(words, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])


def of_all_processes() -> list[dict[str, Any]]:
    """Return the states of all processes, by rank; call this on every process."""
    if not (dist.is_available() and dist.is_initialized()):
        return [random_states()]
    everywhere: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everywhere, random_states())
    return everywhere


def seed_of_rank(seed: int, rank: int, step: int) -> int:
    """Return a seed for a process whose state is unknown; rank 0 at step 0 gets the run's seed."""
    return (seed + 1_000_003 * rank + 7_919 * step) % 2**63

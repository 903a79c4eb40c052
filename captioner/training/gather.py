"""Join the results of several processes; with one process, return them unchanged."""

from collections.abc import Sequence

import torch
import torch.distributed as dist

from captioner.datasets.records import ImageId
from captioner.errors import CaptionerError


def gather_rows(rows: Sequence[tuple[ImageId, str]]) -> dict[ImageId, str]:
    """Gather the captions of all processes, keyed and sorted by image id.

    Raises:
        CaptionerError: Two captions have the same image id.
    """
    everywhere = [list(rows)]
    if dist.is_available() and dist.is_initialized():
        everywhere = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(everywhere, list(rows))
    captions: dict[ImageId, str] = {}
    for image_id, caption in sorted(
        (row for part in everywhere for row in part), key=lambda row: (str(type(row[0])), row[0])
    ):
        if image_id in captions:
            raise CaptionerError(f"image id {image_id!r} occurs more than once; ids must be unique")
        captions[image_id] = caption
    return captions


def total(values: Sequence[float], device: torch.device) -> list[float]:
    """Sum each value over all processes, in float64 where the device supports it."""
    if not (dist.is_available() and dist.is_initialized()):
        return list(values)
    dtype = torch.float32 if device.type == "mps" else torch.float64
    summed = torch.tensor(values, dtype=dtype, device=device)
    dist.all_reduce(summed)
    result: list[float] = summed.tolist()
    return result

"""Captioners that come with the package; their names are valid wherever a checkpoint path is.

A model is a folder beside this file. `captioner.json` is the `captioner` entry of a checkpoint with
a model card. `decoder.safetensors` holds the decoder's weights: large matrices as int8 with one
scale per row, everything else in half precision, a quarter of the float32 size. The encoder's
weights come from a Python package (`captioner[pretrained]`) and are checked by digest.

To add a model, add a row to `PRETRAINED` and a folder written by `scripts/make_pretrained.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint.safetensors import CONTENTS
from captioner.errors import CaptionerError
from captioner.files.json_file import MAX_SMALL_BYTES, read_json
from captioner.model.backbones.efficientnet_lite import packaged_state

MODELS = Path(__file__).parent / "models"
"""Folder of the models."""

DECODER = "decoder.safetensors"

SCALE = ".scale"
"""Name suffix of a matrix's scales."""

LARGE = 2**16
"""Minimum size of a matrix, in numbers, to be stored as int8."""

LEVELS = 31
"""Largest absolute value of a stored number. It is as accurate as 127 (docs/models.md), and
archives compress the matrices to 5.2 bits per weight."""


@dataclass(frozen=True)
class Pretrained:
    """A captioner that comes with the package.

    Attributes:
        name: Name that replaces a path.
        encoder: Network whose weights are in another package.
    """

    name: str
    encoder: str

    @property
    def files(self) -> list[Path]:
        """Description and decoder weights."""
        return [MODELS / self.name / CONTENTS, MODELS / self.name / DECODER]

    def read(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return a checkpoint's `captioner` entry, and all weights by name.

        Raises:
            CaptionerError: The encoder's package is not installed, or a file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        contents, decoder = self.files
        try:
            described = read_json(contents, MAX_SMALL_BYTES)
            if not isinstance(described, dict):
                raise ValueError(f"{contents} must hold an object")
            weights = dequantised(load_file(decoder))
        except (CaptionerError, SafetensorError, OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise CaptionerError(f"{self.name}: damaged ({reason}); reinstall captioner") from error
        try:
            encoder = packaged_state(self.encoder)
        except CaptionerError as error:
            raise CaptionerError(f"{self.name}: {error}") from error
        weights |= {f"encoder.trunk.{name}": tensor for name, tensor in encoder.items()}
        return described, weights


PRETRAINED = {
    "flickr8k": Pretrained("flickr8k", "efficientnet_lite2"),
}
"""All models by name."""


def find(path: Path) -> Pretrained | None:
    """Return the model named by a path, unless a checkpoint or export has that name."""
    if path.is_file() or (path / CONTENTS).is_file():
        return None
    return PRETRAINED.get(str(path))


def quantised(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert large matrices to int8 with a float32 scale per row, and others to half precision."""
    stored = {}
    for name, tensor in weights.items():
        tensor = tensor.float()
        if tensor.dim() == 2 and tensor.numel() >= LARGE:
            scale = tensor.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / LEVELS
            stored[name] = (tensor / scale).round().to(torch.int8)
            stored[name + SCALE] = scale
        else:
            stored[name] = tensor.half()
    return stored


def dequantised(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights as float32."""
    weights = {}
    for name, tensor in stored.items():
        if not name.endswith(SCALE):
            weights[name] = tensor.float()
            if tensor.dtype == torch.int8:
                # In place: a second copy of each matrix would add to the peak memory of loading.
                weights[name].mul_(stored[name + SCALE])
    return weights

"""Write and read a checkpoint as safetensors and JSON, which any program can read, without pickle.

The folder has two files. `weights.safetensors` holds the captioner's weights by name.
`captioner.json` is the `captioner` entry of a checkpoint: configuration, vocabulary, transform and
encoder description. The optimiser's state is omitted, so training cannot resume from an export.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from captioner.checkpoint.export_folder import write_folder
from captioner.errors import CaptionerError, UsageError
from captioner.files.json_file import MAX_SMALL_BYTES, read_json

WEIGHTS = "weights.safetensors"
CONTENTS = "captioner.json"


def write_export(folder: Path, contents: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write an export; the description comes last, so that a folder with one is complete.

    Raises:
        UsageError: The folder contains other files, or its parent does not exist.
        CaptionerError: The folder cannot be written, for example because the disk is full.
    """
    from safetensors.torch import save

    # Copy each tensor, because safetensors refuses shared memory of tied weights.
    tensors = {name: tensor.clone().contiguous() for name, tensor in weights.items()}
    description = json.dumps(dict(contents), ensure_ascii=False) + "\n"
    write_folder(folder, {WEIGHTS: save(tensors), CONTENTS: description})


def read_export(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the contents and the weights of an export.

    Raises:
        UsageError: The folder is not an export, or a file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for name in (CONTENTS, WEIGHTS):
        if not (folder / name).is_file():
            raise UsageError(
                f"{folder}: has no {name}; name a checkpoint file, or a folder written by "
                "`captioner export`"
            )
    try:
        contents = read_json(folder / CONTENTS, MAX_SMALL_BYTES)
        weights = load_file(folder / WEIGHTS)
    except CaptionerError as error:
        raise UsageError(str(error)) from error
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UsageError(f"{folder / WEIGHTS}: damaged ({type(error).__name__})") from error
    if not isinstance(contents, dict):
        raise UsageError(f"{folder / CONTENTS}: must be an object, not a {type(contents).__name__}")
    return contents, weights

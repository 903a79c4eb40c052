"""A checkpoint as files that any program can read: safetensors and JSON, and no pickle at all.

A folder of two files: ``weights.safetensors``, the captioner's weights by name, and
``captioner.json``, the entry `captioner` of a checkpoint: configuration, vocabulary, transform and
the encoder's description. The optimiser's state is left behind: one cannot train on from it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from captioner.errors import CaptionerError, UsageError
from captioner.files.atomic import remove_drafts, write_whole
from captioner.files.json_file import MAX_SMALL_BYTES, read_json

WEIGHTS = "weights.safetensors"
CONTENTS = "captioner.json"


def write_export(folder: Path, contents: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Write a folder; the description comes last, so that a folder that has one is whole.

    Raises:
        UsageError: it is there and holds something else, or its own folder is not there.
        CaptionerError: it cannot be written, because the disk is full for example.
    """
    from safetensors.torch import save

    if not folder.parent.is_dir():
        raise UsageError(f"--output: no folder {folder.parent}")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output: {folder} is a file; name a folder")
    if folder.is_dir():
        for name in (WEIGHTS, CONTENTS):  # drafts of a killed export, of this version or before
            remove_drafts(folder / name)
            (folder / f"{name}.part").unlink(missing_ok=True)
        names = [path.name for path in folder.iterdir()]
        strange = [name for name in names if name not in (WEIGHTS, CONTENTS)]
        if strange:
            raise UsageError(f"--output: {folder} holds {strange[0]}; name an empty folder")
    folder.mkdir(exist_ok=True)
    (folder / CONTENTS).unlink(missing_ok=True)
    # Each tensor in memory of its own: tied ones would be refused.
    tensors = {name: tensor.clone().contiguous() for name, tensor in weights.items()}
    write_whole(folder / WEIGHTS, save(tensors))
    write_whole(folder / CONTENTS, json.dumps(dict(contents), ensure_ascii=False) + "\n")


def read_export(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The contents and the weights of a folder.

    Raises:
        UsageError: no export, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for name in (CONTENTS, WEIGHTS):
        if not (folder / name).is_file():
            raise UsageError(
                f"{folder}: a folder without {name}; `captioner export` writes one, and a "
                "checkpoint is a file"
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

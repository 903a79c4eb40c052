"""Read and write trained captioners as one file or one folder, and check untrusted ones.

`file` reads and writes checkpoints, `checks`, `plain` and `encoder_description` bound what a file
may ask for, `safetensors` exports weights and plain settings, `pretrained` finds the captioners
that come as packages. `onnx` and `pt2` export the networks as `graphs`, which run without this
package; `graph_folder` describes such a folder, and `onnx_file` checks an untrusted graph.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captioner.checkpoint.file import (
        Checkpoint,
        check_whole,
        contents,
        export,
        file_digest,
        load,
        read,
    )
    from captioner.checkpoint.pretrained import PRETRAINED

__all__ = [
    "PRETRAINED",
    "Checkpoint",
    "check_whole",
    "contents",
    "export",
    "file_digest",
    "load",
    "read",
]


def __getattr__(name: str) -> Any:
    """Import these names, and with them torch, on first use: exported graphs run without it."""
    if name in __all__:
        return getattr(importlib.import_module("captioner.checkpoint.file"), name)
    raise AttributeError(f"module 'captioner.checkpoint' has no attribute {name!r}")

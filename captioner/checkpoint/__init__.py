"""Read and write trained captioners as one file or one folder, and check untrusted ones.

`file` reads and writes checkpoints, `checks` and `encoder_description` bound what a file may ask
for, `safetensors` exports weights and plain settings, `pretrained` finds the captioners that come
as packages.
"""

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

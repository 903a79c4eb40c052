"""A trained captioner as one file or one folder, and the checks that untrusted ones must pass."""

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

"""Export a captioner as programs of `torch.export`, which `torch.export.load` reads.

`graphs` makes them, `graph_folder` describes them. They need torch, but neither this package nor
the Python code of the networks; AOTInductor compiles them ahead of time. Loading a `.pt2` from a
stranger is as safe as torch makes it; this package never loads one.
"""

import io
from pathlib import Path

import torch

from captioner.checkpoint.export_folder import check_export_folder, write_folder
from captioner.checkpoint.file import Checkpoint
from captioner.checkpoint.graph_folder import DESCRIPTION, GRAPHS, description_text
from captioner.checkpoint.graphs import folder_of, graphs


def write_pt2(trained: Checkpoint, folder: Path) -> None:
    """Write the graphs and their description.

    Args:
        trained: The captioner.
        folder: A new or empty folder.

    Raises:
        UsageError: The folder contains other files.
        CaptionerError: A network cannot be exported.
    """
    check_export_folder(folder, (*(f"{name}.pt2" for name in GRAPHS), DESCRIPTION))
    files: dict[str, str | bytes] = {}
    signatures = {}
    for name, graph in graphs(trained):
        buffer = io.BytesIO()
        torch.export.save(graph.program, buffer)
        files[f"{name}.pt2"] = buffer.getvalue()
        signatures[name] = (graph.inputs, graph.outputs)
    details = {"torch": torch.__version__}
    files[DESCRIPTION] = description_text(folder_of(trained, folder, "pt2", signatures, details))
    write_folder(folder, files)

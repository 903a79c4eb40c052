"""One exported graph in onnxruntime: checked before it is loaded, bounded while it runs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captioner.checkpoint.graph_folder import GraphFolder
from captioner.checkpoint.onnx_file import read_onnx
from captioner.errors import CaptionerError

MAX_MEMORY = 2**31
"""Most bytes that the graphs of this process may hold at once, weights apart: 2 GiB."""


class OnnxGraph:
    """One graph of a folder, checked and loaded.

    Args:
        folder: The folder.
        name: One of `captioner.checkpoint.graph_folder.GRAPHS`.
        threads: Threads; None for `available_cores`.

    Raises:
        CaptionerError: onnxruntime is not installed, or the graph is damaged or refused.
    """

    def __init__(self, folder: GraphFolder, name: str, threads: int | None = None) -> None:
        runtime = _onnxruntime()
        self.path = folder.graph(name)
        content = read_onnx(self.path)
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # errors arrive as exceptions
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = threads or available_cores()
        try:
            self._session = runtime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a type for each status
            raise _damaged(self.path, error) from error
        inputs, outputs = folder.signatures[name]
        self._inputs = list(inputs)
        self._outputs = list(outputs)
        _check_names(self.path, self._inputs, self._session.get_inputs())
        _check_names(self.path, self._outputs, self._session.get_outputs())
        self._shapes = {key: shape for key, (_, shape) in outputs.items()}

    def run(self, tensors: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs for the inputs, both in the order of the description.

        Raises:
            CaptionerError: The graph fails on these inputs, or has outputs of another shape.
        """
        given = dict(zip(self._inputs, tensors, strict=True))
        try:
            found: list[np.ndarray] = self._session.run(self._outputs, given)
        except Exception as error:  # onnxruntime has a type for each status
            raise _damaged(self.path, error) from error
        beams = tensors[0].shape[:2]
        for name, tensor in zip(self._outputs, found, strict=True):
            wanted = self._shapes[name]
            right = tuple(
                beams[i] if isinstance(size, str) else size for i, size in enumerate(wanted)
            )
            if tensor.shape != right:
                raise CaptionerError(
                    f"{self.path}: damaged: {name} has shape {tensor.shape}, not {right}"
                )
        return found


def available_cores() -> int:
    """Return OMP_NUM_THREADS, as torch does, or the number of cores this process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):  # fewer than the machine's in a container or batch job
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _onnxruntime() -> Any:
    """Import onnxruntime, and bound the memory of its graphs in this process."""
    try:
        import onnxruntime
    except ImportError as error:
        raise CaptionerError(
            "--runtime onnx: needs the package onnxruntime; pip install 'captioner[onnx]'"
        ) from error
    global _bounded
    if not _bounded:
        memory = onnxruntime.OrtMemoryInfo(
            "Cpu",
            onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
            0,
            onnxruntime.OrtMemType.DEFAULT,
        )
        # Strategy 1 takes the memory that is asked for, not the next power of two.
        limits = {"max_mem": MAX_MEMORY, "arena_extend_strategy": 1}
        onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(limits))
        _bounded = True
    return onnxruntime


_bounded = False
"""Whether the allocator of this process is registered, which can be done once."""


def _damaged(path: Path, error: Exception) -> CaptionerError:
    if "smaller than requested" in str(error):
        gibibytes = MAX_MEMORY / 2**30
        return CaptionerError(
            f"{path}: the graph needs more than {gibibytes:g} GiB at once; reduce --batch-size or "
            "--beam-size"
        )
    reason = " ".join(str(error).split()).rpartition("] : ")[2][:200]
    return CaptionerError(f"{path}: damaged, or not supported by onnxruntime: {reason}")


def _check_names(path: Path, wanted: Sequence[str], found: Sequence[Any]) -> None:
    names = [one.name for one in found]
    if sorted(names) != sorted(wanted):
        raise CaptionerError(
            f"{path}: damaged: it has {', '.join(names)[:100]}, not {', '.join(wanted)}"
        )

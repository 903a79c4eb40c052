"""Results of a benchmark as JSON: rows, and the date, command, versions and processor they need.

python scripts/benchmark_onnx.py --json onnx.json
"""

import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("captioner", "torch", "torchvision", "onnxruntime", "numpy", "pillow")


def write_json(
    file: str | Path, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
) -> None:
    """Write the rows of a benchmark with everything that is needed to repeat it.

    Args:
        file: Output file.
        rows: One object per measurement; names carry their units.
        settings: Threads, sizes and rounds.
    """
    report = {
        "command": " ".join(["python", *sys.argv]),
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **versions()},
        "settings": dict(settings),
        "rows": [dict(row) for row in rows],
    }
    Path(file).write_text(json.dumps(report, indent=1) + "\n")


def versions() -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's model, with AMX where it has it."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    values: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        values.setdefault(name.strip(), value.strip())
    flags = values.get("flags", "").split()
    units = [name for name in ("avx2", "avx512f", "amx_tile") if name in flags]
    return f"{values.get('model name', platform.processor())} ({', '.join(units)})"

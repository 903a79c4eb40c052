"""Results of a benchmark as JSON: rows, and the date, command, versions and processor they need.

python scripts/benchmark_onnx.py --json onnx.json
"""

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGES = (
    "captioner",
    "torch",
    "torchvision",
    "onnxruntime",
    "transformers",
    "ray",
    "numpy",
    "pillow",
)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the flag `--json F` to a benchmark's command line."""
    parser.add_argument("--json", type=Path, metavar="F", help="also write the rows to F")


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
        "gpu": gpu(),
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


def gpu() -> str | None:
    """Return the GPU's name, where a benchmark that uses torch has one."""
    torch: Any = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None


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

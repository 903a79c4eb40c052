"""Compare `caption --runtime onnx` with torch: cold start, memory, photos per second, captions.

    python scripts/benchmark_onnx.py                       # exports the pretrained captioner
    python scripts/benchmark_onnx.py --export FOLDER --photos FOLDER --json onnx.json

Each row is the median of several processes. Cold: one photo in a fresh process. Photos per second
are those of a process with many photos, less the time of the cold one; "CPU" counts processor
seconds instead of wall-clock seconds, and so holds on a busy machine too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmark_json import add_json, write_json
from PIL import Image


class Run(NamedTuple):
    """What one process took.

    Attributes:
        seconds: Wall-clock seconds.
        cpu: Processor seconds, user and system.
        megabytes: Peak resident memory.
    """

    seconds: float
    cpu: float
    megabytes: float


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", default="flickr8k")
    parser.add_argument("--export", help="folder of exported graphs; default: export now")
    parser.add_argument("--photos", help="folder of photos; default: noise of 500 x 375 pixels")
    parser.add_argument("--count", type=int, default=64, help="photos for the rate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runtimes", nargs="+", default=["torch", "onnx"])
    add_json(parser)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        rows = measured(options, Path(temporary))
    if options.json:
        settings = {"threads": options.threads, "photos": options.count, "rounds": options.rounds}
        write_json(options.json, rows, settings)


def measured(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Measure and print one row per runtime, and compare their captions."""
    photos = sorted(Path(options.photos).glob("*.jpg")) if options.photos else noise(folder, 64)
    photos = photos[: options.count]
    exported = options.export
    if exported is None and "onnx" in options.runtimes:
        exported = str(folder / "onnx")
        command = ["export", "--checkpoint", options.checkpoint, "--format", "onnx"]
        run([*command, "--output", exported], None)
    sources = {
        "torch": ["--checkpoint", options.checkpoint],
        "onnx": ["--runtime", "onnx", "--checkpoint", str(exported)],
    }
    print(f"{len(photos)} photos, {options.threads} threads, {options.rounds} rounds, medians")
    print(
        f"{'':6} {'cold s':>7} {'CPU s':>7} {'MB':>6} {'photos/s':>9} {'per CPU s':>10} {'MB':>6}"
    )
    rows: list[dict[str, Any]] = []
    written: dict[str, Path] = {}
    for name in options.runtimes:
        written[name] = folder / f"{name}.jsonl"
        command = ["caption", *sources[name], "--format", "jsonl", "--quiet"]
        cold = medians(run([*command, str(photos[0])], None) for _ in range(options.rounds))
        many = medians(
            run([*command, *map(str, photos)], written[name]) for _ in range(options.rounds)
        )
        count = len(photos) - 1
        row = {
            "runtime": name,
            "cold_seconds": cold.seconds,
            "cold_cpu_seconds": cold.cpu,
            "cold_megabytes": cold.megabytes,
            "photos_per_second": count / (many.seconds - cold.seconds),
            "photos_per_cpu_second": count / (many.cpu - cold.cpu),
            "megabytes": many.megabytes,
        }
        rows.append(row)
        print(
            f"{name:6} {cold.seconds:7.2f} {cold.cpu:7.2f} {cold.megabytes:6.0f} "
            f"{row['photos_per_second']:9.1f} {row['photos_per_cpu_second']:10.1f} "
            f"{many.megabytes:6.0f}"
        )
    if len(written) == 2:
        rows.append(compared(*written.values()))
    return rows


def compared(one: Path, other: Path) -> dict[str, Any]:
    """Print and return how the captions and log-probabilities of two files differ."""
    ours, theirs = ([json.loads(line) for line in file.open()] for file in (one, other))
    pairs = list(zip(ours, theirs, strict=True))
    different = sum(a["caption"] != b["caption"] for a, b in pairs)
    furthest = max(
        (abs(a["log_prob"] - b["log_prob"]) for a, b in pairs if a["caption"] == b["caption"]),
        default=0.0,
    )
    print(
        f"{different} of {len(pairs):,} captions differ; log-probabilities differ by at most "
        f"{furthest:.1e}"
    )
    return {"photos": len(pairs), "different_captions": different, "log_prob_difference": furthest}


def run(arguments: Sequence[str], output: Path | None) -> Run:
    """Run `captioner` in a process of its own."""
    began = time.perf_counter()
    with (output or Path(os.devnull)).open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "captioner", *arguments], stdout=file)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"captioner {' '.join(arguments[:4])}: exit code {process.returncode}")
    seconds = time.perf_counter() - began
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit)


def medians(runs: Any) -> Run:
    """Return the medians of several runs."""
    return Run(*(statistics.median(values) for values in zip(*runs, strict=True)))


def noise(folder: Path, count: int) -> list[Path]:
    """Write photos of coloured noise, 500 x 375 pixels."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        small = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
        paths.append(folder / f"{number:03}.jpg")
        Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


if __name__ == "__main__":
    main()

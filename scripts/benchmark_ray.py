"""Overhead of `caption --engine ray` against one process with `--workers`, on the same cores.

    python scripts/benchmark_ray.py                    # 600 drawn photos, under 5 minutes
    python scripts/benchmark_ray.py --checkpoint P --photos 2000
    python scripts/benchmark_ray.py --memory 20000     # memory of command and networks

Both commands run as they are, start included; the second number leaves the start out, because a
cluster starts once. The ratio is photos per second with Ray over photos per second without. The
encoder's share is that of the time between an actor's first and last batch.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmark_json import add_json, write_json

from captioner.config.schema import DEFAULT_CHECKPOINT
from captioner.datasets.shapes import divide_scenes, paint


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT)
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--size", type=int, default=480, help="pixels of a drawn photo's side")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="memory over N photos")
    add_json(parser)
    options = parser.parse_args()
    # Ray lowers the priority of its workers, which would compare two priorities on a busy machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "photos")
        count = options.memory or options.photos
        draw(folder, count, 64 if options.memory else options.size)
        if options.memory:
            rows = memory(folder, Path(name, "out"), options.checkpoint)
        else:
            rows = compare(folder, Path(name), options.checkpoint, options.workers, count)
    if options.json:
        settings = {"photos": count, "size": options.size, "workers": options.workers}
        write_json(options.json, rows, settings)


def draw(folder: Path, count: int, size: int) -> None:
    """Draw photos; 50 of them are different, the others are links to those."""
    folder.mkdir()
    rng = random.Random(0)
    scenes = [scene for of_split in divide_scenes(rng).values() for scene in of_split]
    for i in range(count):
        path = folder / f"{i:06d}.jpg"
        if i < 50:
            paint(scenes[i], size, rng).save(path, quality=90)
        else:
            path.hardlink_to(folder / f"{i % 50:06d}.jpg")


def compare(
    folder: Path, place: Path, checkpoint: str, workers: int, count: int
) -> list[dict[str, Any]]:
    """Print photos per second with and without Ray, and return the rows."""
    own = ["caption", str(folder), "--checkpoint", checkpoint, "--format", "jsonl"]
    one = timed([*own, "--output", f"{place}/one/", "--workers", str(workers)])
    ray = timed([*own, "--output", f"{place}/ray/", "--engine", "ray"])
    assert records(place / "one") == records(place / "ray"), "the captions differ"
    cores = len(os.sched_getaffinity(0))
    print(f"{count:,} photos, {cores} cores, load {os.getloadavg()[0]:.1f} when it ended")
    print(f"{'':24}{'seconds':>10}{'photos/s':>10}{'without start':>15}{'encoder':>9}{'search':>8}")
    rows: list[dict[str, Any]] = []
    for name, told in ((f"--workers {workers}", one), ("--engine ray", ray)):
        rows.append(
            {
                "engine": name,
                "seconds": told["total"],
                "photos_per_second": count / told["total"],
                "photos_per_second_without_start": count / told["captioning"],
                "share_of_encoder": told["encoder"] / 100,
                "share_of_search": told["search"] / 100,
            }
        )
        print(
            f"{name:24}{told['total']:>10.1f}{count / told['total']:>10.1f}"
            f"{count / told['captioning']:>15.1f}{told['encoder']:>8.0f}%{told['search']:>7.0f}%"
        )
    print(
        f"ratio, with Ray over without: {one['total'] / ray['total']:.2f}; without the start: "
        f"{one['captioning'] / ray['captioning']:.2f}"
    )
    share = ray["encoder"] / (ray["encoder"] + ray["search"])
    print(
        f"networks of Ray: {ray['encoder'] + ray['search']:.0f} % of an actor's time is network "
        f"(encoder {share:.0%} of that)"
    )
    rows[-1]["times_one_process"] = one["total"] / ray["total"]
    rows[-1]["times_one_process_without_start"] = one["captioning"] / ray["captioning"]
    return rows


def timed(arguments: list[str]) -> dict[str, float]:
    """Run a command, and return what its last messages tell."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "captioner", *arguments], capture_output=True, text=True
    )
    total = time.perf_counter() - began
    told = re.search(
        r"photos in ([\d.]+) s(?:, ([\d.]+) s of them to start)?.*encoder (\d+)%, search (\d+)%",
        done.stderr.replace("\n", " "),
    )
    if told is None:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    seconds, start, encoder, search = (float(value or 0) for value in told.groups())
    shares = {"encoder": encoder, "search": search}
    return {"captioning": seconds - start, "total": total, **shares}


def records(folder: Path) -> dict[str, str]:
    """Return the captions of a folder by photo."""
    lines = (line for file in folder.glob("captions-*") for line in file.read_text().splitlines())
    return {one["image"]: one.get("caption", "") for one in map(json.loads, lines)}


def memory(folder: Path, output: Path, checkpoint: str) -> list[dict[str, Any]]:
    """Print and return the memory of the command and its networks while photos are captioned."""
    command = [sys.executable, "-m", "captioner", "caption", str(folder), "--checkpoint"]
    command += [checkpoint, "--engine", "ray", "--output", f"{output}/", "--shard-size", "1000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    told: list[str] = []
    reader = threading.Thread(target=lambda: told.extend(process.stderr or []), daemon=True)
    reader.start()
    print(f"{'photos':>8}{'command, MB':>13}{'networks, MB':>22}")
    rows: list[dict[str, Any]] = []
    last = -1
    while process.poll() is None:
        written = len(list(output.glob("captions-*")))
        if written != last and written % 2 == 0:
            last = written
            networks = [resident(pid) for pid, name in processes() if "(Captioner))" in name]
            command_now = resident(process.pid)
            rows.append(
                {
                    "photos": 1000 * written,
                    "command_megabytes": command_now,
                    "networks_megabytes": networks,
                }
            )
            of_networks = " ".join(f"{one:.0f}" for one in networks)
            print(f"{1000 * written:>8}{command_now:>13.0f}{of_networks:>22}")
        time.sleep(1)
    reader.join()
    print("".join(told[-3:]), end="")
    return rows


def processes() -> list[tuple[int, str]]:
    """Return id and name of each process, from /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            found.append((int(entry.name), name))
    return found


def resident(pid: int) -> float:
    """Return the anonymous memory of a process in MB; shared object memory does not count."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"RssAnon:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    main()

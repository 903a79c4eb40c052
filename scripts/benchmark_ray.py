"""Overhead of `caption --engine ray` against one machine with `--workers`, on the same cores.

    python scripts/benchmark_ray.py                            # 600 drawn photos, 3 rounds
    python scripts/benchmark_ray.py --folder photos --photos 600 --rounds 5 --json ray.json
    python scripts/benchmark_ray.py --memory 20000             # memory of command and networks

Both commands run as they are, in turn, start included; the second number leaves the start out,
because a cluster starts once. Medians count. The ratio is photos per second with Ray over photos
per second without. The encoder's share is that of the time between an actor's first and last batch.
"""

import argparse
import json
import os
import random
import re
import statistics
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

Row = dict[str, Any]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT)
    parser.add_argument("--folder", metavar="F", help="real photos, repeated; default: drawn ones")
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--size", type=int, default=480, help="pixels of a drawn photo's side")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="memory over N photos")
    add_json(parser)
    options = parser.parse_args()
    # Ray lowers the priority of its workers, which would compare two priorities on a busy machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "photos")
        count = options.memory or options.photos
        if options.folder:
            repeat(folder, count, Path(options.folder))
        else:
            draw(folder, count, 64 if options.memory else options.size)
        if options.memory:
            rows = memory(folder, Path(name, "out"), options.checkpoint)
        else:
            rows = compare(folder, Path(name), options)
    if options.json:
        settings = {name: value for name, value in vars(options).items() if name != "json"}
        settings["usable_cores"] = len(os.sched_getaffinity(0))
        write_json(options.json, rows, settings)


def repeat(folder: Path, count: int, photos: Path) -> None:
    """Fill a folder with links to photos, each as often as needed."""
    folder.mkdir()
    found = sorted(path.resolve() for path in photos.iterdir() if path.suffix in (".jpg", ".png"))
    if not found:
        raise SystemExit(f"--folder {photos}: no .jpg or .png in it")
    for i in range(count):
        path = found[i % len(found)]
        (folder / f"{i:06d}{path.suffix}").symlink_to(path)


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


def compare(folder: Path, place: Path, options: argparse.Namespace) -> list[Row]:
    """Print and return photos per second with and without Ray."""
    own = ["caption", str(folder), "--checkpoint", options.checkpoint, "--format", "jsonl"]
    commands = {
        f"--workers {options.workers}": ["--workers", str(options.workers)],
        "--engine ray": ["--engine", "ray"],
    }
    times: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for number in range(options.rounds):
        found = []
        for name, flags in commands.items():
            output = place / f"{number}{name.replace(' ', '')}"
            times[name].append(timed([*own, "--output", f"{output}/", *flags]))
            found.append(records(output))
        differing = sum(found[0][image] != found[1][image] for image in found[0])
        assert found[0].keys() == found[1].keys(), "the photos differ"
        assert differing <= options.photos // 100, f"{differing} captions differ"
    rows = [row_of(name, options.photos, each) for name, each in times.items()]
    cores = len(os.sched_getaffinity(0))
    print(
        f"{options.photos:,} photos, {cores} cores, medians of {options.rounds} rounds, load "
        f"{os.getloadavg()[0]:.1f} when they ended; {differing} captions differ in the last round"
    )
    print(f"{'':24}{'seconds':>10}{'photos/s':>10}{'without start':>15}{'encoder':>9}{'search':>8}")
    for row in rows:
        print(
            f"{row['engine']:24}{row['seconds']:>10.1f}{row['photos_per_second']:>10.1f}"
            f"{row['photos_per_second_without_start']:>15.1f}{row['share_of_encoder']:>9.0%}"
            f"{row['share_of_search']:>8.0%}"
        )
    one, ray = rows
    for name in ("", "_without_start"):
        speed = f"photos_per_second{name}"
        ray[f"times_one_process{name}"] = ray[speed] / one[speed]
    print(
        f"ratio, with Ray over without: {ray['times_one_process']:.2f}; without the start: "
        f"{ray['times_one_process_without_start']:.2f}"
    )
    rest = 1 - ray["share_of_encoder"] - ray["share_of_search"]
    print(
        f"an actor's time, from its first batch to its last: encoder {ray['share_of_encoder']:.0%},"
        f" search {ray['share_of_search']:.0%}, rest (waiting for photos, writing) {rest:.0%}"
    )
    return rows


def row_of(engine: str, photos: int, rounds: list[dict[str, float]]) -> Row:
    """Return the medians of the rounds of an engine."""
    median = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    return {
        "engine": engine,
        "seconds": median["total"],
        "photos_per_second": photos / median["total"],
        "photos_per_second_without_start": photos / median["captioning"],
        "share_of_encoder": median["encoder"] / 100,
        "share_of_search": median["search"] / 100,
    }


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


def memory(folder: Path, output: Path, checkpoint: str) -> list[Row]:
    """Print and return the memory of the command and its networks while photos are captioned."""
    command = [sys.executable, "-m", "captioner", "caption", str(folder), "--checkpoint"]
    command += [checkpoint, "--engine", "ray", "--output", f"{output}/", "--shard-size", "1000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    told: list[str] = []
    reader = threading.Thread(target=lambda: told.extend(process.stderr or []), daemon=True)
    reader.start()
    print(f"{'photos':>8}{'command, MB':>13}{'networks, MB':>22}")
    rows: list[Row] = []
    last = -1
    while process.poll() is None:
        written = len(list(output.glob("captions-*")))
        networks = [resident(pid) for pid, name in processes() if "(Captioner))" in name]
        if written != last and networks:
            last = written
            own = resident(process.pid)
            rows.append(
                {
                    "photos": 1000 * written,
                    "command_megabytes": own,
                    "networks_megabytes": networks,
                    "largest_network_megabytes": max(networks),
                }
            )
            each = " ".join(f"{one:.0f}" for one in networks)
            print(f"{1000 * written:>8}{own:>13.0f}{each:>22}", flush=True)
        time.sleep(0.2)
    reader.join()
    print("".join(told[-3:]), end="")
    half = rows[len(rows) // 2 :]
    for name in ("command", "largest_network") if len(half) > 1 else ():
        grown = half[-1][f"{name}_megabytes"] - half[0][f"{name}_megabytes"]
        print(f"{name.replace('_', ' ')}: {grown:+.0f} MB over the second half of the photos")
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

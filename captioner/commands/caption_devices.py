"""Distribute photos over the processes of several devices: `captioner caption --devices 0,1`."""

import multiprocessing
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from queue import Empty
from typing import Any

from captioner.console import Progress
from captioner.errors import CaptionerError, UsageError
from captioner.inference.shards import Manifest, Shard

Share = Callable[[Namespace, Manifest, int, int, Callable[[int, Shard], None]], int]
"""Captions one process's share of the files, reports each file, and returns the photo count."""


def caption_on_all(share: Share, options: Namespace, manifest: Manifest, devices: list[str]) -> int:
    """Caption with one process per device, and return the total number of photos.

    The processes report their files. Only this process writes the manifest.

    Args:
        share: Work of one process, as a function that the process can import.
        options: Parsed arguments; each process gets them with its own device.
        manifest: Manifest of the finished files.
        devices: Names of the devices.

    Raises:
        CaptionerError: See `follow`.
    """
    context = multiprocessing.get_context("spawn")
    told: Any = context.Queue()
    processes = []
    try:
        for rank, device in enumerate(devices):
            own = Namespace(**{**vars(options), "device": device})
            process = context.Process(
                target=_run_share, args=(share, own, manifest, rank, len(devices), told)
            )
            process.start()
            processes.append(process)
        return follow(manifest, processes, devices, told)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def follow(manifest: Manifest, processes: list[Any], devices: list[str], told: Any) -> int:
    """Record the files that the processes report until all end; return the number of photos.

    Raises:
        CaptionerError: A process was killed or reported an error.
        UsageError: A process reported a wrong call.
    """
    counts: dict[int, int] = {}
    done = sum(shard.count for shard in manifest.shards.values())
    with Progress("photos", done=done) as progress:
        while len(counts) < len(processes):
            dead = [i for i, one in enumerate(processes) if one.exitcode and i not in counts]
            try:
                kind, rank, content = told.get(timeout=0.2)
            except Empty:
                if dead:
                    raise CaptionerError(
                        f"the process of device {devices[dead[0]]} was killed (exit code "
                        f"{processes[dead[0]].exitcode}); rerun the same command to resume"
                    ) from None
                continue
            if kind == "shard":
                manifest.add(*content)
                progress.update(content[1].count)
            elif kind == "error":
                message, code = content
                raise (UsageError if code == 2 else CaptionerError)(message)
            else:
                counts[rank] = content
    if len(set(counts.values())) > 1:
        raise CaptionerError(
            f"{manifest.folder}: the devices found {sorted(set(counts.values()))} photos, so the "
            "inputs changed in between; rerun the same command to resume"
        )
    return counts[0]


def _run_share(
    share: Share, options: Namespace, manifest: Manifest, rank: int, ranks: int, told: Any
) -> None:
    """Run the share of one process."""
    from captioner.photos.readers import end_with_parent

    end_with_parent()
    try:
        tell = partial(_tell, told, rank)
        count = share(options, manifest, rank, ranks, tell)
        told.put(("end", rank, count))
    except CaptionerError as error:
        told.put(("error", rank, (str(error), error.exit_code)))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        told.put(("error", rank, (f"{where}{error.strerror or error}", 1)))


def _tell(told: Any, rank: int, index: int, shard: Shard) -> None:
    told.put(("shard", rank, (index, shard)))

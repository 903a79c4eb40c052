"""Photos to captions as a Ray dataset: decode in CPU tasks, caption in actors that hold a network.

The dataset streams: a bounded number of decoded photos wait for the actors, whatever their number.
Order is not promised; each row carries the id of its photo.
"""

import math
import os
import socket
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from captioner.cluster.connect import check_machines
from captioner.cluster.decode import decode, from_table, open_units
from captioner.cluster.ledger import LOST, Spent, carefully, start_ledger
from captioner.cluster.names import spelled
from captioner.cluster.photos import Columns
from captioner.cluster.resources import Plan, nodes_of_cluster, plan
from captioner.cluster.room import wait_for_room
from captioner.config.schema import DEFAULT_CHECKPOINT
from captioner.decoding.options import SampleOptions
from captioner.display import json_line
from captioner.errors import UsageError
from captioner.inference.strategy import Strategy
from captioner.inference.writers import record_of
from captioner.photos.address import Address, scheme_of

if TYPE_CHECKING:
    from captioner.inference.photo import Photo
    from captioner.inference.predictor import Predictor
    from captioner.inference.result import PhotoCaptions

CANDIDATE = pa.struct(
    [
        ("caption", pa.string()),
        ("log_prob", pa.float64()),
        ("score", pa.float64()),
        ("words", pa.list_(pa.string())),
        ("word_log_probs", pa.list_(pa.float64())),
    ]
)
"""One of several captions, as in JSON Lines."""

ATTENTION = pa.struct(
    [
        ("grid", pa.list_(pa.int64())),
        ("words", pa.list_(pa.string())),
        ("weights", pa.list_(pa.list_(pa.float64()))),
        ("sentinel", pa.list_(pa.float64())),
    ]
)
"""Attention of a caption, as in JSON Lines."""


@dataclass(frozen=True)
class Stored:
    """A checkpoint on its way to the actors: its files, or the name of a pretrained captioner.

    The files travel through Ray, so that only the machine of the command needs them.
    """

    name: str
    files: Mapping[str, bytes]

    @classmethod
    def of(cls, path: Path) -> "Stored":
        """Read a checkpoint.

        Raises:
            UsageError: There is none.
        """
        from captioner.checkpoint.file import files_of
        from captioner.checkpoint.pretrained import find

        if find(path) is not None:
            return cls(str(path), {})
        try:
            return cls(path.name, {one.name: one.read_bytes() for one in files_of(path)})
        except OSError as error:
            raise UsageError(f"{path}: no such checkpoint") from error

    def written(self, folder: Path) -> Path:
        """Write the files to a folder, and return the checkpoint's path."""
        if not self.files:
            return Path(self.name)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        return folder if len(self.files) > 1 else folder / next(iter(self.files))


@dataclass(frozen=True)
class Work:
    """What an actor does.

    Attributes:
        strategy: How captions are searched for and chosen.
        device: Where the network runs, by its name.
        plan: Share of a machine for each actor and task.
        batch_size: Photos per batch.
        candidates: Whether rows list all captions of a photo.
        as_records: Whether rows hold a line of JSON Lines instead of columns.
    """

    strategy: Strategy
    device: str
    plan: Plan
    batch_size: int
    candidates: bool
    as_records: bool


class Captioner:
    """An actor with a network.

    Args:
        work: What it does.
        stored: A list of one reference to the checkpoints, which stays a reference in a list.
        ledger: Handle of the ledger.
    """

    def __init__(self, work: Work, stored: list[Any], ledger: Any) -> None:
        ray.get(ledger.started.remote())
        import torch

        torch.set_num_threads(work.plan.threads)
        self.work = work
        self.ledger = ledger
        self.predictor = _predictor(work, ray.get(stored[0]))
        context = ray.get_runtime_context()
        self._name = f"{context.get_actor_id()}-{os.getpid()}"
        self._spent = Spent(node=socket.gethostname())
        self._began = perf_counter()
        self._first = True

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Caption photos that have been decoded."""
        if self._first:
            self._began, self._first = perf_counter(), False
        photos = _photos(batch)
        ids = batch["id"].to_pylist()
        found = carefully(
            self.ledger,
            "caption",
            ids,
            lambda places: list(self.predictor.caption_batch([photos[i] for i in places])),
            lambda place: _lost(photos[place]),
        )
        self._report(len(ids))
        records = [record_of(result, candidates=self.work.candidates) for result in found]
        return (record_table if self.work.as_records else column_table)(ids, records, self.work)

    def _report(self, count: int) -> None:
        spent, seconds = self._spent, self.predictor.seconds
        spent.photos += count
        spent.encoding, spent.searching = seconds.encoding, seconds.searching
        spent.total = perf_counter() - self._began
        self.ledger.spent.remote(self._name, spent)


def captions(
    dataset: "ray.data.Dataset",
    checkpoint: str | Path | Sequence[str | Path] = DEFAULT_CHECKPOINT,
    *,
    column: str | None = None,
    id_column: str | None = None,
    actors: int | None = None,
    batch_size: int = 32,
    device: str = "auto",
    backward: str | Path | None = None,
    strategy: Strategy | None = None,
    **options: Any,
) -> "ray.data.Dataset":
    """Caption the photos of a Ray dataset; the result is lazy and streams.

    Args:
        dataset: Rows with a column of file contents (as of `ray.data.read_binary_files`), paths or
            URIs.
        checkpoint: As in `Predictor.load`. Its files travel to the actors through Ray.
        column: Column of the photos; default: found by its name (`bytes`, `image`, `uri`, `path`).
        id_column: Column of ids; default: `path` or `uri`, if there is one.
        actors: Number of networks; default: one per GPU, or one per CPU where there is none.
        batch_size: Photos per batch.
        device: Device of the actors: auto, cpu, cuda.
        backward: A checkpoint that re-ranks what the others found.
        strategy: How captions are searched for and chosen.
        options: As in `Predictor.load` (``beam_size``, ``n_best``, …).

    Returns:
        Rows of `id`, `image`, `caption`, `log_prob` and `error`; also `candidates` where several
        captions were asked for and `attention` where the strategy has it.

    Raises:
        UsageError: A column or an option does not fit.
        CaptionerError: The cluster has too few CPUs or GPUs, others occupy them for more than 30 s,
            or a machine has other versions.
    """
    from captioner.inference.predictor import Predictor

    paths = [checkpoint] if isinstance(checkpoint, (str, Path)) else list(checkpoint)
    predictor = Predictor.load(paths, device="cpu", backward=backward, strategy=strategy, **options)
    if not ray.is_initialized():
        ray.init(include_dashboard=False)
    several = "n_best" in options or captions_of(predictor.strategy) > 1
    nodes = nodes_of_cluster()
    # The dataset has tasks of its own, which by Ray's default ask for a whole CPU each. They never
    # run where networks hold a share of every CPU, so networks take none in Ray's accounts.
    chosen = replace(plan(nodes, actors, device, flag="actors"), actor_cpus=0.0)
    check_machines(nodes)
    wait_for_room(replace(chosen, task_cpus=1.0))
    work = Work(
        strategy=predictor.strategy,
        device=device,
        plan=chosen,
        batch_size=batch_size,
        candidates=several,
        as_records=False,
    )
    columns = Columns(column, id_column)
    rows = _in_tasks(dataset, from_table, work, batch_size, columns=columns)
    return captioned(rows, work, predictor, put_checkpoints(paths, backward), start_ledger())


def captioned(
    rows: "ray.data.Dataset", work: Work, predictor: "Predictor", stored: list[Any], ledger: Any
) -> "ray.data.Dataset":
    """Decode and caption rows (`captioner.cluster.decode`)."""
    transforms = predictor.transforms
    pixels = _in_tasks(rows, decode, work, work.batch_size, transforms=transforms, ledger=ledger)
    return pixels.map_batches(
        Captioner,
        batch_format="pyarrow",
        batch_size=work.batch_size,
        fn_constructor_args=(work, stored, ledger),
        compute=ray.data.ActorPoolStrategy(size=work.plan.actors),
        num_cpus=work.plan.actor_cpus,
        num_gpus=work.plan.actor_gpus,
        ray_remote_args_fn=_Places.of(work.plan),
    )


class _Places:
    """Where networks start that take no CPU in Ray's accounts: in turn, where there are CPUs."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids
        self._next = 0

    @classmethod
    def of(cls, chosen: Plan) -> "_Places | None":
        """Return the places; None where Ray's accounts are enough to find them."""
        if chosen.actor_cpus or chosen.actor_gpus:
            return None
        nodes = nodes_of_cluster()
        return cls([node.id for node in nodes for _ in range(int(node.cpus // chosen.threads))])

    def __call__(self) -> dict[str, Any]:
        """Return Ray's arguments for the next network."""
        own = self._ids[self._next % len(self._ids)]
        self._next += 1
        # Soft: it may start elsewhere if that machine is lost.
        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(own, soft=True)}


def units_captioned(
    tables: Sequence[pa.Table],
    done: list[Any],
    work: Work,
    predictor: "Predictor",
    stored: list[Any],
    ledger: Any,
) -> "ray.data.Dataset":
    """Caption what units name (`captioner.cluster.photos`), except what is `done`."""
    found = ray.data.from_arrow(list(tables))
    rows = _in_tasks(found, open_units, work, None, size=work.batch_size, done=done)
    return captioned(rows, work, predictor, stored, ledger)


def _in_tasks(
    dataset: "ray.data.Dataset", do: Any, work: Work, batch_size: int | None, **arguments: Any
) -> "ray.data.Dataset":
    """Apply a function to batches in tasks that read and decode; Ray joins neighbours into one."""
    with warnings.catch_warnings():
        # `max_retries` moves to another place in Ray 2.64. Without it, Ray gives a task up after
        # three deaths, and so the whole run; the ledger limits how often a photo is tried.
        warnings.simplefilter("ignore", DeprecationWarning)
        return dataset.map_batches(
            do,
            batch_format="pyarrow",
            batch_size=batch_size,
            fn_kwargs=arguments,
            num_cpus=work.plan.task_cpus,
            compute=ray.data.TaskPoolStrategy(size=work.plan.tasks),
            max_retries=-1,
        )


def put_checkpoints(paths: Sequence[str | Path], backward: str | Path | None) -> list[Any]:
    """Put the files of all checkpoints into Ray's object store.

    Returns:
        A list of the reference. The dataset holds it, so the files are there as long as the dataset
        is, for networks that are restarted too.
    """
    stored = [Stored.of(Path(path)) for path in paths]
    return [ray.put((stored, None if backward is None else Stored.of(Path(backward))))]


def captions_of(strategy: Strategy) -> int:
    """Return how many captions a photo gets at most."""
    if strategy.rerank is not None:
        return strategy.rerank.n_best
    search = strategy.search
    return search.samples if isinstance(search, SampleOptions) else search.n_best


def _predictor(work: Work, stored: tuple[list[Stored], Stored | None]) -> "Predictor":
    from captioner.inference.predictor import Predictor

    members, backward = stored
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, str(i)) for i in range(len(members) + 1)]
        for folder in folders:
            folder.mkdir()
        paths = [one.written(folder) for one, folder in zip(members, folders, strict=False)]
        other = None if backward is None else backward.written(folders[-1])
        return Predictor.load(paths, device=work.device, backward=other, strategy=work.strategy)


def _photos(batch: pa.Table) -> list["Photo"]:
    """Return the rows of a decoded batch as photos for the predictor."""
    from captioner.inference.photo import Photo, key_number

    columns = [batch[name] for name in batch.schema.names if name.startswith("pixels")]
    known = batch.select(["image", "error", "width", "height"]).to_pylist()
    photos = []
    for place, row in enumerate(known):
        image = os.fsdecode(row["image"])
        path = Address(image) if scheme_of(image) else Path(image)
        if row["error"] is not None:
            photos.append(Photo(path, 0, row["error"]))
            continue
        pixels = tuple(_square(column[place].as_buffer()) for column in columns)
        photos.append(Photo(path, key_number(image), pixels, (row["width"], row["height"])))
    return photos


def _square(content: Any) -> np.ndarray:
    """Return the bytes of pixels as (3, S, S)."""
    values = np.frombuffer(content, np.uint8)
    side = math.isqrt(len(values) // 3)
    return values.reshape(3, side, side)


def _lost(photo: "Photo") -> "PhotoCaptions":
    from captioner.inference.result import PhotoCaptions

    return PhotoCaptions(photo.path, error=LOST)


# Rows of the result


def record_table(ids: Sequence[str], records: Sequence[dict[str, Any]], work: Work) -> pa.Table:
    """Return records as lines of JSON Lines, beside their ids."""
    lines = [json_line({"id": one} | record) for one, record in zip(ids, records, strict=True)]
    failed = ["error" in record for record in records]
    return pa.table({"id": pa.array(ids, pa.string()), "record": lines, "failed": failed})


def column_table(ids: Sequence[str], records: Sequence[dict[str, Any]], work: Work) -> pa.Table:
    """Return records as columns; see `captions`."""
    columns = {
        "id": pa.array(ids, pa.string()),
        "image": pa.array([spelled(one["image"]) for one in records], pa.string()),
        "caption": pa.array([one.get("caption") for one in records], pa.string()),
        "log_prob": pa.array([one.get("log_prob") for one in records], pa.float64()),
        "error": pa.array([one.get("error") for one in records], pa.string()),
    }
    attention = [pa.field("attention", ATTENTION)] if work.strategy.attention else []
    if work.candidates:
        several = pa.list_(pa.struct([*CANDIDATE, *attention]))
        columns["candidates"] = pa.array([one.get("candidates") for one in records], several)
    if attention:
        columns["attention"] = pa.array([one.get("attention") for one in records], ATTENTION)
    return pa.table(columns)

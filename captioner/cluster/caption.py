"""`captioner caption --engine ray`: list, connect, caption, write, and say what it took."""

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from captioner.cluster.connect import check_machines, connected, in_one_line, own_error
from captioner.cluster.names import NONE, Seen
from captioner.cluster.output import Folder, Output
from captioner.cluster.photos import PHOTO, Unit, tables
from captioner.cluster.resources import Plan, nodes_of_cluster, plan
from captioner.cluster.room import Watch, wait_for_room
from captioner.console import Progress, say, warn
from captioner.errors import CaptionerError

if TYPE_CHECKING:
    from captioner.inference.predictor import Predictor

STALLED = 120.0
"""Seconds without a sign of life from a worker after which a warning is shown."""

SEEN_PATHS = 3
"""Photos whose paths every machine must see."""


@dataclass(frozen=True)
class Task:
    """What the command asks for.

    Attributes:
        output: Folder or URI.
        form: `jsonl` or `parquet`.
        size: Rows per file.
        recipe: All that the captions depend on, as plain values.
        checkpoints: Paths of the checkpoints.
        backward: Path of the checkpoint that re-ranks.
        candidates: Whether records list all captions of a photo.
        batch_size: Photos per batch.
        device: Device of the networks.
        actors: Number of networks; None for as many as fit.
        address: Address of the cluster.
    """

    output: str
    form: str
    size: int
    recipe: Mapping[str, Any]
    checkpoints: list[str]
    backward: str | None
    candidates: bool
    batch_size: int
    device: str
    actors: int | None
    address: str | None


def caption_on_cluster(task: Task, predictor: "Predictor", found: Iterable[Unit]) -> Output:
    """Caption what a command names, and write it to a folder; see the module.

    Args:
        task: What is asked for.
        predictor: The captioner, as the actors will load it.
        found: The inputs.

    Raises:
        CaptionerError: The cluster, the inputs or the folder do not allow it.
    """
    folder = Folder(task.output)
    with folder.locked():
        output = Output(folder, task.recipe, task.form, task.size)
        with connected(task.address):
            nodes = nodes_of_cluster()
            chosen = plan(nodes, task.actors, task.device)
            if output.files:
                wait_for_room(chosen)  # to read the ids
            done = output.done() if output.files else NONE
            if len(done):
                say(f"{folder.name} already holds {len(done):,} photos")
            blocks, paths, total = _listed(found, Seen(done))
            if blocks:
                check_machines(nodes, paths)
                wait_for_room(chosen)
                if total is not None:
                    total += len(done)
                with _kept(output):
                    _run(task, predictor, chosen, blocks, done, output, total)
        output.save(complete=True)
    return output


def _listed(found: Iterable[Unit], seen: Seen) -> tuple[list[Any], list[str], int | None]:
    """Return the inputs as tables, some paths among them, and the number of photos if known."""
    paths: list[str] = []
    known = True

    def noted() -> Iterator[Unit]:
        nonlocal known
        for unit in found:
            known &= unit.kind == PHOTO
            local = "://" not in unit.place and unit.error is None
            if len(paths) < SEEN_PATHS and local:
                paths.append(unit.place)
            yield unit

    blocks = list(tables(noted(), seen))
    return blocks, _there(paths), sum(map(len, blocks)) if known else None


def _there(paths: list[str]) -> list[str]:
    """Return the paths that exist here; a missing one gets an error record from the reader."""
    import os

    return [path for path in paths if os.path.lexists(path)]


@contextmanager
def _kept(output: Output) -> Iterator[None]:
    """Write what is finished when the block ends early, and say how to resume."""
    try:
        yield
    except KeyboardInterrupt:
        output.flush()
        kept = f"{output.count:,} photos are saved in {output.folder.name}"
        raise KeyboardInterrupt(f"{kept}; rerun the same command to resume") from None
    except CaptionerError as error:
        output.flush()
        if not output.count:
            raise
        raise type(error)(
            f"{error}; {output.count:,} photos are saved, rerun the same command to resume"
        ) from error
    output.flush()


def _run(
    task: Task,
    predictor: "Predictor",
    chosen: Plan,
    blocks: list[Any],
    done: Any,
    output: Output,
    total: int | None,
) -> None:
    import ray

    from captioner.cluster.ledger import start_ledger
    from captioner.cluster.pipeline import Work, put_checkpoints, units_captioned

    began = time.perf_counter()
    work = Work(
        strategy=predictor.strategy,
        device=task.device,
        plan=chosen,
        batch_size=task.batch_size,
        candidates=task.candidates,
        as_records=task.form == "jsonl",
    )
    ledger = start_ledger()
    stored = put_checkpoints(task.checkpoints, task.backward)
    known = [ray.put(done)] if len(done) else []
    dataset = units_captioned(blocks, known, work, predictor, stored, ledger)
    blocks.clear()
    count = 0
    watch = Watch(chosen)
    with Progress("photos", total, done=len(done)) as progress:
        for rows in _streamed(dataset, ledger, watch):
            output.add(rows)
            count += rows.num_rows
            progress.update(rows.num_rows)
    _tell(ledger, watch, count, time.perf_counter() - began)


def _streamed(dataset: Any, ledger: Any, watch: Watch) -> Iterator[Any]:
    """Yield the rows of a dataset; raise where the cluster cannot make any more.

    The dataset is read by a thread, so that this one answers to Ctrl-C and watches the cluster.
    """
    rows: queue.Queue[Any] = queue.Queue(maxsize=8)
    ended = threading.Event()

    def put(item: Any) -> None:
        while not ended.is_set():
            try:
                rows.put(item, timeout=0.5)
                return
            except queue.Full:
                continue

    def read() -> None:
        try:
            for batch in dataset.iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=2
            ):
                put(batch)
                if ended.is_set():
                    return
            put(None)
        except BaseException as error:  # handed to the main thread
            put(error)

    threading.Thread(target=read, daemon=True).start()
    quiet = 0.0
    try:
        while True:
            watch.look()
            try:
                item = rows.get(timeout=1.0)
            except queue.Empty:
                quiet += 1.0
                if quiet >= STALLED:
                    account = watch.get(ledger.account.remote())
                    quiet = 0.0
                    if account.heard >= STALLED:
                        warn(
                            f"no photo for {STALLED:.0f} s: {len(nodes_of_cluster())} machines, "
                            f"{account.started} networks started; `ray status` shows what occupies "
                            "the cluster"
                        )
                continue
            quiet = 0.0
            if item is None:
                return
            if isinstance(item, BaseException):
                raise _explained(item)
            yield item
    finally:
        ended.set()


def _explained(error: BaseException) -> BaseException:
    """Return an error of a worker as one of ours, with its own message where it has one."""
    own = own_error(error)
    if own is not None:
        return own
    if isinstance(error, KeyboardInterrupt):
        return error
    return CaptionerError(f"Ray: {in_one_line(error)}")


def _tell(ledger: Any, watch: Watch, count: int, seconds: float) -> None:
    """Say what it took, as on one machine."""
    try:
        account = watch.get(ledger.account.remote())
    except CaptionerError as error:  # too late to matter: all captions have arrived
        say(f"{count:,} photos in {seconds:.1f} s; {error}")
        return
    actors = account.actors.values()
    total = sum(one.total for one in actors) or 1.0
    start = seconds - max((one.total for one in actors), default=0.0)
    encoding = sum(one.encoding for one in actors) / total
    searching = sum(one.searching for one in actors) / total
    machines = len({one.node for one in actors})
    say(
        f"{count:,} photos in {seconds:.1f} s, {start:.1f} s of them to start, by {len(actors)} "
        f"network{'' if len(actors) == 1 else 's'} on {machines} "
        f"machine{'' if machines == 1 else 's'}: encoder {encoding:.0%}, search "
        f"{searching:.0%}, waiting for photos and writing {1 - encoding - searching:.0%}"
    )
    if account.repeated:
        say(f"{account.repeated:,} batches were repeated after a process or machine was lost")

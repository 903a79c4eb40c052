"""Photos decoded ahead of the network, by threads or by processes.

Threads (decoding runs outside Python's lock) suit two or three cores; processes suit many, and keep
a decoder that crashes away from the captions. They import no torch.
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
"""Bytes of photos in memory (members of tars, images of a program) that wait for a decoder, 256
MiB; one more photo may come on top."""

READERS = 4
"""Threads that read photos ahead where no number of processes is given."""


@contextmanager
def readers(workers: int = 0) -> Iterator[Executor]:
    """What decodes: threads, or a number of processes; work that is left is dropped at the end.

    Raises:
        CaptionerError: A process ended early: it was killed, or the script that runs lacks a main
            guard, so that each new process would run the script again.
    """
    executor: Executor
    started: Event | None = None
    if workers == 0:
        executor = ThreadPoolExecutor(READERS)
    else:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            # A process of a pool that runs its parent's script instead of reading photos; the
            # parent says why. multiprocessing itself would print a traceback here.
            os._exit(1)
        # Spawned, not forked: a fork of a process with threads (torch's) may stand still.
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
    """Counts bytes that wait for decoders, from any thread."""

    def __init__(self) -> None:
        self.bytes = 0
        self._lock = threading.Lock()

    def add(self, number: int) -> None:
        """Count so many bytes more."""
        with self._lock:
            self.bytes += number

    def release(self, number: int, _reading: object = None) -> None:
        """Count so many bytes less, as the callback of the future that decodes them."""
        self.add(-number)


def _begin(started: Event) -> None:
    started.set()
    end_with_parent()


def end_with_parent() -> None:
    """In a new process: the keyboard's interrupt is the parent's affair, and so is its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    """A process would wait for ever for a parent that was killed."""
    parent.join()
    os._exit(1)

"""Photos decoded ahead of the network, by threads or by processes.

Threads (decoding runs outside Python's lock) suit two or three cores; processes suit many, and keep
a decoder that crashes away from the captions. They import no torch.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager

READERS = 4
"""Threads that read photos ahead where no number of processes is given."""


@contextmanager
def readers(workers: int = 0) -> Iterator[Executor]:
    """What decodes: threads, or a number of processes; work that is left is dropped at the end."""
    executor: Executor
    if workers == 0:
        executor = ThreadPoolExecutor(READERS)
    else:
        # Spawned, not forked: a fork of a process with threads (torch's) may stand still.
        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


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

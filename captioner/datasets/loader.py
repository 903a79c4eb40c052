"""A loader of batches in processes, whose deaths do not interrupt other work."""

import signal
from collections.abc import Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader

T_co = TypeVar("T_co", covariant=True)


class Loader(DataLoader[T_co]):
    """A loader that reports the death of one of its processes only when it waits for a batch.

    torch installs a handler of SIGCHLD that raises in the middle of whatever the main thread does
    at that moment: writing a file, or the message about the death of another process. Without the
    handler, the loader looks at its processes whenever a batch takes more than 5 seconds.

    Raises:
        RuntimeError: While it waits: a process has died ("DataLoader worker (pid(s) …) exited
            unexpectedly").
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch's own class is private
        before = signal.getsignal(signal.SIGCHLD)
        batches = super().__iter__()
        # None is a handler of another library, not of Python, which cannot be set again.
        if before is not None and signal.getsignal(signal.SIGCHLD) is not before:
            signal.signal(signal.SIGCHLD, before)
        return batches
